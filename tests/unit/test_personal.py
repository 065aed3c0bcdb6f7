from datetime import date

import pytest

from ledger import greetings
from ledger.registry.personal import Lookup, PersonalData, PersonalFields, tidied
from ledger.registry.secrecy import Unreadable

DATA = PersonalData(b"p" * 32)
TODAY = date(2026, 5, 1)
ANNA = PersonalFields(
    given_name="Anna",
    family_name="Müller-Ёлкина",
    phone="+79123456789",
    email="Anna@Example.org",
    birthday="1990-02-28",
    language="ru",
    consents={"marketing": False},
    attributes={"shoe_size": "39"},
)


def test_what_is_encrypted_comes_back_for_the_same_account_only() -> None:
    stored = DATA.encrypt(7, ANNA)
    assert DATA.decrypt(7, stored) == ANNA
    assert b"Anna" not in stored
    for account, blob, data in ((8, stored, DATA), (7, stored[:-1], DATA), (7, stored, PersonalData(b"q" * 32))):
        with pytest.raises(Unreadable):
            data.decrypt(account, blob)


def test_a_field_of_a_later_version_does_not_stand_in_the_way() -> None:
    stored = DATA.encrypt_values(7, {"given_name": "Anna", "middle_name": "Maria"})
    assert DATA.decrypt(7, stored) == PersonalFields(given_name="Anna")


def test_the_greeting_is_the_given_name_as_workers_read_it() -> None:
    stored = DATA.greeting(7, ANNA)
    assert stored is not None
    assert len(stored) == len(greetings.encrypt(b"p" * 32, 7, "Anna"))
    assert DATA.greeting(7, PersonalFields(family_name="X")) is None


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("+7 (912) 345-67-89", Lookup.PHONE),
        ("89123456789", Lookup.PHONE),
        ("007 912 345 67 89", Lookup.PHONE),
        (" anna@EXAMPLE.org", Lookup.EMAIL),
        ("müller-елкина", Lookup.FAMILY_NAME),
        ("  MÜLLER-ЁЛКИНА   anna ", Lookup.FULL_NAME),
        ("Anna Mu\u0308ller-Ёлкина", Lookup.FULL_NAME),
    ],
)
def test_a_member_is_found_by_what_people_say(said: str, kind: Lookup) -> None:
    assert kind in {k for k, _ in set(DATA.lookups(ANNA)) & set(DATA.lookup_for(said))}


@pytest.mark.parametrize("said", ["", "   ", "Anna", "+79123456780", "anna@example.com"])
def test_a_member_is_not_found_by_something_else(said: str) -> None:
    assert not set(DATA.lookups(ANNA)) & set(DATA.lookup_for(said))


def test_hashes_tell_nothing_without_the_key() -> None:
    assert not set(DATA.lookups(ANNA)) & set(PersonalData(b"q" * 32).lookups(ANNA))


def test_what_is_given_is_tidied() -> None:
    given = PersonalFields(
        given_name="  Anna   Maria ", phone="+49 (151) 123-45678", email=" a@b.example ", birthday="",
        attributes={"note": "  "},
    )  # fmt: skip
    tidy, faults = tidied(given, TODAY)
    assert not faults
    assert tidy == PersonalFields(given_name="Anna Maria", phone="+4915112345678", email="a@b.example")


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (PersonalFields(given_name="x" * 101), "given_name"),
        (PersonalFields(family_name="a\u0007b"), "family_name"),
        (PersonalFields(family_name="\ud800"), "family_name"),
        (PersonalFields(phone="89123456789"), "phone"),
        (PersonalFields(phone="+7912345678901234"), "phone"),
        (PersonalFields(email="anna"), "email"),
        (PersonalFields(email="a b@example.org"), "email"),
        (PersonalFields(birthday="1990-02-30"), "birthday"),
        (PersonalFields(birthday="19900228"), "birthday"),
        (PersonalFields(birthday="2026-05-02"), "birthday"),
        (PersonalFields(birthday="1850-01-01"), "birthday"),
        (PersonalFields(language="Deutsch"), "language"),
        (PersonalFields(consents={"Marketing!": True}), "consents"),
        (PersonalFields(consents={f"c{i}": True for i in range(17)}), "consents"),
        (PersonalFields(attributes={f"a{i}": "x" for i in range(33)}), "attributes"),
        (PersonalFields(attributes={"note": "x" * 201}), "attributes"),
        (PersonalFields(attributes={"note": "\u0000"}), "attributes"),
    ],
)
def test_a_wrong_value_is_named_and_not_repeated(given: PersonalFields, field: str) -> None:
    _, faults = tidied(given, TODAY)
    assert [name for name, _ in faults] == [field]
    values = [str(value) for value in given.told().values() if isinstance(value, str)]
    assert not any(value in what for _, what in faults for value in values)
