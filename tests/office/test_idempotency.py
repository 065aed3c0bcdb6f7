"""Each test is a point at which the process dies, an answer is lost, or two come at once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import pytest

from admin_api.idempotency import Key, Reply, Work, once, replied_once, replied_once_in_registry
from admin_api.office import Office
from admin_api.problem import Problem, conflict, unavailable
from admin_api.security.actor import Actor
from admin_api.security.auditing import audited
from ledger.journal.writer import JournalDown
from ledger.operator_desk import Undecided
from ledger.registry.registry import Conflict, Registry
from ledger.submission import Refusal
from tests.rigs.office_rig import EVERYTHING, OfficeRig

ANNA = Actor("user:1", "Anna", EVERYTHING, address="10.0.0.1")
BORIS = Actor("user:2", "Boris", EVERYTHING)
ASKED = {"points": 5}
Once = Callable[[Office, Actor, str, dict[str, int], Work], Awaitable[Reply]]
BOTH = pytest.mark.parametrize("replied", [replied_once, replied_once_in_registry])


@dataclass
class MovedClock:
    now: int
    monotonic: float = 0.0

    def now_ms(self) -> int:
        return self.now

    def monotonic_s(self) -> float:
        # Time passes as it is looked at, so that no test waits for long.
        self.monotonic += 0.5
        return self.monotonic


@pytest.fixture
def office(rig: OfficeRig) -> Office:
    return replace(rig.office, clock=MovedClock(rig.clock.now_ms()))


class Deed:
    """Work that counts how often it was done and does what it is told to."""

    def __init__(self, *endings: Reply | BaseException) -> None:
        self.endings = list(endings)
        self.ids: list[bytes] = []

    async def __call__(self, request_id: bytes) -> Reply:
        self.ids.append(request_id)
        ending = self.endings.pop(0) if len(self.endings) > 1 else self.endings[0]
        if isinstance(ending, BaseException):
            raise ending
        return ending


async def rows(rig: OfficeRig) -> int:
    async with rig.registry.reading() as transaction:
        return int(await transaction.fetchval("SELECT count(*) FROM office.idempotency"))


@BOTH
async def test_a_repetition_gets_the_same_answer_and_has_no_effect(office: Office, replied: Once) -> None:
    deed = Deed(Reply(201, {"id": 7, "secret": "shown once"}))
    first = await replied(office, ANNA, "k", ASKED, deed)
    again = await replied(office, ANNA, "k", ASKED, deed)
    assert (first.status, first.body, first.replayed) == (201, {"id": 7, "secret": "shown once"}, False)
    assert (again.status, again.body, again.replayed) == (201, first.body, True)
    assert len(deed.ids) == 1


@BOTH
async def test_the_same_key_of_somebody_else_is_another_key(office: Office, replied: Once) -> None:
    deed = Deed(Reply(200, {}))
    await replied(office, ANNA, "k", ASKED, deed)
    await replied(office, BORIS, "k", ASKED, deed)
    assert len(set(deed.ids)) == 2


@BOTH
@pytest.mark.parametrize("other", [("k", {"points": 6}), (Key("k", "POST /v1/elsewhere"), ASKED)])
async def test_the_same_key_for_something_else_is_refused(office: Office, replied: Once, other: Any) -> None:
    deed = Deed(Reply(200, {}))
    await replied(office, ANNA, "k", ASKED, deed)
    with pytest.raises(Problem) as caught:
        await replied(office, ANNA, *other, deed)
    assert (caught.value.status, caught.value.body["type"]) == (422, "/problems/idempotency-key-reused")
    assert len(deed.ids) == 1


@BOTH
@pytest.mark.parametrize(
    "no", [conflict("taken"), Conflict("taken"), Undecided(Refusal.BUSY, 10), Undecided(Refusal.EXPIRED, 10)]
)
async def test_what_had_no_effect_is_forgotten(rig: OfficeRig, office: Office, replied: Once, no: Exception) -> None:
    deed = Deed(no, Reply(200, {"done": True}))
    with pytest.raises(type(no)):
        await replied(office, ANNA, "k", ASKED, deed)
    assert await rows(rig) == 0
    assert (await replied(office, ANNA, "k", ASKED, deed)).body == {"done": True}


@pytest.mark.parametrize(
    "unknown",
    [Undecided(Refusal.UNAVAILABLE, 10), JournalDown("gone"), unavailable("gone"), RuntimeError("a bug")],
)
async def test_what_nobody_knows_is_done_again_at_once_with_the_same_id(office: Office, unknown: Exception) -> None:
    deed = Deed(unknown, Reply(200, {"done": True}))
    with pytest.raises(type(unknown)):
        await replied_once(office, ANNA, "k", ASKED, deed)
    with pytest.raises(Problem) as caught:
        await replied_once(office, ANNA, "k", {"points": 6}, deed)
    assert caught.value.status == 422, "a doubtful request is still that request"
    assert (await replied_once(office, ANNA, "k", ASKED, deed)).body == {"done": True}
    assert len(set(deed.ids)) == 1
    assert len(deed.ids) == 2


async def test_a_second_request_is_told_to_come_back_while_the_first_runs(office: Office) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_id: bytes) -> Reply:
        begun.set()
        await may_end.wait()
        return Reply(200, {"done": True})

    first = asyncio.create_task(replied_once(office, ANNA, "k", ASKED, slow))
    await begun.wait()
    with pytest.raises(Problem) as caught:
        await replied_once(office, ANNA, "k", ASKED, slow)
    assert (caught.value.status, caught.value.headers["retry-after"]) == (409, "1")
    may_end.set()
    assert (await first).body == {"done": True}


@BOTH
async def test_a_second_request_that_waits_gets_the_first_ones_answer(rig: OfficeRig, replied: Once) -> None:
    office = replace(rig.office, limits=replace(rig.limits, idempotency_wait_s=60.0))
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_id: bytes) -> Reply:
        begun.set()
        await may_end.wait()
        return Reply(200, {"done": True})

    first = asyncio.create_task(replied(office, ANNA, "k", ASKED, slow))
    await begun.wait()
    second = asyncio.create_task(replied(office, ANNA, "k", ASKED, Deed(RuntimeError("done twice"))))
    await asyncio.sleep(0.1)
    may_end.set()
    assert ((await first).replayed, (await second).replayed) == (False, True)


async def test_a_claim_of_a_dead_process_is_taken_over_after_a_while(office: Office) -> None:
    hanging = asyncio.create_task(replied_once(office, ANNA, "k", ASKED, Deed(asyncio.CancelledError())))
    with pytest.raises(asyncio.CancelledError):
        await hanging
    deed = Deed(Reply(200, {"done": True}))
    with pytest.raises(Problem):
        await replied_once(office, ANNA, "k", ASKED, deed)
    assert isinstance(office.clock, MovedClock)
    office.clock.now += office.limits.idempotency_takeover_s * 1_000
    assert (await replied_once(office, ANNA, "k", ASKED, deed)).body == {"done": True}


async def test_whoever_is_at_work_is_not_taken_for_dead(rig: OfficeRig) -> None:
    office = replace(rig.office, limits=replace(rig.office.limits, idempotency_takeover_s=1, idempotency_wait_s=0.1))
    may_end = asyncio.Event()

    async def slow(_id: bytes) -> Reply:
        await may_end.wait()
        return Reply(200, {"done": True})

    first = asyncio.create_task(replied_once(office, ANNA, "k", ASKED, slow))
    await asyncio.sleep(2)
    with pytest.raises(Problem):
        await replied_once(office, ANNA, "k", ASKED, Deed(RuntimeError("done twice")))
    may_end.set()
    assert (await first).body == {"done": True}


async def test_one_that_was_taken_for_dead_does_not_overwrite_the_answer(office: Office) -> None:
    begun, may_end = asyncio.Event(), asyncio.Event()

    async def slow(_id: bytes) -> Reply:
        begun.set()
        await may_end.wait()
        return Reply(200, {"by": "the slow one"})

    first = asyncio.create_task(replied_once(office, ANNA, "k", ASKED, slow))
    await begun.wait()
    assert isinstance(office.clock, MovedClock)
    office.clock.now += office.limits.idempotency_takeover_s * 1_000
    await replied_once(office, ANNA, "k", ASKED, Deed(Reply(200, {"by": "its heir"})))
    may_end.set()
    await first
    assert (await replied_once(office, ANNA, "k", ASKED, slow)).body == {"by": "its heir"}


async def test_work_whose_answer_was_not_stored_is_done_again_with_the_same_id(rig: OfficeRig, office: Office) -> None:
    account = rig.cards[0].account

    async def adjust(request_id: bytes) -> Reply:
        await office.desk.adjust(request_id, account, 1_000, 0, "goodwill")
        return Reply(200, {"request_id": request_id.hex()})

    first = await replied_once(office, ANNA, "k", ASKED, adjust)
    async with rig.registry.writing() as transaction:
        await transaction.execute("UPDATE office.idempotency SET status = NULL, answer = NULL, claimed_ms = 0")
    again = await replied_once(office, ANNA, "k", ASKED, adjust)
    assert (again.body, again.replayed) == (first.body, False)
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchval("SELECT balance FROM account WHERE account_id = $1", account) == 1_000


async def test_work_in_the_registry_is_committed_with_its_key_or_not_at_all(rig: OfficeRig, office: Office) -> None:
    async def write(ending: Reply | Exception) -> Reply:
        async with office.registry.writing() as transaction:
            await audited(office, ANNA, transaction, "thing.make", "thing:1", detail={"n": 1})
        async with office.registry.reading() as transaction:
            assert await transaction.fetchval("SELECT count(*) FROM office.audit") == 1, "it sees what it wrote"
        if isinstance(ending, Exception):
            raise ending
        return ending

    with pytest.raises(RuntimeError):
        await replied_once_in_registry(office, ANNA, "k", ASKED, lambda _id: write(RuntimeError("dies here")))
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchval("SELECT count(*) FROM office.audit") == 0
    assert await rows(rig) == 0
    await replied_once_in_registry(office, ANNA, "k", ASKED, lambda _id: write(Reply(200, {})))
    async with rig.registry.reading() as transaction:
        assert await transaction.fetchrow("SELECT actor, actor_name, address FROM office.audit") == (
            "user:1", "Anna", "10.0.0.1",
        )  # fmt: skip


async def test_a_lost_confirmation_of_the_commit_is_found_to_be_one(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    deed = Deed(Reply(201, {"id": 7}))
    together = Registry.together

    @asynccontextmanager
    async def lost(registry: Registry) -> AsyncIterator[Any]:
        async with together(registry) as transaction:
            yield transaction
        raise JournalDown("the connection broke after the commit")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "together", lost)
        with pytest.raises(JournalDown):
            await replied_once_in_registry(office, ANNA, "k", ASKED, deed)
    again = await replied_once_in_registry(office, ANNA, "k", ASKED, deed)
    assert (again.body, again.replayed, len(deed.ids)) == ({"id": 7}, True, 1)


async def test_an_answer_that_cannot_be_stored_is_given_all_the_same(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OSError("connection lost")

    deed = Deed(Reply(201, {"id": 7}))
    with monkeypatch.context() as patch:
        patch.setattr("ledger.registry.idempotency.finish", lost)
        assert (await replied_once(office, ANNA, "k", ASKED, deed)).body == {"id": 7}
    assert isinstance(office.clock, MovedClock)
    office.clock.now += office.limits.idempotency_takeover_s * 1_000
    assert (await replied_once(office, ANNA, "k", ASKED, deed)).body == {"id": 7}
    assert len(set(deed.ids)) == 1


@BOTH
async def test_an_old_answer_is_forgotten(rig: OfficeRig, office: Office, replied: Once) -> None:
    deed = Deed(Reply(200, {}))
    await replied(office, ANNA, "old", ASKED, deed)
    assert isinstance(office.clock, MovedClock)
    office.clock.now += office.limits.idempotency_s * 1_000 + 1
    await replied(office, ANNA, "new", ASKED, deed)
    assert await rows(rig) == 1
    await replied(office, ANNA, "old", {"points": 9}, deed)
    assert len(deed.ids) == 3


async def test_a_dump_shows_neither_what_was_asked_nor_what_was_answered(rig: OfficeRig, office: Office) -> None:
    await replied_once(office, ANNA, "k", {"phone": "+491700000"}, Deed(Reply(200, {"secret": "opensesame"})))
    async with rig.registry.reading() as transaction:
        row = await transaction.fetchrow("SELECT * FROM office.idempotency")
    assert b"opensesame" not in row["answer"]
    assert "opensesame" not in str(dict(row))
    assert "1700000" not in str(dict(row))


async def test_an_answer_under_another_key_of_encryption_is_not_guessed(office: Office) -> None:
    deed = Deed(Reply(200, {}))
    await replied_once(office, ANNA, "k", ASKED, deed)
    async with office.registry.writing() as transaction:
        await transaction.execute("UPDATE office.idempotency SET answer = $1", b"\x00" * 40)
    with pytest.raises(Problem) as caught:
        await replied_once(office, ANNA, "k", ASKED, deed)
    assert caught.value.status == 409


async def test_the_answer_says_that_it_is_a_repetition(office: Office) -> None:
    deed = Deed(Reply(201, {"id": 7}))
    first = await once(office, ANNA, "k", ASKED, deed)
    again = await once(office, ANNA, "k", ASKED, deed)
    assert (again.status_code, again.body) == (201, first.body)
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
