"""python -m tests.campaign [--seed N] [--rounds K | --round R] [--faults NAME,NAME]

The last line of standard output is one JSON object. The exit status is 0 when nothing was breached and no worker failed
by a bug, 1 otherwise, 3 when the campaign itself failed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

import uvloop

from ledger.audit import BadRow
from tests.campaign.disk import keep_mounts_private
from tests.campaign.faults import FAULTS
from tests.campaign.fleet_link import Group, running_fleet
from tests.campaign.report import Report, line_of
from tests.campaign.rounds import Round, draw, run_round
from tests.campaign.site import SETTINGS, Site, running_site

REGISTERS, TWINS = 64, 16
SHOP_REGISTERS, SHOP_TWINS = 16, 6
_EXIT_CAMPAIGN_FAILED = 3


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32), help="draws everything")
    parser.add_argument("--rounds", type=int, default=50, help="how many rounds (about 11 s each)")
    parser.add_argument("--round", type=int, help="repeat this round alone")
    parser.add_argument("--faults", help=f"strike these, by name, instead of drawing: {', '.join(FAULTS)}")
    return parser.parse_args()


async def campaign(seed: int, numbers: Sequence[int], names: Sequence[str], *, mounting: bool) -> Report:
    """Run the rounds on one installation and return the report."""
    async with running_site(random.Random(seed), mounting=mounting) as site:  # noqa: S311
        report = Report(seed, site.disk.name, SETTINGS)
        at_server = Group(site.registers.port, await site.add_terminals(REGISTERS), TWINS)
        in_shop = Group(site.shop.port, await site.open_shop(SHOP_REGISTERS), SHOP_TWINS)
        async with running_fleet(site.folder, at_server, in_shop) as fleet:
            for number in numbers:
                done = await run_round(site, fleet, seed, number, names or draw(seed, number))
                report.add(done)
                _tell(line_of(done))
                if not done.verdict.clean:
                    _tell(f"{done.verdict}\n{_evidence(site, seed, done)}\n{_repetition(seed, number, names)}")
        try:
            verified = await site.verify()
            _tell(f"tillwire verify: {verified}")
        except BadRow as bad:
            report.verdict.report("unconserved", f"tillwire verify: {bad}")
        failures = site.failures()
        report.bugs = len(failures)
        for failure in failures:
            _tell(f"a worker or the relay failed by a bug: {failure}")
    return report


def _evidence(site: Site, seed: int, done: Round) -> str:
    """Copy what tells about a round to where it stays, and say where."""
    folder = Path(tempfile.mkdtemp(prefix=f"tillwire-campaign-seed-{seed}-round-{done.number}-"))
    for name in (f"round-{done.number}.jsonl", "server.log", "fleet.log", "relay.log"):
        shutil.copy(site.folder / name, folder)
    with (folder / "journal.txt").open("w") as journal:
        journal.writelines(f"{dict(entry)}\n" for entry in done.entries)
    return f"registers' notes, journal and the server's log: {folder}"


def _repetition(seed: int, number: int, names: Sequence[str]) -> str:
    more = f" --faults '{','.join(names)}'" if names else ""
    return (
        f"repeat it by: python -m tests.campaign --seed {seed} --round {number}{more}\n"
        "(the same requests and faults are drawn; when exactly they meet is up to the machine, so try several times)"
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def main() -> int:
    """Run a campaign and print what it found."""
    arguments = _arguments()
    numbers = range(arguments.rounds) if arguments.round is None else [arguments.round]
    names = [name.strip() for name in (arguments.faults or "").split(",") if name.strip()]
    _tell(f"seed {arguments.seed}, {len(numbers)} rounds")
    # Whoever ends it politely gets everything taken down.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    mounting = keep_mounts_private()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(campaign(arguments.seed, numbers, names, mounting=mounting))
    except Exception:  # noqa: BLE001 - whatever it is, it says nothing about the promises
        traceback.print_exc()
        return _EXIT_CAMPAIGN_FAILED
    print(json.dumps(report.as_dict()))  # noqa: T201
    return 0 if report.clean else 1


if __name__ == "__main__":
    sys.exit(main())
