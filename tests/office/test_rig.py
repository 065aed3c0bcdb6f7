import os

from ledger.operations import Outcome
from protocol.answers import Answer
from tests.rigs.office_rig import OfficeRig


async def test_an_operator_adjusts_an_account_through_the_ledger(rig: OfficeRig) -> None:
    account = rig.cards[0].account
    request_id = os.urandom(16)
    first = await rig.office.desk.adjust(request_id, account, 1_000, 0, "goodwill")
    again = await rig.office.desk.adjust(request_id, account, 1_000, 0, "goodwill")
    answer = Answer.from_body(first.body)
    assert (answer.outcome, answer.earned) == (Outcome.APPROVED, 1_000)
    assert (again.body, again.replayed) == (first.body, True)


async def test_health_needs_no_token(rig: OfficeRig) -> None:
    async with rig.anonymous() as client:
        assert (await client.get("/health/ready")).status_code == 200
