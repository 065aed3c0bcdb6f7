"""One round: fresh cards, load, faults, healing, silence, judgement."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from admin_api.cards.card_numbers import ean13_numbers
from ledger.clock import SystemClock
from tests.campaign.fault import Fault
from tests.campaign.faults import FAULTS
from tests.campaign.fleet_link import FleetLink
from tests.campaign.shop import IN_SHOP
from tests.campaign.site import Site
from tests.judge.account_rows import Entry
from tests.judge.events import ANSWERED, SENT, Event, read
from tests.judge.judge import judge
from tests.judge.relayed import Stores
from tests.judge.verdict import Verdict

HOT, COOL, CHANGING, SPARE = 4, 16, 4, 8
THINK_S = 0.12
_WARM_UP_S = (0.7, 1.5)
_CALM_S = 1.5
_GRACE_S = 60.0
_SETTLE_TIMEOUT_S = 30.0
_SETTLE_GRACE_MS = 5_000
_DRAIN_TIMEOUT_S = 60.0
_CLOCK_ERROR_MS = 1_000
_FIRST_CARD = 200_000_000_000
_POLL_S = 0.2


@dataclass
class Round:
    """What became of a round. `struck_ms`, `broken_ms`: when the first strike began and was done (machine's clock)."""

    number: int
    faults: tuple[str, ...]
    struck_ms: int = 0
    broken_ms: int = 0
    events: list[Event] = field(default_factory=list)
    entries: Sequence[Entry] = ()
    conflicts: Mapping[bytes, Entry] = field(default_factory=dict)
    verdict: Verdict = field(default_factory=Verdict)

    @property
    def requests(self) -> int:
        """How many different requests were made."""
        return len({event.request_id for event in self.events if event.event == SENT})

    @property
    def approved(self) -> int:
        """How many of them were approved."""
        return len({event.request_id for event in self.events if event.approved})

    @property
    def alone(self) -> int:
        """How many a relay approved without headquarters: such an approval of an effect tells no balance."""
        return len(
            {
                event.request_id
                for event in self.events
                if event.register.startswith(IN_SHOP) and event.approved and not event.question and not event.balance
            }
        )

    def silence_ms(self) -> int:
        """Return the longest time from the strike on in which no register at all heard an answer."""
        heard = [e.at_ms for e in self.events if e.event == ANSWERED and e.at_ms >= self.struck_ms]
        times = [self.struck_ms, *heard]
        return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0)

    def first_approval_ms(self) -> int | None:
        """Return the time from the finished strike to the first approval of something that was first sent after it."""
        sent: set[bytes] = set()
        old: set[bytes] = set()
        for event in self.events:
            if event.event == SENT:
                (old if event.at_ms < self.broken_ms else sent).add(event.request_id)
            elif event.approved and event.request_id in sent - old:
                return event.at_ms - self.broken_ms
        return None


def draw(seed: int, number: int) -> tuple[str, ...]:
    """Return the faults of a round: one after the other as the seed has shuffled them, sometimes with a second one."""
    deck = sorted(FAULTS)
    random.Random(f"{seed} deck").shuffle(deck)  # noqa: S311 - it must be repeatable, not secret
    dice = random.Random(f"{seed} {number} draw")  # noqa: S311
    first = deck[number % len(deck)]
    return (first, dice.choice(deck)) if dice.random() < 0.4 else (first,)


async def run_round(site: Site, fleet: FleetLink, seed: int, number: int, names: Sequence[str]) -> Round:
    """Run one round and judge it."""
    dice = random.Random(f"{seed} {number}")  # noqa: S311
    for proxy in (site.registers, site.to_redis, site.to_postgres, site.to_primary, site.shop.line):
        proxy.dice = dice
    faults = _compatible(site, dice, names)
    done = Round(number, tuple(name for name, _ in faults))
    first = _FIRST_CARD + number * (HOT + COOL + CHANGING + SPARE)
    numbers = ean13_numbers(str(first), HOT + COOL + CHANGING + SPARE)
    active, spare = numbers[:-SPARE], numbers[-SPARE:]
    accounts = await site.enrol(active, spare)
    log = site.folder / f"round-{number}.jsonl"
    await fleet.ask(
        {
            "round": number,
            "seed": f"{seed} {number}",
            "log": str(log),
            "hot": active[:HOT],
            "cool": active[HOT : HOT + COOL],
            "changing": active[HOT + COOL :],
            "spare": spare,
            "think_s": THINK_S,
        }
    )
    await _harm(done, [fault for _, fault in faults], dice)
    try:
        await site.until_ready()
    except TimeoutError:
        done.verdict.report("stuck", f"everything was mended, but the server says: {await site.health()}")
    await asyncio.sleep(_CALM_S)
    ended = await fleet.ask({"grace_s": _GRACE_S})
    if ended["rejected"]:
        done.verdict.report("stuck", f"{ended['rejected']} times the server did not want a terminal that is good")
    with log.open(encoding="ascii") as lines:
        done.events = read(lines)
    try:
        await site.shop.until_drained(_DRAIN_TIMEOUT_S)
    except TimeoutError:
        done.verdict.report("stuck", f"the relay does not drain: {await site.shop.status()}")
    await _settled(site, accounts)
    await _judge(site, done, accounts, max((fault.clock_error_ms for _, fault in faults), default=0))
    return done


def _compatible(site: Site, dice: random.Random, names: Sequence[str]) -> list[tuple[str, Fault]]:
    """Return the faults, without those that would break what another one breaks already."""
    faults: dict[str, tuple[str, Fault]] = {}
    for name in names:
        fault = FAULTS[name](site, dice)
        faults.setdefault(fault.touches, (name, fault))
    return list(faults.values())


async def _harm(done: Round, faults: Sequence[Fault], dice: random.Random) -> None:
    for fault in faults:
        await fault.prepare()
    await asyncio.sleep(dice.uniform(*_WARM_UP_S))
    done.struck_ms = SystemClock().now_ms()
    struck = []
    try:
        for fault in faults:
            struck.append(fault)
            await fault.strike()
            done.broken_ms = done.broken_ms or SystemClock().now_ms()
            await asyncio.sleep(dice.uniform(*fault.lasts_s))
            if dice.random() < 0.5:
                await struck.pop().mend()
    finally:
        for fault in reversed(struck):
            await fault.mend()


async def _settled(site: Site, accounts: Sequence[int]) -> None:
    """Wait until what was due is done; the judge says what is not."""
    try:
        async with asyncio.timeout(_SETTLE_TIMEOUT_S), site.database() as connection:
            while await connection.fetchval(
                "SELECT count(*) FROM account WHERE account_id = ANY ($1::bigint[]) AND due_ms < $2",
                accounts,
                SystemClock().now_ms(),
            ):
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        return


async def _judge(site: Site, done: Round, accounts: Sequence[int], clock_error_ms: int) -> None:
    asked = {event.request_id for event in done.events}
    async with site.database() as connection, connection.transaction(isolation="repeatable_read"):
        done.entries = await connection.fetch(
            "SELECT * FROM entry WHERE account_id = ANY ($1::bigint[]) ORDER BY account_id, seq", accounts
        )
        rows = await connection.fetch("SELECT * FROM account WHERE account_id = ANY ($1::bigint[])", accounts)
        conflicts = await connection.fetch("SELECT * FROM office.conflict WHERE request_id = ANY ($1)", list(asked))
    done.conflicts = {row["request_id"]: row for row in conflicts}
    registers = {event.register for event in done.events if event.register.startswith(IN_SHOP)}
    # Cards behind these are blocked and replaced.
    fickle = range(HOT + COOL, HOT + COOL + CHANGING + SPARE)
    found = await asyncio.to_thread(
        judge,
        done.events,
        done.entries,
        rows,
        now_ms=SystemClock().now_ms(),
        grace_ms=_SETTLE_GRACE_MS,
        clock_error_ms=_CLOCK_ERROR_MS + clock_error_ms,
        stores=Stores(registers, done.conflicts, fickle),
    )
    done.verdict.add(found)
