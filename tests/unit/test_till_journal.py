"""The till's journal: what was put before sending is still there after the plug was pulled, and nothing else is."""

import os
from pathlib import Path

from protocol.requests import Card, Receipt, RedeemRequest, ReverseRequest
from server.till.journal import JOURNAL_FILE, TillJournal

CARD = Card(1, "2000000000015")


def _redeem(number: int) -> RedeemRequest:
    return RedeemRequest(number.to_bytes(16), 0, CARD, 500, Receipt(2500, "EUR", "0042-1"))


def _pull_the_plug(journal: TillJournal) -> None:
    """End a till as kill -9 does: its files are closed and its locks fall, and nothing is tidied up."""
    os.close(journal._file)
    os.close(journal._lock)


def test_what_had_no_answer_is_an_orphan_of_the_next_run(tmp_path: Path) -> None:
    journal = TillJournal(tmp_path, "T-1")
    journal.__enter__()
    for number in (1, 2, 3):
        journal.put(_redeem(number))
    journal.done(_redeem(2).request_id)
    _pull_the_plug(journal)
    with TillJournal(tmp_path, "T-2") as later:
        assert [orphan.request for orphan in later.orphans] == [_redeem(1), _redeem(3)]
        assert {orphan.terminal_id for orphan in later.orphans} == {"T-1"}
        later.done(_redeem(1).request_id)
    with TillJournal(tmp_path, "T-2") as last:
        assert [orphan.request for orphan in last.orphans] == [_redeem(3)]


def test_a_reversal_takes_the_place_of_its_original(tmp_path: Path) -> None:
    reversal = ReverseRequest(bytes(15) + b"\x09", 0, CARD, _redeem(1).request_id)
    with TillJournal(tmp_path, "T-1") as journal:
        journal.put(_redeem(1))
        journal.replace(_redeem(1), reversal)
        journal.put(reversal)
    with TillJournal(tmp_path, "T-1") as later:
        assert [orphan.request for orphan in later.orphans] == [reversal]
        later.done(reversal.request_id)
    with TillJournal(tmp_path, "T-1") as last:
        assert last.orphans == []


def test_a_torn_line_was_never_sent_and_harms_nobody(tmp_path: Path) -> None:
    journal = TillJournal(tmp_path, "T-1")
    journal.__enter__()
    journal.put(_redeem(1))
    journal.put(_redeem(2))
    path = tmp_path / JOURNAL_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with TillJournal(tmp_path, "T-1") as beside:
        beside.put(_redeem(3))
        _pull_the_plug(journal)
    with TillJournal(tmp_path, "T-1") as later:
        assert [orphan.request for orphan in later.orphans] == [_redeem(1), _redeem(3)]


def test_a_request_of_a_till_that_still_runs_is_no_orphan(tmp_path: Path) -> None:
    with TillJournal(tmp_path, "T-1") as one:
        one.put(_redeem(1))
        with TillJournal(tmp_path, "T-1") as other:
            assert other.orphans == []
        one.done(_redeem(1).request_id)
    assert (tmp_path / JOURNAL_FILE).read_bytes() == b""


def test_only_the_owner_may_read_it_and_cards_do_not_stay(tmp_path: Path) -> None:
    with TillJournal(tmp_path, "T-1") as journal:
        journal.put(_redeem(1))
        assert (tmp_path / JOURNAL_FILE).stat().st_mode & 0o777 == 0o600
        assert CARD.value.encode().hex().encode() in (tmp_path / JOURNAL_FILE).read_bytes()
        journal.done(_redeem(1).request_id)
    assert (tmp_path / JOURNAL_FILE).read_bytes() == b""
    assert (tmp_path / JOURNAL_FILE).stat().st_mode & 0o777 == 0o600
