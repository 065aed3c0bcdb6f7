"""The simulator itself: it repeats to the byte, it reaches what it is for, and it sees a broken promise."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ledger.journal.writer import Batch, Forget, Writer
from tests.simulator.loop import Loop, Process, RanAway
from tests.simulator.runner import Tally, play, play_all

_CHECKOUT = Path(__file__).parents[2]
_MAIN = "import sys; from tests.simulator.__main__ import main; sys.exit(main())"


@pytest.fixture(scope="module")
def tally() -> Tally:
    """A few dozen fixed seeds, as every run of the suite plays them."""
    return play_all(range(60))


def test_no_promise_is_broken(tally: Tally) -> None:
    assert tally.scenarios == 60
    assert not tally.breaches, "\n\n".join(breach.told() for breach in tally.breaches)


@pytest.mark.parametrize(
    "reached",
    ["vetoes", "generations_voided", "standby_epochs", "recovered_batches", "replays", "commits lost after",
     "redis calls lost after", "workers killed", "workers drained", "entries TOMBSTONE", "entries EXPIRE_HOLD",
     "entries EXPIRE_LOTS", "entries CAPTURE", "entries REFUND", "entries REPLACE", "copies gave_up"],
)  # fmt: skip
def test_the_interesting_ways_are_gone(tally: Tally, reached: str) -> None:
    assert tally.counts[reached] > 0


def _trace(seed: int, hash_seed: str) -> bytes:
    run = subprocess.run(
        [sys.executable, "-c", _MAIN, "--seed", str(seed)],
        cwd=_CHECKOUT,
        env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(_CHECKOUT)},
        capture_output=True,
        check=True,
    )
    return run.stdout


@pytest.mark.parametrize("seed", [3, 20])
def test_a_seed_repeats_to_the_byte(seed: int) -> None:
    first = _trace(seed, "1")
    assert first.count(b"\n") > 50
    assert first == _trace(seed, "2")


def test_what_was_played_before_makes_no_difference() -> None:
    alone: list[str] = []
    play(11, alone.append)
    play_all([3, 4])
    again: list[str] = []
    play(11, again.append)
    assert alone == again


def test_an_approval_before_its_commit_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    async def lose(self: Writer, batch: Batch, forget: Forget) -> set[int]:
        return set()

    monkeypatch.setattr(Writer, "commit", lose)
    outcome = play(1)
    assert outcome.verdict.counts["lost"] > 0


def test_a_worker_that_fails_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(self: Writer) -> str:
        raise RuntimeError("planted")

    monkeypatch.setattr(Writer, "wanted_by", fail)
    assert any("planted" in trouble for trouble in play(1).troubles)


# ---- the loop


def _loop() -> Loop:
    return Loop(Random(1), seconds_max=100.0)  # noqa: S311 - it must be repeatable, not secret


def test_time_jumps_to_the_next_timer() -> None:
    loop = _loop()

    async def nap() -> float:
        await asyncio.sleep(7.5)
        return loop.time()

    assert loop.run(nap()) == 7.5


def test_a_killed_process_does_nothing_more() -> None:
    loop, said = _loop(), []
    process = Process(loop, "one")

    async def talk() -> None:
        try:
            while True:
                said.append(loop.time())
                await asyncio.sleep(1)
        finally:
            said.append(-1.0)

    async def world() -> None:
        process.start(talk(), "talk")
        await asyncio.sleep(2.5)
        process.kill()
        await asyncio.sleep(5)
        assert said == [0.0, 1.0, 2.0]

    loop.run(world())


def test_a_frozen_process_goes_on_where_it_was() -> None:
    loop, said = _loop(), []
    process = Process(loop, "one")

    async def talk() -> None:
        while True:
            said.append(loop.time())
            await asyncio.sleep(1)

    async def world() -> None:
        process.start(talk(), "talk")
        await asyncio.sleep(1.5)
        process.freeze()
        await asyncio.sleep(10)
        process.resume()
        await asyncio.sleep(1.2)

    loop.run(world())
    assert said == [0.0, 1.0, 11.5, 12.5]


def test_nothing_left_to_happen_is_noticed() -> None:
    loop = _loop()

    async def wait_for_ever() -> None:
        await loop.create_future()

    with pytest.raises(RanAway):
        loop.run(wait_for_ever())
    loop.end()


def test_the_exception_of_a_forgotten_task_is_noticed() -> None:
    loop = _loop()

    async def fail() -> None:
        raise ValueError("forgotten")

    async def world() -> None:
        task: Any = asyncio.ensure_future(fail())
        await asyncio.sleep(1)
        del task

    loop.run(world())
    loop.end()
    assert [str(error) for _, _, error in loop.failures] == ["forgotten"]
