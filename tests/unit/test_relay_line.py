"""Both ends of a relay's line: sessions, sequences, the clock, the bounds (SPEC.md, section 25)."""

import os
from itertools import count

import pytest

from protocol.fields import Malformed
from protocol.relay_keys import NotGenuine, RelayCredential, Seal
from protocol.relay_line import CLOCK_PERIOD_MS, WINDOW, BridgeSession, RelayLine, Repeated, SequenceWindow
from protocol.relay_messages import (
    DATA_EXTRA_BYTES_MAX,
    ITEM_EXTRA_BYTES_MAX,
    ITEMS_MAX,
    PUBLICATION_BYTES_MAX,
    Data,
    Hello,
    LineLimits,
    ReplyItem,
    Report,
    RequestItem,
    RosterQuery,
    UpItem,
    Welcome,
    read_publication,
)

LIMITS = LineLimits(256, 64, 1_000, 10_000, 5_000, 30_000)
CREDENTIAL = RelayCredential("demo", "0042", "R-0042", 1, bytes(range(32)))
REQUEST = RequestItem("T-0001", b"request")


def hello_of(line: RelayLine) -> Hello:
    said = read_publication(line.hello(0))
    assert isinstance(said, Hello)
    return said


def welcome_of(session: BridgeSession, server_time_ms: int = 1_000_000) -> Welcome:
    answered = read_publication(session.welcome("bridge", server_time_ms, LIMITS))
    assert isinstance(answered, Welcome)
    return answered


def data_of(payload: bytes) -> Data:
    sent = read_publication(payload)
    assert isinstance(sent, Data)
    return sent


def new_line() -> RelayLine:
    return RelayLine(CREDENTIAL, "test", os.urandom)


def session_for(hello: Hello) -> BridgeSession:
    return BridgeSession(hello, CREDENTIAL.key, CREDENTIAL.topic, os.urandom)


def pair(server_time_ms: int = 1_000_000, now_ms: int = 0) -> tuple[RelayLine, BridgeSession]:
    """Both ends of a new session."""
    line = new_line()
    session = session_for(hello_of(line))
    line.welcomed(welcome_of(session, server_time_ms), now_ms)
    return line, session


def test_a_publication_is_taken_once_and_in_any_order() -> None:
    line, session = pair()
    sent = [data_of(line.close([RosterQuery(number)], 0)) for number in range(5)]
    taken = [session.open(sent[number])[1] for number in (4, 0, 3, 1, 2)]
    assert taken == [[RosterQuery(number)] for number in (4, 0, 3, 1, 2)]
    for data in sent:
        with pytest.raises(Repeated):
            session.open(data)


def test_the_window_remembers_exactly_so_many() -> None:
    window = SequenceWindow()
    window.take(WINDOW + 10)
    window.take(11)
    for old in (10, 1, 11, WINDOW + 10):
        with pytest.raises(Repeated):
            window.take(old)
    window.take(2**53 - 1)
    with pytest.raises(Repeated):
        window.take(12)
    window.take(2**53 - WINDOW)


def test_what_is_not_genuine_does_not_move_the_window() -> None:
    line, session = pair()
    data = data_of(line.close([REQUEST], 0))
    for forged in (data._replace(sequence=90_000), data._replace(sealed=bytes(40)), data._replace(sealed=b"")):
        with pytest.raises(NotGenuine):
            session.open(forged)
    assert session.open(data)[1] == [REQUEST]


def test_what_is_sent_back_to_its_sender_is_refused() -> None:
    line, session = pair()
    with pytest.raises(NotGenuine):
        line.open(data_of(line.close([REQUEST], 0)), 0)
    with pytest.raises(NotGenuine):
        session.open(data_of(session.close([ReplyItem("T-0001", b"answer")], 0, 1)))


def test_a_repeated_hello_makes_a_session_whose_keys_nobody_has_but_the_relay() -> None:
    line = new_line()
    hello = hello_of(line)
    session, other = session_for(hello), session_for(hello)
    assert session.relay_nonce == other.relay_nonce
    assert session.session_id != other.session_id
    line.welcomed(welcome_of(session), 0)
    data = data_of(line.close([REQUEST], 0))
    for forged in (data, data._replace(session_id=other.session_id)):
        with pytest.raises(NotGenuine):
            other.open(forged)
    assert session.open(data)[1] == [REQUEST]


def test_only_the_last_hello_is_answered_and_only_once() -> None:
    line = new_line()
    early = welcome_of(session_for(hello_of(line)))
    session = session_for(hello_of(line))
    with pytest.raises(NotGenuine):
        line.welcomed(early, 0)
    line.welcomed(welcome_of(session), 0)
    with pytest.raises(NotGenuine):
        line.welcomed(welcome_of(session), 0)
    assert line.session_id == session.session_id


def test_a_session_is_in_use_until_the_next_one_is_there() -> None:
    line, old = pair()
    hello = hello_of(line)
    assert old.open(data_of(line.close([REQUEST], 0)))[1] == [REQUEST]
    assert line.open(data_of(old.close([], 0, 1)), 0)[2] == []
    late = data_of(old.close([], 0, 1))
    new = session_for(hello)
    line.welcomed(welcome_of(new), 0)
    with pytest.raises(NotGenuine):
        line.open(late, 0)
    with pytest.raises(NotGenuine):
        old.open(data_of(line.close([REQUEST], 0)))


def test_the_same_sequence_in_two_sessions_is_sealed_with_two_keys() -> None:
    (one, _), (other, _) = pair(), pair()
    first, second = data_of(one.close([REQUEST], 0)), data_of(other.close([REQUEST], 0))
    assert first.sequence == second.sequence == 1
    assert first.sealed != second.sealed


def test_no_two_publications_of_a_session_have_one_sequence() -> None:
    line, session = pair()
    up = [data_of(line.close([], 0)).sequence for _ in range(50)]
    down = [data_of(session.close([], 0, 0)).sequence for _ in range(50)]
    assert up == down == list(range(1, 51))


def test_a_line_without_a_session_sends_and_takes_nothing() -> None:
    line, session = pair()
    assert line.ready
    line.end()
    line.end()
    assert not line.ready
    assert line.session_id is None
    with pytest.raises(RuntimeError):
        line.close([REQUEST], 0)
    with pytest.raises(NotGenuine):
        line.open(data_of(session.close([], 0, 1)), 0)
    with pytest.raises(RuntimeError):
        new_line().server_time_ms(0)


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(Malformed, match="version"):
        session_for(hello_of(new_line())._replace(version=2))


# The clock.


@pytest.mark.parametrize("later_ms", [9_000, CLOCK_PERIOD_MS - 1, CLOCK_PERIOD_MS, CLOCK_PERIOD_MS + 60_000])
def test_what_took_long_does_not_set_the_clock_back(later_ms: int) -> None:
    line, session = pair(server_time_ms=999_000, now_ms=0)
    line.open(data_of(session.close([], 1_001_000, 1)), 1_000)
    line.open(data_of(session.close([], 1_000_000 + later_ms - 8_000, 1)), later_ms)
    assert line.server_time_ms(later_ms) == 1_000_000 + later_ms


def test_a_welcome_that_took_long_is_made_up_for_by_the_first_quick_answer() -> None:
    line, session = pair(server_time_ms=1_000_000, now_ms=4_000)
    assert line.server_time_ms(4_000) == 1_000_000
    line.open(data_of(session.close([], 1_004_090, 1)), 4_100)
    assert line.server_time_ms(4_100) == 1_004_090
    assert data_of(line.close([], 4_200)).sequence == 1


def test_the_clock_follows_for_days_whichever_way_the_oscillator_is_off() -> None:
    for parts_per_million in (-200, 200):
        line, session = pair(server_time_ms=1_000_000, now_ms=0)
        for beat in range(1, 8_641):
            true_ms = 1_000_000 + beat * 20_000
            now_ms = beat * 20_000 * (1_000_000 + parts_per_million) // 1_000_000
            line.open(data_of(session.close([], true_ms - 40, 1)), now_ms)
            assert abs(line.server_time_ms(now_ms) - true_ms) < 200


def test_a_bridge_whose_clock_was_set_back_is_believed_after_a_while() -> None:
    line, session = pair(server_time_ms=10_000_000, now_ms=0)
    for now_ms in range(10_000, 2 * CLOCK_PERIOD_MS + 20_000, 10_000):
        line.open(data_of(session.close([], now_ms, 1)), now_ms)
    assert line.server_time_ms(now_ms) == now_ms


def test_a_repeated_publication_does_not_set_the_clock() -> None:
    line, session = pair(server_time_ms=1_000_000, now_ms=50_000)
    data = data_of(session.close([], 1_000_000, 1))
    line.open(data, 50_000)
    with pytest.raises(Repeated):
        line.open(data, 10)
    assert line.server_time_ms(50_000) == 1_000_000


# The bounds.


def test_a_payload_above_the_limit_is_not_read() -> None:
    body = bytes(PUBLICATION_BYTES_MAX)
    largest = b"\x94\x03\xc4\x10" + bytes(16) + b"\x01\xc6" + (PUBLICATION_BYTES_MAX - 26).to_bytes(4) + body[:-26]
    assert len(largest) == PUBLICATION_BYTES_MAX
    assert isinstance(read_publication(largest), Data)
    with pytest.raises(Malformed, match="publication"):
        read_publication(largest + b"\x00")


def test_a_publication_above_the_limit_is_not_made_and_the_session_goes_on() -> None:
    line, session = pair()
    with pytest.raises(ValueError, match="above"):
        line.close([RequestItem("T-0001", bytes(65_000))] * 5, 0)
    with pytest.raises(ValueError, match="above"):
        session.close([ReplyItem("T-0001", bytes(65_000))] * 5, 0, 1)
    assert session.open(data_of(line.close([REQUEST], 0)))[1] == [REQUEST]


def test_the_room_that_items_are_counted_with_is_enough() -> None:
    line, _ = pair()
    widest = 2**53 - 1
    for size in (0, 255, 256, 65_535, 65_536):
        item = RequestItem("T" * 64, bytes(size), widest, bytes(16))
        payload = line.close([item], widest)
        assert len(payload) <= size + ITEM_EXTRA_BYTES_MAX + DATA_EXTRA_BYTES_MAX
        for extra in (item, Report(widest, widest, widest, widest), ReplyItem("T" * 64, bytes(size))):
            more = len(line.close([item, extra], widest)) - len(payload)  # type: ignore[list-item] # any item will do
            assert more <= len(getattr(extra, "message", b"")) + ITEM_EXTRA_BYTES_MAX
    full: list[UpItem] = [RequestItem("T" * 64, bytes(1_100), widest, bytes(16))] * ITEMS_MAX
    assert len(line.close(full, widest)) <= ITEMS_MAX * (1_100 + ITEM_EXTRA_BYTES_MAX) + DATA_EXTRA_BYTES_MAX


def test_an_item_too_many_is_refused() -> None:
    line, session = pair()
    assert len(session.open(data_of(line.close([RosterQuery(0)] * ITEMS_MAX, 0)))[1]) == ITEMS_MAX
    with pytest.raises(Malformed, match="items"):
        session.open(data_of(line.close([RosterQuery(0)] * (ITEMS_MAX + 1), 0)))


# The secrets.


def test_keys_are_not_in_what_gets_logged() -> None:
    assert CREDENTIAL.key.hex() not in repr(CREDENTIAL)
    assert "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" not in repr(CREDENTIAL)
    with pytest.raises(ValueError, match="damaged") as caught:
        RelayCredential.parse(str(CREDENTIAL)[:-1])
    assert "AAECAwQF" not in str(caught.value)


@pytest.mark.parametrize("length", range(30))
def test_a_seal_that_is_too_short_is_not_genuine(length: int) -> None:
    with pytest.raises(NotGenuine):
        Seal(bytes(32)).open_once(bytes(length), b"")
    with pytest.raises(NotGenuine):
        Seal(bytes(32)).open(1, bytes(length), b"")


def test_random_bytes_are_asked_for_anew_each_time() -> None:
    drawn = count(1)
    line = RelayLine(CREDENTIAL, "test", lambda length: next(drawn).to_bytes(length))
    hellos = [hello_of(line) for _ in range(3)]
    assert len({hello.relay_nonce for hello in hellos}) == 3
    assert len({hello.sealed[:12] for hello in hellos}) == 3
