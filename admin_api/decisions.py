"""What the ledger decided, for those who ask over HTTP: an approval is an answer, a decline is a problem."""

from __future__ import annotations

from admin_api.problem import declined
from ledger.operator_desk import Decided
from protocol.answers import Answer
from protocol.codes import Outcome

#: What each decline means for what operators ask; the others concern receipts, which operators have none of.
_SENTENCES = {
    Outcome.NOT_PERMITTED: "The one who asks may not do this.",
    Outcome.BAD_CARD: "This is not a card number.",
    Outcome.UNKNOWN_CARD: "No account has this card.",
    Outcome.CARD_INACTIVE: "The card has been issued and not activated yet.",
    Outcome.CARD_BLOCKED: "The card is blocked.",
    Outcome.CARD_REPLACED: "The card was replaced by another one.",
    Outcome.ACCOUNT_BLOCKED: "The account is blocked, or closed because it was merged into another one.",
    Outcome.ORIGINAL_UNKNOWN: "There is no such request in the journal.",
    Outcome.ORIGINAL_UNSUITABLE: "The request that was named is of another kind, or has been used for this before.",
    Outcome.ORIGINAL_OTHER_CARD: "The request that was named belongs to another account.",
    Outcome.HOLD_UNKNOWN: "There is no such hold.",
    Outcome.HOLD_CLOSED: "The hold has ended already.",
    Outcome.HOLD_EXPIRED: "The hold has timed out.",
    Outcome.CARD_IN_USE: "The new card leads to an account already.",
    Outcome.ALREADY_ACTIVE: "The card is active already.",
    Outcome.TOO_MANY_HOLDS: "The account has an open hold, which must end first.",
    Outcome.ACCOUNT_LIMIT: "The account would hold, or owe, more than the largest amount there is.",
}


def approved(decided: Decided) -> Answer:
    """Return the answer of an approval. Raises the Problem `declined` (409) for anything else."""
    answer = Answer.from_body(decided.body)
    if answer.approved:
        return answer
    try:
        outcome = Outcome(answer.outcome)
    except ValueError:
        raise declined(str(answer.outcome), f"The ledger declined with outcome {answer.outcome}.") from None
    raise declined(outcome.name, _SENTENCES.get(outcome, f"The ledger declined with {outcome.name}."))
