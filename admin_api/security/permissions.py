"""What can be permitted, and what each role may do: the one table of rights."""

from __future__ import annotations

from enum import StrEnum


class Permission(StrEnum):
    """What an endpoint asks for. A partner's people have it for their own partner only."""

    COALITION_READ = "coalition:read"
    COALITION_WRITE = "coalition:write"
    TERMINALS_WRITE = "terminals:write"
    """Rotate, suspend and revoke; add terminals to a store that exists."""
    MEMBERS_READ = "members:read"
    """Personal data; every look is recorded."""
    MEMBERS_WRITE = "members:write"
    MEMBERS_ERASE = "members:erase"
    CARDS_READ = "cards:read"
    CARDS_WRITE = "cards:write"
    ACCOUNTS_READ = "accounts:read"
    ACCOUNTS_WRITE = "accounts:write"
    """Release holds, block and merge accounts, ask for adjustments."""
    ADJUSTMENTS_APPROVE = "adjustments:approve"
    RULES_READ = "rules:read"
    RULES_WRITE = "rules:write"
    FIGURES_READ = "figures:read"
    OPERATIONS_READ = "operations:read"
    OPERATIONS_WRITE = "operations:write"
    AUDIT_READ = "audit:read"
    USERS_READ = "users:read"
    USERS_WRITE = "users:write"
    TOKENS_WRITE = "tokens:write"
    MEMBER_TOKENS_WRITE = "member-tokens:write"
    """Issue tokens with which a chain's site or app shows one member his own account."""
    OWN_ACCOUNT = "own-account"
    """What a member token carries, and nothing else does."""


class Role(StrEnum):
    """What a person is here for."""

    OWNER = "owner"
    OPERATOR = "operator"
    MARKETER = "marketer"
    AUDITOR = "auditor"
    PARTNER = "partner"


_P = Permission
_LOOK = frozenset(
    {
        _P.COALITION_READ, _P.MEMBERS_READ, _P.CARDS_READ, _P.ACCOUNTS_READ, _P.RULES_READ, _P.FIGURES_READ,
        _P.OPERATIONS_READ, _P.AUDIT_READ, _P.USERS_READ,
    }
)  # fmt: skip

ROLES: dict[Role, frozenset[Permission]] = {
    Role.OWNER: frozenset(_P) - {_P.OWN_ACCOUNT},
    Role.OPERATOR: frozenset(
        {
            _P.COALITION_READ, _P.TERMINALS_WRITE, _P.MEMBERS_READ, _P.MEMBERS_WRITE, _P.CARDS_READ, _P.CARDS_WRITE,
            _P.ACCOUNTS_READ, _P.ACCOUNTS_WRITE, _P.ADJUSTMENTS_APPROVE, _P.RULES_READ, _P.FIGURES_READ,
            _P.OPERATIONS_READ, _P.OPERATIONS_WRITE,
        }
    ),
    Role.MARKETER: frozenset({_P.COALITION_READ, _P.RULES_READ, _P.RULES_WRITE, _P.FIGURES_READ}),
    Role.AUDITOR: _LOOK,
    Role.PARTNER: frozenset({_P.COALITION_READ, _P.TERMINALS_WRITE, _P.RULES_READ, _P.FIGURES_READ}),
}  # fmt: skip
