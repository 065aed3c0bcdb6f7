import asyncio
import stat
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import fields
from pathlib import Path
from time import monotonic

import pytest

from ledger.clock import SystemClock
from ledger.submission import Refusal, Submission
from server.workers.peer_frames import PeerFrameError, PeerFrameReader, arrived, carried, framed
from server.workers.peer_link import PeerLinks


class Waiting:
    """Collects what came back, by request id."""

    def __init__(self) -> None:
        self.answers: dict[bytes, tuple[bytes, bool]] = {}
        self.refusals: dict[bytes, tuple[Refusal, int]] = {}

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        assert request_id not in self.answers
        assert request_id not in self.refusals
        self.answers[request_id] = (body, replayed)

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        assert request_id not in self.answers
        assert request_id not in self.refusals
        self.refusals[request_id] = (refusal, retry_after_ms)


def submission(number: int, reply_to: Waiting) -> Submission:
    return Submission(
        op=17,
        request_id=number.to_bytes(16),
        token=b"t" * 16,
        terminal_id=11,
        partner_id=3,
        network_id=7,
        fingerprint=b"f" * 8,
        terms=(500, 0, 0, 10_000, 0, 0, 1, 2, 3),
        deadline=monotonic() + 60,
        reply_to=reply_to,
        points=2**53 - 1,
        target=None,
        new_token=b"n" * 16,
        reference="0042-é",
        account=99,
    )


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: the path of a UNIX socket holds 107 bytes.
    with tempfile.TemporaryDirectory(prefix="tw-") as path:
        yield Path(path)


@asynccontextmanager
async def pair(
    folder: Path, decide: Callable[[Submission], None], outstanding_max: int = 100
) -> AsyncIterator[tuple[PeerLinks, PeerLinks]]:
    """A worker that forwards, and the worker that decides; both linked."""
    asking = PeerLinks(str(folder / "0"), lambda _: None, SystemClock(), outstanding_max=outstanding_max)
    deciding = PeerLinks(str(folder / "1"), decide, SystemClock())
    await asking.start()
    await deciding.start()
    try:
        yield asking, deciding
    finally:
        await asking.stop()
        await deciding.stop()
        await asking.stop()


def answer_at_once(taken: Submission) -> None:
    taken.reply_to.answer(taken.request_id, b"body of " + taken.request_id, replayed=taken.request_id[-1] % 2 == 1)


def test_a_submission_arrives_as_it_left() -> None:
    waiting = Waiting()
    sent = submission(1, waiting)
    (rows,) = PeerFrameReader().messages(framed([carried(5, sent)]))
    back = arrived(rows[0], waiting)
    for field in fields(Submission):
        assert getattr(back, field.name) == getattr(sent, field.name), field.name


def test_messages_survive_any_chunking() -> None:
    waiting = Waiting()
    stream = framed([carried(1, submission(1, waiting))]) + framed([]) + framed([carried(2, submission(2, waiting))])
    for size in (1, 2, 3, 7, 100, len(stream)):
        reader = PeerFrameReader()
        messages = [
            message
            for start in range(0, len(stream), size)
            for message in reader.messages(stream[start : start + size])
        ]
        assert [[row[0] for row in message] for message in messages] == [[1], [], [2]]


@pytest.mark.parametrize("garbage", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1", b"\0\0\0\1\x05", b"\0\0\0\2\x91\x05"])
def test_garbage_ends_the_link_instead_of_being_guessed(garbage: bytes) -> None:
    with pytest.raises(PeerFrameError):
        list(PeerFrameReader().messages(garbage))


async def test_answers_and_refusals_come_back_to_those_who_wait(folder: Path) -> None:
    def decide(taken: Submission) -> None:
        if taken.request_id[-1] % 3 == 0:
            taken.reply_to.refuse(taken.request_id, Refusal.BUSY, 70)
        else:
            answer_at_once(taken)

    waiting = Waiting()
    async with pair(folder, decide) as (asking, deciding):
        for number in range(50):
            assert asking.forward(deciding.address, submission(number, waiting))
        await until(lambda: len(waiting.answers) + len(waiting.refusals) == 50)
    for number in range(50):
        request_id = number.to_bytes(16)
        if number % 3 == 0:
            assert waiting.refusals[request_id] == (Refusal.BUSY, 70)
        else:
            assert waiting.answers[request_id] == (b"body of " + request_id, number % 2 == 1)


async def test_the_same_id_twice_gets_two_answers(folder: Path) -> None:
    first, second = Waiting(), Waiting()
    async with pair(folder, answer_at_once) as (asking, deciding):
        asking.forward(deciding.address, submission(1, first))
        asking.forward(deciding.address, submission(1, second))
        await until(lambda: bool(first.answers and second.answers))


async def test_without_a_way_to_the_worker_nothing_was_done(folder: Path) -> None:
    waiting = Waiting()
    asking = PeerLinks(str(folder / "0"), lambda _: None, SystemClock())
    for number in range(3):
        assert asking.forward(str(folder / "nobody"), submission(number, waiting))
    await until(lambda: len(waiting.refusals) == 3)
    assert {refusal for refusal, _ in waiting.refusals.values()} == {Refusal.BUSY}
    assert asking.health()["links_out"] == 0
    await asking.stop()


async def test_stopping_refuses_what_waits_and_then_takes_nothing(folder: Path) -> None:
    waiting = Waiting()
    async with pair(folder, lambda _: None) as (asking, deciding):
        asking.forward(deciding.address, submission(1, waiting))
        await until(lambda: deciding.health()["links_in"] == 1)
        asking.forward(deciding.address, submission(2, waiting))
        await asking.stop()
        assert {refusal for refusal, _ in waiting.refusals.values()} == {Refusal.UNAVAILABLE}
        assert len(waiting.refusals) == 2
        assert not asking.forward(deciding.address, submission(3, waiting))


async def test_stopping_while_connecting_refuses_what_was_never_sent(folder: Path) -> None:
    waiting = Waiting()
    asking = PeerLinks(str(folder / "0"), lambda _: None, SystemClock())
    asking.forward(str(folder / "nobody"), submission(1, waiting))
    await asking.stop()
    assert len(waiting.refusals) == 1


async def test_past_the_bound_it_is_busy(folder: Path) -> None:
    waiting = Waiting()
    async with pair(folder, lambda _: None, outstanding_max=3) as (asking, deciding):
        for number in range(5):
            assert asking.forward(deciding.address, submission(number, waiting))
        assert [refusal for refusal, _ in waiting.refusals.values()] == [Refusal.BUSY, Refusal.BUSY]


async def test_a_lost_link_leaves_everything_in_doubt_and_is_made_again(folder: Path) -> None:
    waiting = Waiting()
    taken: list[Submission] = []
    async with pair(folder, taken.append) as (asking, deciding):
        for number in range(4):
            asking.forward(deciding.address, submission(number, waiting))
        await until(lambda: len(taken) == 4)
        await deciding.stop()
        await until(lambda: len(waiting.refusals) == 4)
        assert {refusal for refusal, _ in waiting.refusals.values()} == {Refusal.UNAVAILABLE}
        # Late answers of the decider go nowhere.
        answer_at_once(taken[0])
        await deciding.start()
        asking.forward(deciding.address, submission(9, waiting))
        await until(lambda: len(taken) == 5)


async def test_a_link_to_a_worker_that_hangs_gives_up(folder: Path) -> None:
    waiting = Waiting()
    async with pair(folder, lambda _: None) as (asking, deciding):
        late = submission(1, waiting)
        late.deadline = monotonic() - 3600
        asking.forward(deciding.address, late)
        asking.forward(deciding.address, submission(2, waiting))
        await until(lambda: bool(waiting.refusals))
        assert waiting.refusals == {late.request_id: (Refusal.UNAVAILABLE, 0)}


async def test_garbage_from_a_peer_closes_its_link_only(folder: Path) -> None:
    waiting = Waiting()
    async with pair(folder, answer_at_once) as (asking, deciding):
        reader, writer = await asyncio.open_unix_connection(deciding.address)
        writer.write(b"\xff" * 64)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
        asking.forward(deciding.address, submission(1, waiting))
        await until(lambda: bool(waiting.answers))


async def test_only_this_user_may_connect(folder: Path) -> None:
    links = PeerLinks(str(folder / "0"), lambda _: None, SystemClock())
    await links.start()
    assert stat.S_IMODE((folder / "0").stat().st_mode) == 0o600
    await links.stop()
    assert not (folder / "0").exists()


async def test_a_socket_left_by_a_dead_worker_is_taken_over(folder: Path) -> None:
    (folder / "0").write_bytes(b"")
    links = PeerLinks(str(folder / "0"), lambda _: None, SystemClock())
    await links.start()
    await links.start()
    await links.stop()
