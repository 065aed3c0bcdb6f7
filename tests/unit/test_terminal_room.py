import asyncio

import pytest

from server.registers.terminal_room import FIGURE_AGE_MAX_S, TerminalRoom

LIMIT = 1_000
TODAY = 20_000


class Journal:
    """The persisted figure of every terminal, and a gate in front of it."""

    def __init__(self) -> None:
        self.spent = 0
        self.readings = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def spent_today(self, terminal_id: int) -> int:
        assert terminal_id in (1, 2)
        self.readings += 1
        await self.gate.wait()
        if self.broken:
            raise ConnectionError("away")
        return self.spent


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def journal() -> Journal:
    return Journal()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def room(journal: Journal, clock: Clock) -> TerminalRoom:
    return TerminalRoom(journal.spent_today, clock)


async def test_an_unknown_figure_is_read_once_and_then_known(room: TerminalRoom, journal: Journal) -> None:
    journal.spent = 300
    assert room.room(1, TODAY, LIMIT) is None
    assert room.room(1, TODAY, LIMIT) is None
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) == 700
    assert journal.readings == 1


async def test_reserved_points_are_not_offered_twice(room: TerminalRoom) -> None:
    await room.load(1, TODAY)
    first = room.reserve(1, 600)
    assert room.room(1, TODAY, LIMIT) == 400
    room.settle(first, 0)
    assert room.room(1, TODAY, LIMIT) == LIMIT
    room.settle(room.reserve(1, 600), 250)
    assert room.room(1, TODAY, LIMIT) == 750


async def test_each_terminal_has_its_own_room(room: TerminalRoom) -> None:
    await room.load(1, TODAY)
    await room.load(2, TODAY)
    room.reserve(1, LIMIT)
    assert room.room(1, TODAY, LIMIT) == 0
    assert room.room(2, TODAY, LIMIT) == LIMIT


async def test_a_smaller_limit_never_gives_negative_room(room: TerminalRoom) -> None:
    await room.load(1, TODAY)
    room.settle(room.reserve(1, 900), 900)
    assert room.room(1, TODAY, 500) == 0


async def test_a_new_day_begins_with_all_room_and_yesterday_settles_on_yesterday(room: TerminalRoom) -> None:
    await room.load(1, TODAY)
    late = room.reserve(1, 900)
    assert room.room(1, TODAY + 1, LIMIT) == LIMIT
    room.settle(late, 900)
    assert room.room(1, TODAY + 1, LIMIT) == LIMIT


async def test_what_settles_while_the_journal_is_read_still_counts(room: TerminalRoom, journal: Journal) -> None:
    await room.load(1, TODAY)
    reserved = room.reserve(1, 400)
    journal.gate.clear()
    reading = asyncio.create_task(room.load(1, TODAY))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    room.settle(reserved, 400)
    journal.gate.set()
    await reading
    assert room.room(1, TODAY, LIMIT) == 600


async def test_an_old_figure_is_read_again_while_it_serves(room: TerminalRoom, journal: Journal, clock: Clock) -> None:
    await room.load(1, TODAY)
    journal.spent = 900
    clock.now += FIGURE_AGE_MAX_S + 1
    assert room.room(1, TODAY, LIMIT) == LIMIT
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) == 100
    assert journal.readings == 2


async def test_an_outdated_figure_is_read_again(room: TerminalRoom, journal: Journal) -> None:
    journal.spent = 900
    await room.load(1, TODAY)
    journal.spent = 100
    room.outdate(1)
    assert room.room(1, TODAY, LIMIT) == 100
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) == 900


async def test_a_failed_reading_leaves_the_figure_unknown_and_is_tried_again(
    room: TerminalRoom, journal: Journal
) -> None:
    journal.broken = True
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) is None
    journal.broken = False
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) == LIMIT


async def test_a_failed_reading_keeps_what_is_known(room: TerminalRoom, journal: Journal) -> None:
    journal.spent = 400
    await room.load(1, TODAY)
    journal.broken = True
    await room.load(1, TODAY)
    assert room.room(1, TODAY, LIMIT) == 600


async def test_stopping_twice_ends_what_is_being_read(room: TerminalRoom, journal: Journal) -> None:
    journal.gate.clear()
    assert room.room(1, TODAY, LIMIT) is None
    await room.stop()
    await room.stop()
