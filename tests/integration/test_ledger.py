"""The ledger on real engines: the first things that a register asks for, end to end."""

import os

from ledger.operations import Operation, Outcome
from ledger.submission import Refusal
from tests.rigs.ledger_rig import Rig


async def test_earn_redeem_and_balance(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        redeemed = await rig.do(ledger, Operation.REDEEM, 1, points=700, amount=10_000)
        assert (redeemed.outcome, redeemed.points) == (Outcome.APPROVED, 700)
        balance = await rig.do(ledger, Operation.BALANCE, 1)
        assert balance.balance == [4300, 0, 0, 0, 0, 0]


async def test_a_retry_gets_the_same_bytes(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        redeem = rig.submission(Operation.REDEEM, 1, points=700)
        first = await rig.ask(ledger, redeem)
        await rig.do(ledger, Operation.REDEEM, 1, points=100)
        again = await rig.ask(ledger, redeem)
        assert again.replayed
        assert again.body == first.body


async def test_the_same_id_with_other_content_is_refused(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        earned = await rig.give(ledger, 1, 5000)
        other = await rig.do(ledger, Operation.REDEEM, 1, points=1, request_id=earned.request_id)
        elsewhere = await rig.do(ledger, Operation.EARN, 2, amount=100_000, request_id=earned.request_id)
        assert other.refusal is Refusal.ID_REUSED
        assert elsewhere.refusal is Refusal.ID_REUSED
        assert (await rig.do(ledger, Operation.BALANCE, 2)).balance == [0] * 6


async def test_a_reversal_before_its_original_stops_it(rig: Rig) -> None:
    async with rig.ledger() as ledger:
        await rig.give(ledger, 1, 5000)
        late = os.urandom(16)
        assert (await rig.do(ledger, Operation.REVERSE, 1, target=late)).outcome == Outcome.APPROVED
        assert (await rig.do(ledger, Operation.REDEEM, 1, points=100, request_id=late)).outcome == Outcome.REVERSED
        assert (await rig.do(ledger, Operation.BALANCE, 1)).balance == [5000, 0, 0, 0, 0, 0]
