"""Who is asking: a person, a program with a token, or a member."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from admin_api.problem import forbidden
from admin_api.security.permissions import Permission


@dataclass(frozen=True, slots=True)
class Actor:
    """`name` is "user:3", "token:7", "member:12" or "system", as it is stored; `shown` is for people's eyes.

    `partner_id` bounds a partner's people to their own partner, `account` a member to his own account. `address` is
    where the request came from. `behind` is who made a token, or whose token made it.
    """

    name: str
    shown: str
    permissions: AbstractSet[Permission]
    partner_id: int | None = None
    account: int | None = None
    address: str = ""
    behind: str = ""

    @property
    def person(self) -> str:
        """Who counts where two persons are needed: whoever is behind a token, else the actor."""
        return self.behind or self.name

    def may(self, permission: Permission) -> bool:
        """Return whether this is permitted."""
        return permission in self.permissions

    def sees_partner(self, partner_id: int) -> bool:
        """Return whether what belongs to this partner is this actor's business."""
        return self.partner_id is None or self.partner_id == partner_id

    def check(self, permission: Permission) -> None:
        """Raise a Problem (403) unless this is permitted."""
        if not self.may(permission):
            raise forbidden(f"this needs the permission {permission}")
