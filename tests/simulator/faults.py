"""What can go wrong in a scenario: each fault is a coroutine of the world that begins it, waits, and ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from tests.simulator.installation import Installation
from tests.simulator.network import Link, Weather
from tests.simulator.postgres_model import Pace
from tests.simulator.register import HOST, PORT, SimulatedRegister


@dataclass
class Site:
    """What faults strike."""

    installation: Installation
    registers: list[SimulatedRegister]
    dice: Random

    def some_s(self) -> float:
        """Draw a duration: mostly short, sometimes longer than any time-out."""
        return self.dice.choice((0.05, 0.3, 0.6, 1.0, 2.5)) * (0.5 + self.dice.random())


Fault = Callable[[Site], Awaitable[None]]


async def _worker_killed(site: Site) -> None:
    site.dice.choice(site.installation.workers).kill()


async def _worker_killed_at_a_commit(site: Site) -> None:
    site.installation.postgres.faults.deadly_commits += site.dice.choice((1, 1, 2))


async def _worker_killed_after_a_veto(site: Site) -> None:
    site.installation.postgres.faults.deadly_refusals += 1


async def _all_workers_killed(site: Site) -> None:
    for worker in site.installation.workers:
        worker.kill()


async def _worker_frozen(site: Site) -> None:
    process = site.dice.choice(site.installation.workers).process
    if process is not None:
        process.freeze()
        # Longer than an owner may be silent, so that another one takes over meanwhile.
        await asyncio.sleep(site.dice.choice((site.some_s(), site.some_s(), 11.0 + 4 * site.dice.random())))
        process.resume()


async def _worker_drained(site: Site) -> None:
    site.dice.choice(site.installation.workers).drain()


async def _power_cut(site: Site) -> None:
    register = site.dice.choice(site.registers)
    if register.busy and register.process.alive:
        register.pull_plug()
        await asyncio.sleep(site.some_s() / 2)
        register.plug_in()


def _some_link(site: Site) -> Link | None:
    links = site.installation.network.links.all()
    return site.dice.choice(links) if links else None


async def _lines_cut(site: Site) -> None:
    for _ in range(site.dice.choice((1, 1, 3, 8))):
        link = _some_link(site)
        if link is None:
            return
        if site.dice.random() < 0.6:
            # In the middle of the next thing that one side says.
            site.dice.choice(link.ends).doomed_after = site.dice.choice((0, 0, 1, 5, 30))
        else:
            link.cut()
        await asyncio.sleep(site.dice.random() * 0.2)


async def _lines_stalled(site: Site) -> None:
    for _ in range(site.dice.choice((1, 3))):
        link = _some_link(site)
        if link is not None:
            link.stall(site.some_s())


async def _network_slow(site: Site) -> None:
    slow = 0.02 * site.dice.choice((1, 5, 20))
    site.installation.network.weather = Weather((0.001, slow), (0.0001, slow / 4), splits=0.3)
    await asyncio.sleep(site.some_s())
    site.installation.network.weather = Weather()


async def _nobody_listens(site: Site) -> None:
    port = site.installation.network.port(f"{HOST}:{PORT}")
    port.refused = True
    await asyncio.sleep(site.some_s())
    port.refused = False


async def _clock_wrong(site: Site) -> None:
    site.installation.clock.wrong_ms += site.dice.choice((-700, -100, 100, 700))


async def _redis_down(site: Site) -> None:
    redis = site.installation.redis
    redis.faults.refusing = True
    if site.dice.random() < 0.3:
        redis.save()
        redis.restore()
    await asyncio.sleep(site.some_s())
    redis.faults.refusing = False


async def _redis_frozen(site: Site) -> None:
    redis = site.installation.redis
    redis.faults.frozen = True
    await asyncio.sleep(site.some_s())
    redis.thaw()


async def _redis_flushed(site: Site) -> None:
    site.installation.redis.flush()


async def _redis_rolled_back(site: Site) -> None:
    redis = site.installation.redis
    redis.save()
    await asyncio.sleep(site.some_s())
    redis.restore()


async def _redis_failed_over(site: Site) -> None:
    redis = site.installation.redis
    redis.save()
    await asyncio.sleep(site.dice.random() * 0.2)
    redis.faults.refusing = True
    await asyncio.sleep(site.dice.random() * 0.4)
    redis.faults.refusing = False
    redis.faults.read_only = site.dice.random() < 0.5
    redis.restore()
    await asyncio.sleep(site.dice.random() * 0.3)
    redis.faults.read_only = False


async def _redis_full(site: Site) -> None:
    redis = site.installation.redis
    redis.faults.full = True
    await asyncio.sleep(site.some_s() / 2)
    redis.faults.full = False


async def _redis_restarted(site: Site) -> None:
    redis = site.installation.redis
    redis.redis.script_flush()
    redis.faults.lost_before += 1


async def _redis_calls_lost(site: Site) -> None:
    site.installation.redis.faults.lost_before += site.dice.choice((0, 1, 2))
    site.installation.redis.faults.lost_after += site.dice.choice((1, 1, 2))


async def _postgres_crashed(site: Site) -> None:
    postgres = site.installation.postgres
    postgres.crash()
    await asyncio.sleep(site.some_s())
    postgres.faults.refusing = False


async def _postgres_frozen(site: Site) -> None:
    postgres = site.installation.postgres
    postgres.freeze()
    await asyncio.sleep(site.some_s())
    postgres.thaw()


async def _postgres_slow(site: Site) -> None:
    postgres = site.installation.postgres
    slow = site.dice.choice((0.1, 0.5, 1.5))
    postgres.pace = Pace((0.001, slow / 20), (slow / 4, slow))
    await asyncio.sleep(site.some_s())
    postgres.pace = postgres.usual_pace


async def _commits_lost(site: Site) -> None:
    faults = site.installation.postgres.faults
    faults.lost_before_commit += site.dice.choice((0, 1))
    faults.lost_after_commit += site.dice.choice((1, 1, 2))


async def _sessions_ended(site: Site) -> None:
    site.installation.postgres.end_sessions()


async def _disk_full(site: Site) -> None:
    faults = site.installation.postgres.faults
    faults.disk_full = True
    await asyncio.sleep(site.some_s() / 2)
    faults.disk_full = False


FAULTS: dict[str, Fault] = {
    name.removeprefix("_"): fault
    for name, fault in list(globals().items())
    if name.startswith("_") and asyncio.iscoroutinefunction(fault)
}
