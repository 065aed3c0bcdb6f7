import os
from dataclasses import replace

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


async def test_every_approval_of_the_desk_is_an_answer_without_a_slip(rig: OfficeRig) -> None:
    desk, (first, second, *_) = rig.office.desk, rig.cards
    phone = replace(first.card, token=b"p" * 16)
    out_id = os.urandom(16)
    for asked in (
        lambda: desk.link(os.urandom(16), first.account, phone),
        lambda: desk.block(os.urandom(16), phone.token),
        lambda: desk.unblock(os.urandom(16), phone.token),
        lambda: desk.replace(os.urandom(16), phone.token, replace(phone, token=b"q" * 16)),
        lambda: desk.block_account(os.urandom(16), first.account),
        lambda: desk.unblock_account(os.urandom(16), first.account),
        lambda: desk.adjust(os.urandom(16), first.account, 500, 0, "goodwill"),
        lambda: desk.merge_out(out_id, first.account),
        lambda: desk.merge_in(os.urandom(16), second.account, out_id),
    ):
        answer = approved(await asked())
        assert (answer.outcome, answer.slip, answer.detail) == (Outcome.APPROVED, (), None)
    assert answer.balance is not None
    assert answer.balance.available == 500
