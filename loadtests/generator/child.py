"""The process that generates: told by lines of JSON on its standard input what to do, it answers by such lines.

First comes the job. When all registers are signed on it says `ready` and waits for a line; then it runs and says
`begun` and `ended` at both ends of what is measured, and at last `outcome`. It stops when its input ends.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

from loadtests.generator.fleet import Fleet, Trouble
from loadtests.generator.gathering import Arrival, Gathering
from loadtests.generator.load import Load, Work
from loadtests.generator.measuring import Measuring
from loadtests.generator.target import Target

_PATIENCE_S = 120.0
_BEAT_S = 5.0


def main() -> None:
    """Do the job that standard input describes; leave with 1 when there was trouble."""
    # Who presses Ctrl-C wants to see what the parent has to say, and no traceback of ours.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    job = json.loads(sys.stdin.readline())
    load = Load(**{**job["load"], "work": Work(job["load"]["work"])})
    try:
        fleet = Fleet(Target.from_json(job["target"]), job["registers"], job["first"])
        if load.work is Work.HOLD:
            _hold(fleet)
        else:
            _measure(fleet, load, job)
    except (Trouble, OSError) as error:
        _tell("trouble", text=str(error))
        sys.exit(1)


def _measure(fleet: Fleet, load: Load, job: dict[str, Any]) -> None:
    measuring = Measuring(fleet, load, bytes.fromhex(job["prefix"]), job["share"], job["shares"])
    _ready(Gathering(fleet).gather(_PATIENCE_S))
    if not sys.stdin.readline():
        return
    outcome = measuring.run(lambda: _tell("begun"), lambda: _tell("ended"))
    outcome.save(Path(job["latencies"]))
    _tell("outcome", **outcome.to_json())
    fleet.close()


def _hold(fleet: Fleet) -> None:
    """Stay signed on, and say `ready` anew when everybody has come back."""
    gathering = Gathering(fleet, come_back=True)
    gathering.gather(_PATIENCE_S)
    fleet.epoll.register(sys.stdin.fileno())
    beat_s = time.monotonic()
    told: Arrival | None = None
    while True:
        if gathering.complete and gathering.arrival is not told:
            told = gathering.arrival
            _ready(told)
        now_s = time.monotonic()
        if fleet.limits and now_s > beat_s + fleet.limits.heartbeat_ms / 1000:
            beat_s = now_s
            fleet.ping_all()
        if sys.stdin.fileno() in gathering.go_on(_BEAT_S):
            return


def _ready(arrival: Arrival) -> None:
    _tell("ready", began_s=arrival.began_s, first_contact_s=arrival.first_contact_s,
          complete_s=arrival.complete_s, attempts=arrival.attempts)  # fmt: skip


def _tell(event: str, **more: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, **more}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
