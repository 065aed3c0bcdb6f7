"""Entries and balances as sentences, in both languages, without an engine."""

from datetime import UTC, datetime
from typing import Any

import pytest

from admin_api.accounts.accounts import AccountView, BalanceView, LotView
from admin_api.accounts.at_register import AtNetwork
from admin_api.accounts.history import Asker, CardChange, EntryView
from admin_api.accounts.history_finding import Moment
from admin_api.console.account_words import balance_sentences, network_sentence
from admin_api.console.entry_words import happened, told
from admin_api.console.words import LANGUAGES, Words, texts
from ledger.operations import Operation

AT_MS = int(datetime(2026, 3, 12, 14, 5, tzinfo=UTC).timestamp()) * 1_000
EN, RU = Words("en", UTC), Words("ru", UTC)


def entry(operation: str, **fields: Any) -> EntryView:
    given: dict[str, Any] = {
        "account_id": 7, "seq": 1, "at_ms": AT_MS, "sale_ms": AT_MS, "request_id": "ab" * 16, "refers_to": None,
        "standing": "stands", "partner": "P", "network_id": 1, "network": "Harvest Market", "store_id": 1,
        "store": "Mill Street", "terminal_id": 1, "terminal": "2", "amount": 0, "currency": "EUR", "reference": "",
        "points": 0, "spent": 0, "earned": 0, "expired": 0, "held": 0, "owed": 0, "balance_after": 1_200,
        "held_after": 0, "owed_after": 0, "hold_until_ms": None, "cards": [], "by": None,
    }  # fmt: skip
    return EntryView(operation=operation, **{**given, **fields})


def card(masked: str | None) -> CardChange:
    return CardChange(card="00" * 16, masked=masked, status="active")


@pytest.mark.parametrize(
    ("made", "english", "russian"),
    [
        (
            entry("sale", amount=2_500, spent=500, earned=100, points=-400),
            "Bought for €25.00, spent 5.00 points, earned 1.00 points.",
            "Покупка на 25,00\u00a0€, списано 5,00 балла, начислено 1,00 балла.",
        ),
        (
            entry("earn", amount=2_500, earned=100, points=60, owed=-40),
            "Bought for €25.00, earned 1.00 points, 0.40 of them paid what was owed.",
            "Покупка на 25,00\u00a0€, начислено 1,00 балла, из них 0,40 ушло на погашение долга.",
        ),
        (
            entry("sale", amount=100), "Bought for €1.00, earned nothing.",
            "Покупка на 1,00\u00a0€, ничего не начислено.",
        ),
        (entry("redeem", spent=500, points=-500), "Spent 5.00 points.", "Списано 5,00 балла."),
        (
            entry("capture", spent=150, held=-200, points=-150),
            "Spent 1.50 of the points set aside, 0.50 points set aside became free again.",
            "Из отложенных списано 1,50 балла, отложенные 0,50 балла снова свободны.",
        ),
        (
            entry("refund", amount=1_000, earned=-300, points=-100, owed=200),
            (
                "Goods for €10.00 were returned, 3.00 earned points were taken back, "
                "2.00 points that were not there are owed."
            ),
            "Возврат товара на 10,00\u00a0€, снято 3,00 начисленных балла, недостающие 2,00 балла записаны в долг.",
        ),
        (
            entry("reverse", spent=-100, points=100), "The register undid it, got 1.00 points back.",
            "Операция отменена кассой, возвращено 1,00 балла.",
        ),
        (
            entry("reverse"), "The register undid it, nothing had to be changed.",
            "Операция отменена кассой, менять ничего не пришлось.",
        ),
        (entry("expire_lots", points=-250), "2.50 points expired.", "Сгорело 2,50 балла."),
        (
            entry("expire_hold", held=-300),
            "A purchase was not ended in time, 3.00 points set aside became free again.",
            "Покупку вовремя не завершили, отложенные 3,00 балла снова свободны.",
        ),
        (
            entry("adjust", points=700, owed=-300),
            "10.00 points were given by hand, 3.00 of them paid what was owed.",
            "Вручную начислено 10,00 балла, из них 3,00 ушло на погашение долга.",
        ),
        (
            entry("adjust", points=-400, owed=600),
            "10.00 points were taken by hand, 6.00 points that were not there are owed.",
            "Вручную списано 10,00 балла, недостающие 6,00 балла записаны в долг.",
        ),
        (
            entry("replace", cards=[card("2000*0015"), card("2000*0022")]),
            "Card 2000*0015 was replaced by 2000*0022.", "Карта 2000*0015 заменена на 2000*0022.",
        ),
        (
            entry("block", cards=[card(None)]), "Card that is no longer known was blocked.",
            "Карта (уже неизвестна) заблокирована.",
        ),
        (
            entry("merge_in", points=4_200), "Took over another account, 42.00 points.",
            "Принял другой счёт, 42,00 балла.",
        ),
        (entry("block_account"), "Account blocked.", "Счёт заблокирован."),
    ],
)  # fmt: skip
def test_an_entry_is_a_sentence(made: EntryView, english: str, russian: str) -> None:
    assert happened(EN, made) == english
    assert happened(RU, made) == russian


def test_every_operation_has_a_sentence() -> None:
    for operation in Operation:
        for words in (EN, RU):
            sentence = happened(words, entry(operation.name.lower(), points=1, spent=1, held=1))
            assert sentence.endswith(".")
            assert "{" not in sentence


def test_where_and_when_and_why_are_said() -> None:
    (one,) = told(EN, [entry("sale", amount=2_500, earned=100, points=100, reference="R-7", standing="refunded")], {})
    assert (one.when, one.where) == ("12 March 2026, 14:05", "Harvest Market, Mill Street, till 2")
    assert (one.receipt, one.standing, one.change, one.balance) == (
        "Receipt R-7", ("refunded", "returned later"), "+1.00", "12.00",
    )  # fmt: skip
    by = Asker(actor="user:3", name="Anna", action="card.block", reason="stolen")
    (one,) = told(EN, [entry("block", terminal=None, store=None, network=None, by=by, reference="stolen")], {})
    assert (one.where, one.by, one.receipt) == ("In the office", "By Anna: stolen.", "")
    (one,) = told(RU, [entry("expire_lots", terminal=None, points=-1, request_id=None)], {})
    assert (one.where, one.change) == ("Само собой", "\u22120,01")
    (one,) = told(EN, [entry("sale", amount=1, earned=1, sale_ms=AT_MS - 86_400_000)], {})
    assert one.late == "The sale was on 11 March 2026, 14:05; the register told it later."


def test_what_an_entry_belongs_to_is_named() -> None:
    target = "cd" * 16
    refund = entry("refund", seq=2, refers_to=target)
    here, _ = told(EN, [refund, entry("sale", request_id=target)], {})
    assert here.refers == ("#e1", "This belongs to: Sale, 12 March 2026, 14:05")
    (there,) = told(EN, [refund], {target: Moment(7, "sale", AT_MS)})
    assert there.refers == (f"/requests/{target}", "This belongs to: Sale, 12 March 2026, 14:05")
    (elsewhere,) = told(EN, [refund], {target: Moment(9, "merge_out", AT_MS)})
    assert elsewhere.refers is not None
    assert elsewhere.refers[1].endswith("on account 9")


def test_a_balance_is_said_with_what_expires_next() -> None:
    account = AccountView(
        account_id=7, status="active", merged_into=None, entries=3, holds=[], cards=[],
        balance=BalanceView(
            available=1_200, held=500, pending=300, owed=50, expiring=400, expiring_on="2026-12-31"
        ),
        lots=[LotView(from_day="2026-04-01", until_day=None, free=300, held=0)],
    )  # fmt: skip
    assert " ".join(balance_sentences(EN, account, "2026-03-12")) == (
        "12.00 points can be spent now. 4.00 of them expire after 31 December 2026. 5.00 more are set aside for "
        "purchases under way. 3.00 more can be spent later, the first of them from 1 April 2026 on. Together this is "
        "a balance of 20.00. 0.50 points are owed: they are taken from what is earned next."
    )
    assert "Из них 4,00 сгорят после 31 декабря 2026." in balance_sentences(RU, account, "2026-03-12")


def test_what_a_network_lets_somebody_spend_is_said() -> None:
    limited = AtNetwork("Harvest Market", 1_200, None, 100, 5_000)
    assert network_sentence(EN, limited) == (
        "Up to 12.00 points can be spent at once, at least 1.00, and at most 50% of a receipt."
    )
    assert network_sentence(RU, limited).endswith("до 12,00 балла, не меньше 1,00, и не больше 50% чека.")
    assert network_sentence(EN, AtNetwork("H", 700, None, 0, 10_000)) == "Up to 7.00 points can be spent at once."
    assert network_sentence(EN, AtNetwork("H", 0, "insufficient", 0, 10_000)) == "Declined: not enough points."


def test_both_languages_have_the_same_texts() -> None:
    def kept(language: str) -> set[str]:
        return {key for key in texts(language) if key.rpartition(".")[2] not in ("few", "many")}

    first, *others = map(kept, LANGUAGES)
    assert all(first == other for other in others)
