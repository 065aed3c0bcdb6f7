"""The console's main navigation: which pages there are, and who sees them."""

from __future__ import annotations

from typing import NamedTuple

from admin_api.security.permissions import Permission


class Item(NamedTuple):
    """A page of the main navigation: its address, the key of its name, and the permission it needs."""

    path: str
    key: str
    permission: Permission
    #: The beginnings of further addresses that belong to it.
    more: tuple[str, ...] = ()


MAIN = (
    Item("/", "nav.dashboard", Permission.FIGURES_READ),
    Item("/cards", "batch.nav", Permission.CARDS_READ),
    Item("/adjustments", "adjust.nav", Permission.ACCOUNTS_READ),
    Item("/coalition", "coalition.nav", Permission.COALITION_READ),
    Item("/relays", "relay.nav", Permission.COALITION_READ, ("/conflicts",)),
    Item("/programme", "rules.nav", Permission.RULES_READ),
    Item("/users", "users.nav", Permission.USERS_READ, ("/tokens",)),
    Item("/audit", "audit.nav", Permission.AUDIT_READ),
    Item("/operations", "nav.operations", Permission.OPERATIONS_READ),
)
