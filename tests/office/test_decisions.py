import os

import pytest

from admin_api.decisions import approved
from admin_api.problem import Problem
from ledger.operator_desk import Decided
from protocol.answers import encode_body
from protocol.codes import Outcome
from tests.rigs.office_rig import OfficeRig


async def test_an_approval_is_an_answer(rig: OfficeRig) -> None:
    decided = await rig.office.desk.adjust(os.urandom(16), rig.cards[0].account, 1_000, 0, "goodwill")
    assert approved(decided).earned == 1_000


async def test_a_decline_is_a_problem_that_names_its_outcome(rig: OfficeRig) -> None:
    decided = await rig.office.desk.activate(os.urandom(16), rig.cards[0].card.token)
    with pytest.raises(Problem) as declined:
        approved(decided)
    assert (declined.value.status, declined.value.body["outcome"]) == (409, "ALREADY_ACTIVE")
    assert declined.value.body["detail"] == "The card is active already."


@pytest.mark.parametrize("outcome", [*(o for o in Outcome if o > Outcome.APPROVED_PARTIAL), 999])
def test_every_decline_has_words(outcome: int) -> None:
    with pytest.raises(Problem) as declined:
        approved(Decided(encode_body(outcome, 0, 0, None), replayed=False))
    assert len(declined.value.body["detail"]) > 10
