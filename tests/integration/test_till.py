"""`tillwire till` against a small real server: every operation, its exit code, its JSON, its slip, and its journal."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from protocol.answers import Balance, encode_body, hold_detail, status_detail
from protocol.codes import BlockReason, ErrorCode, Message, Outcome, StatusState
from protocol.requests import (
    BlockRequest,
    CaptureRequest,
    Card,
    EarnRequest,
    Receipt,
    RefundRequest,
    ReplaceRequest,
    Request,
    ReverseRequest,
    SaleRequest,
)
from server.commands.till import till_app
from server.till.journal import JOURNAL_FILE, TillJournal
from tests.rigs.misbehaving_server import BODY, SECRET, MisbehavingServer, Till

CARD = ["--card", "2000000000015"]
ID = "0197c0de-0000-7000-8000-000000000001"


@pytest.fixture
def server() -> Iterator[MisbehavingServer]:
    server = MisbehavingServer()
    yield server
    server.close()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: MisbehavingServer) -> Path:
    monkeypatch.setenv("TILLWIRE_DATA_DIR", str(tmp_path))
    monkeypatch.setenv("TILLWIRE_LISTEN_PORT", str(server.port))
    monkeypatch.setenv("COLUMNS", "100")
    (tmp_path / "terminals.toml").write_text(f'[terminals.T-0001]\nsecret = "{SECRET}"\n')
    return tmp_path


def _till(*words: str, typed: str | None = None) -> Result:
    result = CliRunner().invoke(till_app, list(words), input=typed)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def _shown(*words: str) -> dict[str, Any]:
    result = _till(*words, "--json")
    assert result.exit_code == 0, result.output
    shown = json.loads(result.stdout)
    assert isinstance(shown, dict)
    return shown


@pytest.mark.parametrize(
    ("words", "op"),
    [
        (["balance", *CARD], Message.BALANCE),
        (["redeem", *CARD, "--points", "5"], Message.REDEEM),
        (["capture", *CARD, "--hold", ID], Message.CAPTURE),
        (["release", *CARD, "--hold", ID], Message.RELEASE),
        (["earn", *CARD, "--amount", "20"], Message.EARN),
        (["sale", *CARD, "--amount", "25"], Message.SALE),
        (["refund", *CARD, "--original", ID], Message.REFUND),
        (["reverse", *CARD, "--original", ID], Message.REVERSE),
        (["activate", *CARD], Message.ACTIVATE),
        (["block", *CARD], Message.BLOCK),
        (["replace", *CARD, "--new-card", "virtual:wallet-7Hq2ZkP0"], Message.REPLACE),
    ],
)
def test_every_operation_approved(server: MisbehavingServer, words: list[str], op: Message) -> None:
    result = _till(*words)
    assert result.exit_code == 0, result.output
    assert op.name in result.stdout
    assert "APPROVED" in result.stdout
    shown = _shown(*words)
    assert (shown["operation"], shown["approved"], shown["outcome_code"]) == (op.name, True, 0)
    assert [request.op for request in server.requests] == [op, op]
    assert server.requests[0].request_id != server.requests[1].request_id


def test_an_option_before_the_command_holds_and_one_after_it_wins(server: MisbehavingServer) -> None:
    before = _till("--json", "--patience", "9", "balance", *CARD)
    assert json.loads(before.stdout)["approved"] is True
    unreachable = _till("--port", "1", "balance", *CARD)
    assert unreachable.exit_code == 2, unreachable.output
    assert len(server.requests) == 1
    port = str(server.port)
    assert _till("--port", "1", "balance", *CARD, "--port", port).exit_code == 0


def test_what_is_typed_arrives_exactly(server: MisbehavingServer) -> None:
    receipt = ["--amount", "268.28", "--reference", "0042-4"]
    _shown("sale", *CARD, *receipt, "--points", "12.5", "--partial", "--eligible", "0.07", "--request-id", ID)
    _shown("capture", *CARD, "--hold", ID, "--points", "3", "--amount", "25")
    _shown("earn", *CARD, "--amount", "20", "--offline", "--sale-time", "2026-09-13T14:00:00.123+02:00")
    _shown("refund", *CARD, "--original", ID, "--amount", "10")
    _shown("block", *CARD, "--reason", "stolen")
    _shown("replace", *CARD, "--new-card", "+4915112345678")
    sale, capture, earn, refund, block, replace = server.requests
    assert isinstance(sale, SaleRequest)
    assert sale.request_id.hex() == ID.replace("-", "")
    assert (sale.receipt, sale.points, sale.allow_partial) == (Receipt(26828, "EUR", "0042-4"), 1250, True)
    assert sale.eligible_amount == 7
    assert isinstance(capture, CaptureRequest)
    assert (capture.hold_id, capture.points, capture.receipt.amount) == (sale.request_id, 300, 2500)
    assert isinstance(earn, EarnRequest)
    assert (earn.offline, earn.sale_time_ms) == (True, 1_789_300_800_123)
    assert isinstance(refund, RefundRequest)
    assert (refund.original_id, refund.receipt.amount) == (sale.request_id, 1000)
    assert isinstance(block, BlockRequest)
    assert block.reason == BlockReason.STOLEN
    assert isinstance(replace, ReplaceRequest)
    assert replace.new_card == Card(4, "+4915112345678")


def test_json_of_balance_hold_and_status(server: MisbehavingServer) -> None:
    assert _shown("balance", *CARD)["greeting"] == "Anna"
    held = encode_body(
        Outcome.APPROVED_PARTIAL, 320, 0, Balance(0, 320, 0, 0, 0, 0), (), hold_detail(1_789_301_400_000)
    )
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, held)]
    shown = _shown("hold", *CARD, "--points", "5", "--partial", "--seconds", "600")
    assert (shown["outcome"], shown["points"], shown["hold_until_ms"]) == ("APPROVED_PARTIAL", 320, 1_789_301_400_000)
    found = encode_body(0, 0, 0, None, (), status_detail(StatusState.STANDS, BODY))
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, found)] * 2
    shown = _shown("status", *CARD, "--original", ID)
    assert (shown["state"], shown["original"]["points"], shown["balance"]) == ("STANDS", 500, None)
    assert "STANDS" in _till("status", *CARD, "--original", ID).stdout


def test_the_slip_of_a_sale(server: MisbehavingServer) -> None:
    sold = encode_body(0, 500, 100, Balance(850, 0, 100, 0, 250, 20261231), ["Spent 5.00 points", "[bold] thanks"])
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, True, sold)]
    slip = _till("sale", *CARD, "--amount", "25", "--points", "5", "--request-id", ID).stdout
    rows = [" ".join(line.strip("│╭╮╰╯─ ").split()) for line in slip.splitlines()]
    assert rows == [
        "Demo Grocery",
        "SALE APPROVED",
        "Receipt 25.00 EUR",
        "Points spent 5.00",
        "To pay 20.00 EUR",
        "Points earned 1.00",
        "Balance 8.50",
        "Not yet spendable 1.00",
        "Expiring after 2026-12-31 2.50",
        "",
        "Spent 5.00 points",
        "[bold] thanks",
        f"{ID} (replay)",
    ]
    assert len({len(line) for line in slip.splitlines()}) == 1


def test_exit_codes(server: MisbehavingServer) -> None:
    declined = encode_body(Outcome.INSUFFICIENT, 0, 0, Balance(320, 0, 0, 0, 0, 0))
    server.script = [lambda till, request: till.connection.send_answer(request.request_id, False, declined)]
    result = _till("redeem", *CARD, "--points", "5")
    assert result.exit_code == 1
    assert "INSUFFICIENT" in result.stdout
    server.script = [lambda till, request: till.refuse(request, ErrorCode.ID_REUSED)]
    result = _till("redeem", *CARD, "--points", "5", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "ID_REUSED"


@pytest.mark.parametrize(
    "words",
    [
        ["balance", "--card", "12"],
        ["redeem", *CARD, "--points", "5.001"],
        ["redeem", *CARD, "--points", "five"],
        ["balance", *CARD, "--request-id", "7"],
        ["balance", *CARD, "--terminal", "T-9"],
        ["earn", *CARD, "--amount", "1", "--sale-time", "yesterday"],
        ["earn", *CARD, "--amount", "1", "--sale-time", "2026-09-13T12:00:00"],
        ["balance", *CARD, "--ca-file", "/does/not/exist"],
        ["balance"],
    ],
)
def test_bad_input_is_an_error_and_nothing_is_sent(server: MisbehavingServer, words: list[str]) -> None:
    result = _till(*words)
    assert result.exit_code == 2
    assert result.stderr != ""
    assert server.requests == []


def test_a_wrong_secret_and_no_server(server: MisbehavingServer, folder: Path) -> None:
    (folder / "secret").write_text("wrong")
    result = _till("redeem", *CARD, "--points", "5", "--secret-file", str(folder / "secret"))
    assert result.exit_code == 2
    assert "not wanted" in result.stderr
    result = _till("balance", *CARD, "--port", "1", "--patience", "1", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "NO_ANSWER"


def test_a_request_in_doubt_is_in_the_journal_and_can_be_resolved(server: MisbehavingServer, folder: Path) -> None:
    server.script = [lambda _till, _request: None] * 100
    result = _till("redeem", *CARD, "--points", "5", "--request-id", ID, "--patience", "1", "--json")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"] == "IN_DOUBT"
    assert (folder / JOURNAL_FILE).read_bytes() != b""
    server.script = []
    result = _till("balance", *CARD)
    assert "till resolve" in result.stderr
    result = _till("resolve", "--json")
    assert result.exit_code == 0
    resolved = server.requests[-1]
    assert isinstance(resolved, ReverseRequest)
    assert resolved.original_id.hex() == ID.replace("-", "")
    assert (folder / JOURNAL_FILE).read_bytes() == b""
    assert "has its answer" in _till("resolve").stderr


def test_orphans_of_a_killed_till(server: MisbehavingServer, folder: Path) -> None:
    card, receipt = Card(1, "2000000000015"), Receipt(2500, "EUR")
    sale = SaleRequest(bytes(15) + b"\x01", 0, card, receipt, 500)
    earn = EarnRequest(bytes(15) + b"\x02", 0, card, receipt, None, 1_789_300_800_000)
    with TillJournal(folder, "T-0001") as journal:
        journal.put(sale)
        journal.put(earn)
    result = _till(typed="y\nquit\n")
    assert result.exit_code == 0, result.output
    reversal, advice = server.requests
    assert isinstance(reversal, ReverseRequest)
    assert reversal.original_id == sale.request_id
    assert isinstance(advice, EarnRequest)
    assert (advice.request_id, advice.offline) == (earn.request_id, True)
    assert (folder / JOURNAL_FILE).read_bytes() == b""


def test_the_prompt(server: MisbehavingServer) -> None:
    sold = encode_body(0, 500, 100, None)

    def answer(till: Till, request: Request) -> None:
        if request.op is Message.SALE:
            till.connection.send_answer(request.request_id, False, sold)
        else:
            till.approve(request)

    server.script = [answer] * 100
    lines = [
        "sale 25.00",
        "card 2000000000015",
        "sale 25.00 spend 5",
        "sale 12 spend all",
        "",
        "nonsense",
        "sale 'x",
        "earn",
        "earn 20",
        "undo",
        "refund 1.50",
        "hold 3 of 10",
        "capture 2",
        "help",
        "block lost",
        "quit",
        "balance",
    ]
    result = _till(typed="\n".join(lines))
    assert result.exit_code == 0, result.output
    operations = [request.op.name for request in server.requests]
    assert operations == ["BALANCE", "SALE", "SALE", "EARN", "REVERSE", "REFUND", "HOLD", "CAPTURE", "BLOCK"]
    _, first, second, earn, undo, refund, hold, capture, block = server.requests
    assert isinstance(first, SaleRequest)
    assert (first.receipt.amount, first.points, first.allow_partial) == (2500, 500, False)
    assert isinstance(second, SaleRequest)
    assert (second.receipt.amount, second.points, second.allow_partial) == (1200, 1200, True)
    assert isinstance(undo, ReverseRequest)
    assert undo.original_id == earn.request_id
    assert isinstance(refund, RefundRequest)
    assert (refund.original_id, refund.receipt.amount) == (second.request_id, 150), "the undone EARN is no receipt"
    assert isinstance(capture, CaptureRequest)
    assert (capture.hold_id, capture.points) == (hold.request_id, 200)
    assert isinstance(block, BlockRequest)
    assert block.reason == BlockReason.LOST
    assert "no card yet" in result.stdout
    assert "usage: earn AMOUNT" in result.stdout
    assert "To pay" in result.stdout
    assert "undo" in result.stdout


def test_the_prompt_without_a_server() -> None:
    result = _till("--port", "1", "--patience", "1", typed="quit\n")
    assert result.exit_code == 2
    assert "no server at 127.0.0.1:1" in result.stderr


def test_requests_are_on_disk_before_they_are_sent(
    server: MisbehavingServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bytes] = []
    fsync = os.fsync

    def watch(file: int) -> None:
        fsync(file)
        synced.append((folder / JOURNAL_FILE).read_bytes())

    def check(till: Till, request: Request) -> None:
        assert any(request.request_id.hex().encode() in content for content in synced)
        till.approve(request)

    monkeypatch.setattr(os, "fsync", watch)
    server.script = [check]
    _shown("redeem", *CARD, "--points", "5")
    assert len(server.requests) == 1
