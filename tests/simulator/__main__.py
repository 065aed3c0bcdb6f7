"""`python -m tests.simulator`: repeat one scenario and tell all that happens in it, or play fresh ones for a while."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from tests.simulator.runner import Tally, play, play_all, warm_up

_CHUNK = 40
_SHOWN_MAX = 5
_HASH_SEED = "0"


def main() -> int:
    """Return 1 when a promise was broken."""
    arguments = _parser().parse_args()
    if arguments.seed is not None:
        return _one(arguments.seed)
    first = secrets.randbits(40) if arguments.first is None else arguments.first
    return _many(first, arguments.minutes, arguments.scenarios, arguments.jobs, keep_going=arguments.keep_going)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.simulator", description=__doc__)
    parser.add_argument("--seed", type=int, help="repeat this scenario and print its trace")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long to play fresh scenarios (default 1)")
    parser.add_argument("--scenarios", type=int, help="play so many instead")
    parser.add_argument("--first", type=int, help="begin with this seed instead of a fresh one")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at the first breach")
    return parser


def _one(seed: int) -> int:
    outcome = play(seed, _say)
    _say(outcome.told())
    return 0 if outcome.clean else 1


def _many(first: int, minutes: float, scenarios: int | None, jobs: int, *, keep_going: bool) -> int:
    started = time.monotonic()
    deadline = started + minutes * 60 if scenarios is None else float("inf")
    tally = Tally()
    for part in _parts(_chunks(first, scenarios), deadline, jobs, stop=not keep_going):
        for breach in part.breaches[: max(0, _SHOWN_MAX - len(tally.breaches))]:
            _say(f"{breach.told()}\nrepeat it with: make simulate SEED={breach.seed}\n")
        tally.add(part)
        if tally.breaches and not keep_going:
            break
    _report(tally, first, time.monotonic() - started)
    return 1 if tally.breaches else 0


def _parts(chunks: Iterator[range], deadline: float, jobs: int, *, stop: bool) -> Iterator[Tally]:
    """Yield what processes of this one's kind have played, each a chunk: what one leaves behind goes with it."""
    warm_up()
    context = get_context("fork")
    running: dict[Connection, BaseProcess] = {}
    try:
        while True:
            while len(running) < jobs and time.monotonic() < deadline and (chunk := next(chunks, None)) is not None:
                mine, theirs = context.Pipe(duplex=False)
                process = context.Process(target=_play_chunk, args=(chunk, deadline, stop, theirs))
                process.start()
                theirs.close()
                running[mine] = process
            if not running:
                return
            for ready in wait(list(running)):
                assert isinstance(ready, Connection)
                process = running.pop(ready)
                yield ready.recv()
                process.join()
    finally:
        for process in running.values():
            process.terminate()
            process.join()


def _play_chunk(chunk: range, deadline: float, stop: bool, result: Connection) -> None:
    result.send(play_all(chunk, deadline, stop=stop))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _chunks(first: int, scenarios: int | None) -> Iterator[range]:
    last = None if scenarios is None else first + scenarios
    start = first
    while last is None or start < last:
        end = start + _CHUNK if last is None else min(last, start + _CHUNK)
        yield range(start, end)
        start = end


def _report(tally: Tally, first: int, seconds: float) -> None:
    per_minute = tally.scenarios / seconds * 60
    faults = {name.removeprefix("fault "): n for name, n in sorted(tally.counts.items()) if name.startswith("fault ")}
    counts = {name: n for name, n in sorted(tally.counts.items()) if not name.startswith("fault ")}
    _say(
        f"{tally.scenarios:,} scenarios from seed {first} in {seconds:.0f} s: {per_minute:,.0f} a minute, "
        f"{tally.virtual_s / 3600:.1f} virtual hours, {len(tally.breaches)} broken"
    )
    for title, numbers in (("faults", faults), ("reached", counts)):
        _say(f"{title}: " + ", ".join(f"{name} {number:,}" for name, number in numbers.items()))
    _say(
        json.dumps(
            {
                "scenarios": tally.scenarios,
                "first_seed": first,
                "seconds": round(seconds, 1),
                "per_minute": round(per_minute),
                "virtual_hours": round(tally.virtual_s / 3600, 2),
                "broken": len(tally.breaches),
                "broken_seeds": [breach.seed for breach in tally.breaches],
                "breaches": dict(sum((breach.verdict.counts for breach in tally.breaches), Counter())),
                "faults": faults,
                "reached": counts,
            }
        )
    )


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != _HASH_SEED:
        # Sets of bytes and of strings have the same order in every run only with a fixed hash seed.
        os.environ["PYTHONHASHSEED"] = _HASH_SEED
        os.execv(  # noqa: S606 - this very programme
            sys.executable, [sys.executable, "-m", "tests.simulator", *sys.argv[1:]]
        )
    sys.exit(main())
