"""Personal data between a form, which knows texts only, and what the member functions take and tell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from admin_api.console.account_words import calendar, when
from admin_api.console.forms import NotTaken, Typed
from admin_api.console.words import Words
from admin_api.members.members import ChangeView, MemberView, PersonalGiven

FIELDS = ("given_name", "family_name", "phone", "email", "birthday", "language", "marketing")
CARD_KINDS = ("ean13", "pan")
_TOLD = FIELDS[:-1]
_YES_NO = {"yes": True, "no": False}


@dataclass(frozen=True, slots=True)
class Personal:
    """What stands in the form; `marketing` is yes, no or nothing."""

    given_name: str = ""
    family_name: str = ""
    phone: str = ""
    email: str = ""
    birthday: str = ""
    language: str = ""
    marketing: str = ""

    @staticmethod
    def of_form(
        given_name: Typed = "",
        family_name: Typed = "",
        phone: Typed = "",
        email: Typed = "",
        birthday: Typed = "",
        language: Typed = "",
        marketing: Typed = "",
    ) -> Personal:
        """Return what was filled in."""
        return Personal(given_name, family_name, phone, email, birthday, language, marketing)

    @classmethod
    def of_member(cls, member: MemberView) -> Personal:
        """Return the form of what is kept."""
        agreed = member.consents.get("marketing")
        told = {name: getattr(member, name) or "" for name in _TOLD}
        return cls(**told, marketing="" if agreed is None else "yes" if agreed else "no")

    def given(self) -> PersonalGiven:
        """Return it as a member function takes it: an empty field takes away. Raises NotTaken."""
        told: dict[str, Any] = {name: getattr(self, name).strip() or None for name in _TOLD}
        try:
            return PersonalGiven(**told, consents={"marketing": _YES_NO.get(self.marketing)})
        except ValidationError as error:  # Typed bounds the same lengths, so this is none of the visitor's making.
            raise NotTaken(str(error)) from None


def shown_member(words: Words, member: MemberView) -> list[tuple[str, str]]:
    """Return names and values of what a member told, for reading."""
    return [(words.t(f"member.{name}"), shown(words, name, getattr(member, name))) for name in _TOLD] + [
        (words.t("member.consents"), shown(words, "consents", member.consents)),
        *(((name.replace("_", " ")), value) for name, value in sorted(member.attributes.items())),
    ]


def shown(words: Words, name: str, value: Any) -> str:
    """Return a value of a field in words; nothing for one that nobody told."""
    if not value:
        return ""
    if name == "birthday":
        return calendar(words, value)
    if name == "language":
        key = f"language.{value}"
        return words.t(key) if words.known(key) else str(value)
    if name == "consents":
        return ", ".join(_consent(words, key, agreed) for key, agreed in sorted(value.items()))
    if isinstance(value, dict):
        return ", ".join(f"{key}: {told}" for key, told in sorted(value.items()))
    return str(value)


def _consent(words: Words, name: str, agreed: bool) -> str:
    key = f"member.consent_{name}"
    said = words.t(key) if words.known(key) else name.replace("_", " ")
    return f"{said}: {words.t('member.yes' if agreed else 'member.no')}"


def shown_changes(words: Words, log: Sequence[ChangeView]) -> list[dict[str, Any]]:
    """Return the log of changes: when, who, where, and what each field was before."""
    return [
        {
            "when": when(words, change.at_ms),
            "who": change.actor_name or change.actor,
            "store": change.store or "",
            "fields": [
                (_field(words, name), shown(words, name, (change.before or {}).get(name))) for name in change.fields
            ],
            "known": change.before is not None,
        }
        for change in log
    ]


def _field(words: Words, name: str) -> str:
    key = f"member.{name}"
    return words.t(key) if words.known(key) else name
