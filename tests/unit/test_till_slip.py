from io import StringIO

from rich.console import Console

from protocol.answers import Answer, balance_detail, encode_body, provisional_detail
from protocol.requests import BalanceRequest, Card
from protocol.ticket import Reply
from server.till.slip import as_json, print_reply

REQUEST = BalanceRequest(bytes(16), 0, Card(1, "2000000000015"))


def reply(detail: bytes, outcome: int = 0) -> Reply:
    answer = Answer.from_body(encode_body(outcome, 0, 0, (1250, 0, 0, 0, 0, 0), (), detail))
    return Reply(*(getattr(answer, name) for name in Answer.__dataclass_fields__), request_id=bytes(16))


def printed(shown: Reply) -> str:
    console = Console(file=StringIO(), width=60)
    print_reply(console, REQUEST, shown, "Corner shops", "EUR")
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_provisional_balance_is_shown_as_such() -> None:
    for outcome in (0, 105):
        assert "Provisional: may still change" in printed(reply(provisional_detail(), outcome))
        assert as_json(REQUEST, reply(provisional_detail(), outcome))["provisional"] is True


def test_the_age_of_a_provisional_balance_is_shown_where_it_is_told() -> None:
    assert "Provisional: as it was 7 min ago" in printed(reply(provisional_detail(7 * 60_000 + 59_999)))
    assert "Provisional: as it was 59 s ago" in printed(reply(provisional_detail(59_999)))
    assert as_json(REQUEST, reply(provisional_detail(5)))["age_ms"] == 5
    assert "age_ms" not in as_json(REQUEST, reply(provisional_detail()))


def test_any_other_balance_is_not() -> None:
    assert "Provisional" not in printed(reply(balance_detail("Anna")))
    assert as_json(REQUEST, reply(balance_detail("Anna")))["provisional"] is False
