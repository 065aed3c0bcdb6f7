from ledger.journal.writer import CardChange, last_words


def test_a_card_that_came_and_was_blocked_at_once_keeps_its_kind_and_mask() -> None:
    came = CardChange(b"a" * 16, 7, 1, 1, "ean13:2000*****0015")
    blocked = CardChange(b"a" * 16, 7, 2, 0, "")
    other = CardChange(b"b" * 16, 8, 2, 0, "")
    assert last_words([came, other, blocked]) == {
        came.token: CardChange(came.token, 7, 2, 1, "ean13:2000*****0015"),
        other.token: other,
    }
