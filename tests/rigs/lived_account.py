"""An account with a life behind it, for pages that tell it: purchases, a refund, a hold, a reversal, an operator."""

from __future__ import annotations

import os
from typing import Any

import httpx

from ledger.operations import Operation
from tests.rigs.office_rig import OfficeRig
from tests.rigs.till import Till

ANNA = {
    "given_name": "Annabella",
    "family_name": "Quillfeather",
    "phone": "+4915123456789",
    "email": "annabella@quillfeather.example",
    "birthday": "1990-02-28",
    "language": "en",
    "consents": {"marketing": True},
    "attributes": {"shoe_size": "39"},
}
PHONE_AS_SAID = "0049 151 234 567 89"


class Lived:
    """What happened on the rig's first account; Anna is its member. `ids` are requests by name."""

    def __init__(self, rig: OfficeRig) -> None:
        self.rig = rig
        self.card = rig.cards[0]
        self.account = self.card.account
        self.number = rig.numbers[0]
        self.ids: dict[str, bytes] = {}

    async def live(self, *, member: bool = True) -> Lived:
        if member:
            await self.register(account_id=self.account)
        till, ids = Till(self.rig), self.ids
        today = self.rig.ledger.today()
        soon = {"expiry_day": today + 30}
        ids["earn"] = await till.ask(
            Operation.EARN, self.card, amount=40_000, reference="R-1001", expiry_day=today + 365
        )
        ids["sale"] = await till.ask(Operation.SALE, self.card, amount=2_500, points=500, reference="R-1002", **soon)
        ids["redeem"] = await till.ask(Operation.REDEEM, self.card, points=250, amount=1_000, reference="R-1003")
        ids["refund"] = await till.ask(
            Operation.REFUND, self.card, target=ids["sale"], amount=1_000, reference="R-1004", **soon
        )
        ids["reversed"] = await till.ask(Operation.REDEEM, self.card, points=100, amount=400, reference="R-1005")
        ids["reverse"] = await till.ask(Operation.REVERSE, self.card, target=ids["reversed"], **soon)
        ids["captured"] = await till.ask(Operation.HOLD, self.card, points=200, amount=900, reference="R-1006")
        ids["capture"] = await till.ask(
            Operation.CAPTURE, self.card, target=ids["captured"], points=150, amount=700, reference="R-1006"
        )
        ids["hold"] = await till.ask(Operation.HOLD, self.card, points=300, amount=1_200, reference="R-1007")
        ids["pending"] = await till.ask(
            Operation.EARN, self.card, amount=2_000, reference="R-1008", active_day=today + 3, expiry_day=today + 60
        )
        return self

    async def register(self, **asked: Any) -> int:
        async with self.rig.client() as client:
            answer = await client.post("/v1/members", json={"personal": ANNA, **asked}, headers=self.rig.key())
            assert answer.status_code == 201, answer.text
            return int(answer.json()["account_id"])

    async def adjust(self, client: httpx.AsyncClient, points: int, reason: str) -> None:
        answer = await client.post(
            f"/v1/accounts/{self.account}/adjustments",
            json={"points": points, "reason": reason},
            headers={"idempotency-key": os.urandom(16).hex()},
        )
        assert answer.status_code in (201, 202), answer.text
