"""Personal data: what is kept of a member, how it is checked, encrypted, and found again by what members say."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field, fields, replace
from datetime import date
from enum import IntEnum
from typing import Any, Self

import orjson

from ledger import greetings
from ledger.registry.secrecy import Cipher, Unreadable, derived_key

NAME_CHARACTERS_MAX = 100
EMAIL_CHARACTERS_MAX = 254
ATTRIBUTES_MAX = 32
ATTRIBUTE_CHARACTERS_MAX = 200
CONSENTS_MAX = 16

_LOOKUP_BYTES = 16
_YEARS_MAX = 150
_PHONE = re.compile(r"\+[1-9][0-9]{6,14}")
_PHONE_SEPARATORS = re.compile(r"[\s().\-/\u00a0\u2010-\u2015]+")
_EMAIL = re.compile(r"[^\s@<>,;]{1,64}@[^\s@<>,;]+\.[^\s@<>,;.]{2,}")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}")
_KEY = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DIGITS_MIN, _DIGITS_MAX = 7, 15
_RUSSIAN_DIGITS = 11

#: Attributes that name a member as the system did that it came from, and that system where there were several.
EXTERNAL_ID, EXTERNAL_SOURCE = "external_id", "external_source"

#: A field and what is wrong with its value, in words that hold nothing of the value.
Fault = tuple[str, str]
#: What kind of thing was hashed, and the 16 bytes of it.
Hash = tuple[int, bytes]


class Lookup(IntEnum):
    """By what a member can be found (column personal.lookup.kind)."""

    PHONE = 1
    EMAIL = 2
    FAMILY_NAME = 3
    FULL_NAME = 4
    EXTERNAL_ID = 5


@dataclass(frozen=True, slots=True)
class PersonalFields:
    """What is kept of a member. None is what nobody has told.

    `phone` is E.164 ("+4915112345678"), `birthday` an ISO date, `language` a tag such as "en" or "pt-BR"; `consents`
    holds what the member agreed to or refused ("marketing"), `attributes` whatever else the chain wants to keep.
    """

    given_name: str | None = None
    family_name: str | None = None
    phone: str | None = None
    email: str | None = None
    birthday: str | None = None
    language: str | None = None
    consents: dict[str, bool] = field(default_factory=dict)
    attributes: dict[str, str] = field(default_factory=dict)

    def told(self) -> dict[str, Any]:
        """Return the fields that have a value, by name."""
        return {name: value for name in FIELDS if (value := getattr(self, name))}

    @classmethod
    def of(cls, told: dict[str, Any]) -> Self:
        """Return the fields of what `told` returned; a name that this version does not know is left out."""
        return cls(**{name: told[name] for name in FIELDS if name in told})

    def changed_from(self, before: PersonalFields) -> list[str]:
        """Return the names of the fields that differ."""
        return [name for name in FIELDS if getattr(self, name) != getattr(before, name)]


FIELDS = tuple(each.name for each in fields(PersonalFields))


def tidied(given: PersonalFields, today: date) -> tuple[PersonalFields, list[Fault]]:
    """Return the fields without needless spaces and separators, and what is wrong with them."""
    phone = _PHONE_SEPARATORS.sub("", given.phone or "") or None
    if phone is not None and phone.startswith("00"):
        phone = "+" + phone[2:]
    tidy = replace(
        given,
        given_name=_spaced(given.given_name),
        family_name=_spaced(given.family_name),
        phone=phone,
        email=(given.email or "").strip() or None,
        birthday=(given.birthday or "").strip() or None,
        language=(given.language or "").strip() or None,
        attributes={key: text for key, value in given.attributes.items() if (text := _spaced(value))},
    )
    return tidy, [*_faults_of_person(tidy), *_faults_of_birthday(tidy.birthday, today), *_faults_of_bags(tidy)]


def _faults_of_person(told: PersonalFields) -> list[Fault]:
    faults: list[Fault] = []
    for name in ("given_name", "family_name"):
        value = getattr(told, name) or ""
        if len(value) > NAME_CHARACTERS_MAX:
            faults.append((name, f"has more than {NAME_CHARACTERS_MAX} characters"))
        if not _printable(value):
            faults.append((name, "has control characters"))
    if told.phone is not None and not _PHONE.fullmatch(told.phone):
        faults.append(("phone", "is not + and 7 to 15 digits, beginning with the country code"))
    if told.email is not None and (len(told.email) > EMAIL_CHARACTERS_MAX or not _EMAIL.fullmatch(told.email)):
        faults.append(("email", "is no e-mail address"))
    if told.language is not None and not _LANGUAGE.fullmatch(told.language):
        faults.append(("language", 'is no language tag such as "en" or "pt-BR"'))
    return faults


def _faults_of_birthday(birthday: str | None, today: date) -> list[Fault]:
    if birthday is None:
        return []
    try:
        day = date.fromisoformat(birthday)
    except ValueError:
        return [("birthday", "is no date of the form 1990-12-31")]
    if day.isoformat() != birthday:
        return [("birthday", "is no date of the form 1990-12-31")]
    if not today.year - _YEARS_MAX <= day.year or day > today:
        return [("birthday", "lies in the future, or too far back")]
    return []


def _faults_of_bags(told: PersonalFields) -> list[Fault]:
    faults: list[Fault] = []
    for name, bag, most in (("consents", told.consents, CONSENTS_MAX), ("attributes", told.attributes, ATTRIBUTES_MAX)):
        if len(bag) > most:
            faults.append((name, f"are more than {most}"))
        if not all(_KEY.fullmatch(key) for key in bag):
            faults.append((name, "have a name that is not a lower-case letter with up to 39 of a-z 0-9 _ behind it"))
    if any(len(value) > ATTRIBUTE_CHARACTERS_MAX for value in told.attributes.values()):
        faults.append(("attributes", f"have a value of more than {ATTRIBUTE_CHARACTERS_MAX} characters"))
    if not all(map(_printable, told.attributes.values())):
        faults.append(("attributes", "have a value with control characters"))
    return faults


def _printable(text: str) -> bool:
    # Cc: control characters; Cs: halves of characters, which have no UTF-8.
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in text)


def _spaced(text: str | None) -> str | None:
    return " ".join(text.split()) or None if text else None


class PersonalData:
    """Encrypts and hashes what members told, under keys derived from one. Free of I/O."""

    def __init__(self, personal_key: bytes) -> None:
        # What a member is greeted with lies under the key itself: workers read it, and nothing else of a person.
        self._greeting_key = personal_key
        self._cipher = Cipher(derived_key(personal_key, b"personal data"))
        self._lookup_key = derived_key(personal_key, b"personal lookup")

    def encrypt(self, account: int, told: PersonalFields) -> bytes:
        """Return the fields as personal.member.data, bound to the account."""
        return self.encrypt_values(account, told.told())

    def decrypt(self, account: int, stored: bytes) -> PersonalFields:
        """Return the fields of personal.member.data. Raises Unreadable."""
        return PersonalFields.of(self.decrypt_values(account, stored))

    def encrypt_values(self, account: int, values: dict[str, Any]) -> bytes:
        """Return values by name, e.g. what some fields were before a change, as they are stored."""
        return self._cipher.encrypt(orjson.dumps(values), account.to_bytes(8, "big"))

    def decrypt_values(self, account: int, stored: bytes) -> dict[str, Any]:
        """Return what `encrypt_values` was given. Raises Unreadable."""
        values = orjson.loads(self._cipher.decrypt(stored, account.to_bytes(8, "big")))
        if not isinstance(values, dict):
            raise Unreadable("these are no fields")
        return values

    def greeting(self, account: int, told: PersonalFields) -> bytes | None:
        """Return personal.member.greeting, which registers are told: the given name."""
        return None if not told.given_name else greetings.encrypt(self._greeting_key, account, told.given_name)

    def greeted(self, account: int, stored: bytes) -> str | None:
        """Return the name in personal.member.greeting; None if it cannot be read."""
        return greetings.decrypt(self._greeting_key, account, stored)

    def lookups(self, told: PersonalFields) -> list[Hash]:
        """Return the hashes under which a member with these fields is found."""
        found: list[Hash] = []
        if told.phone:
            found.append(self._hash(Lookup.PHONE, _digits(told.phone)))
        if told.email:
            found.append(self._hash(Lookup.EMAIL, _folded(told.email)))
        if told.family_name:
            found.append(self._hash(Lookup.FAMILY_NAME, _folded(told.family_name)))
        if told.family_name and told.given_name:
            found.append(self._hash(Lookup.FULL_NAME, _unordered(f"{told.given_name} {told.family_name}")))
        if external_id := told.attributes.get(EXTERNAL_ID):
            found.append(self.external(external_id, told.attributes.get(EXTERNAL_SOURCE, "")))
        return found

    def external(self, external_id: str, source: str = "") -> Hash:
        """Return the hash under which a member is found by its id in the system that it came from."""
        return self._hash(Lookup.EXTERNAL_ID, f"{source}\x1f{external_id}")

    def lookup_for(self, text: str) -> list[Hash]:
        """Return the hashes to look for when somebody says this: a phone number, an e-mail address or a name."""
        if "@" in text:
            return [self._hash(Lookup.EMAIL, _folded(text))]
        digits = _digits(text)
        if _DIGITS_MIN <= len(digits) <= _DIGITS_MAX + 2 and not any(character.isalpha() for character in text):
            return [self._hash(Lookup.PHONE, number) for number in _dialled(digits)]
        folded = _folded(text)
        if not folded:
            return []
        names = [self._hash(Lookup.FAMILY_NAME, folded)]
        if " " in folded:
            names.append(self._hash(Lookup.FULL_NAME, _unordered(text)))
        return names

    def _hash(self, kind: Lookup, value: str) -> Hash:
        text = f"{int(kind)}:{value}".encode("utf-8", "replace")
        return int(kind), hashlib.blake2b(text, digest_size=_LOOKUP_BYTES, key=self._lookup_key).digest()


def _folded(text: str) -> str:
    """Return the text as it sounds: without case, needless spaces, and kinds of characters that look the same."""
    # Russian writes the letter yo mostly without its dots.
    return " ".join(unicodedata.normalize("NFKC", text).casefold().replace("\u0451", "\u0435").split())


def _unordered(text: str) -> str:
    """Return a full name so that it is the same whichever of its parts comes first."""
    return " ".join(sorted(_folded(text).split()))


def _digits(text: str) -> str:
    return "".join(character for character in unicodedata.normalize("NFKC", text) if character in "0123456789")


def _dialled(digits: str) -> list[str]:
    """Return the numbers that people mean by what they dial: with the international prefix, or Russia's own 8."""
    numbers = [digits]
    if digits.startswith("00"):
        numbers.append(digits[2:])
    if len(digits) == _RUSSIAN_DIGITS and digits.startswith("8"):
        numbers.append("7" + digits[1:])
    return numbers
