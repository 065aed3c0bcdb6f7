"""Operators on a worker that does not own the account: their requests travel as the registers' do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from ledger.ledger import Ledger
from ledger.operations import Operation, Outcome
from ledger.submission import Submission
from ledger.truth import Standing
from server.workers.peer_frames import PeerFrameReader, arrived, carried, framed
from tests.integration.test_ledger_workers import Post, until_both_serve
from tests.rigs.ledger_rig import Rig, token_of
from tests.rigs.operator_rig import account_of, balance_of, desk_at, merge, new_card, new_id, reply


class Link(Post):
    """Carries submissions as the bytes that travel between two processes."""

    def forward(self, address: str, submission: Submission) -> bool:
        [message] = PeerFrameReader().messages(framed([carried(1, submission)]))
        return super().forward(address, arrived(message[0], submission.reply_to))


@pytest.fixture
async def rig(postgres_url: str, valkey_url: str) -> AsyncIterator[Rig]:
    rig = Rig(postgres_url, valkey_url)
    await rig.prepare(cards=6, issued=2, partitions=2)
    yield rig
    assert (await rig.verify()).merging == 0


@pytest.fixture
async def workers(rig: Rig) -> AsyncIterator[tuple[Ledger, Ledger]]:
    post = Link()
    async with post.worker(rig, 0) as first, post.worker(rig, 1) as second:
        await until_both_serve(first, second)
        yield first, second
        assert post.forwarded


async def test_either_desk_acts_on_every_account(rig: Rig, workers: tuple[Ledger, Ledger]) -> None:
    for ledger, other in (workers, workers[::-1]):
        desk = desk_at(ledger)
        for card in (1, 2):
            account, adjust_id = await account_of(rig, card), new_id()
            phone = 1000 * (1 + workers.index(ledger)) + card
            given = await reply(desk.adjust(adjust_id, account, 100, 0, "goodwill"))
            again = await reply(desk_at(other).adjust(adjust_id, account, 100, 0, "goodwill"))
            assert (given.outcome, again.body, again.replayed) == (Outcome.APPROVED, given.body, True)
            hold = rig.submission(Operation.HOLD, card, points=50, hold_ms=3_600_000)
            assert (await rig.ask(other, hold)).points == 50
            assert (await reply(desk.release(new_id(), account, hold.request_id))).points == 50
            assert (await reply(desk.link(new_id(), account, new_card(phone)))).outcome == Outcome.APPROVED
            assert (await reply(desk.block(new_id(), token_of(phone)))).outcome == Outcome.APPROVED
            assert (await reply(desk.unblock(new_id(), token_of(phone)))).outcome == Outcome.APPROVED
            assert (await reply(desk.block_account(new_id(), account))).outcome == Outcome.APPROVED
            assert (await rig.do(other, Operation.REDEEM, phone, points=1)).outcome == Outcome.ACCOUNT_BLOCKED
            assert (await reply(desk.unblock_account(new_id(), account))).outcome == Outcome.APPROVED


@pytest.mark.parametrize(("source", "target"), [(1, 2), (2, 1), (1, 3)])
async def test_a_worker_that_remembers_the_old_account_follows_the_card(
    rig: Rig, workers: tuple[Ledger, Ledger], source: int, target: int
) -> None:
    first, second = workers
    await rig.give(first, source, 1000)
    redeem = rig.submission(Operation.REDEEM, source, points=100)
    answers = [await rig.ask(ledger, redeem) for ledger in workers]
    old_account = await account_of(rig, source)
    out, taken = await merge(first, old_account, await account_of(rig, target))
    assert (out.outcome, taken.outcome) == (Outcome.APPROVED, Outcome.APPROVED)
    for ledger in (second, first):
        ledger._card_index._remembered.keep(token_of(source), old_account)
        earn = rig.submission(Operation.EARN, source, amount=2000)
        assert (await rig.ask(ledger, earn)).earned == 100
        ledger._card_index._remembered.keep(token_of(source), old_account)
        status = await rig.do(ledger, Operation.STATUS, source, target=earn.request_id)
        assert (status.outcome, status.detail[0]) == (Outcome.APPROVED, Standing.STANDS)
        assert (await rig.ask(ledger, redeem)).body == answers[0].body
        assert (await rig.do(ledger, Operation.REVERSE, source, target=earn.request_id)).earned == -100
    assert (await balance_of(rig, second, target))[0] == 900
    reversed_ = await rig.do(second, Operation.REVERSE, source, target=redeem.request_id)
    assert (reversed_.outcome, reversed_.points) == (Outcome.APPROVED, 100)


async def test_two_desks_take_in_the_same_account_at_once_and_one_of_them_gets_it(
    rig: Rig, workers: tuple[Ledger, Ledger]
) -> None:
    accounts = [await account_of(rig, card) for card in range(6)]
    await rig.give(workers[0], 1, 1000)
    out_id = new_id()
    await desk_at(workers[1]).merge_out(out_id, accounts[1])
    ins = await asyncio.gather(
        *(reply(desk_at(ledger).merge_in(new_id(), accounts[card], out_id)) for ledger in workers for card in (2, 3, 5))
    )
    assert sorted(each.outcome or 0 for each in ins) == [Outcome.APPROVED] + [Outcome.ORIGINAL_UNSUITABLE] * 5
    assert await rig.available(workers[0], 1) == 1000


async def test_load_goes_on_while_accounts_are_merged(rig: Rig, workers: tuple[Ledger, Ledger]) -> None:
    """What is approved during a merge stands after it, and every retry gets what was answered."""
    await rig.give(workers[0], 1, 10_000)
    redeems = [rig.submission(Operation.REDEEM, 1, points=1) for _ in range(200)]
    asked = [asyncio.ensure_future(rig.ask(workers[i % 2], redeem)) for i, redeem in enumerate(redeems)]
    await asyncio.sleep(0)
    await merge(workers[0], await account_of(rig, 1), await account_of(rig, 2))
    answers = await asyncio.gather(*asked)
    again = await asyncio.gather(*(rig.insist(workers[0], redeem) for redeem in redeems))
    assert {answer.outcome for answer in answers} <= {Outcome.APPROVED, Outcome.UNKNOWN_CARD}
    for before, after in zip(answers, again, strict=True):
        assert after.outcome == Outcome.APPROVED
        assert before.outcome != Outcome.APPROVED or before.body == after.body
    assert await rig.available(workers[1], 2) == 10_000 - 200
