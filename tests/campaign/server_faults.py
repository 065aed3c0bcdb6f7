"""Faults of the server: its workers, its admin process, all of it, and its clock."""

from __future__ import annotations

import asyncio
import signal
from asyncio import to_thread
from collections.abc import Sequence

from tests.campaign import wrong_clock
from tests.campaign.fault import Fault, Paused, signal_all

_MINUTE_MS = 60_000


class KillWorker(Fault):
    touches = "server"

    async def strike(self) -> None:
        signal_all([self.dice.choice(self.site.workers())], signal.SIGKILL)


class PauseWorker(Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return [self.dice.choice(self.site.workers())]


class PauseWorkerForLong(PauseWorker):
    """Longer than an owner may be silent: its partitions are taken over while it still believes that it has them."""

    lasts_s = (12.0, 15.0)


class PauseWorkerAndCutLines(PauseWorker):
    """What a paused worker has not read yet is read when it runs on, long after its registers asked elsewhere."""

    lasts_s = (1.5, 4.0)

    async def strike(self) -> None:
        await super().strike()
        # Long enough that a good part of the registers has a request there.
        await asyncio.sleep(0.4)
        self.site.registers.finish_all()


class KillAdmin(Fault):
    """Registers must notice nothing: neither that it is gone, nor that another one comes."""

    touches = "server"

    async def strike(self) -> None:
        signal_all(self.site.admin(), signal.SIGKILL)


class PauseAdmin(Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return self.site.admin()


class KillServer(Fault):
    touches = "server"

    async def strike(self) -> None:
        await to_thread(self.site.server.kill)

    async def mend(self) -> None:
        self.site.start_server()


class RestartServer(Fault):
    """An orderly drain under load, and a new start."""

    touches = "server"

    async def strike(self) -> None:
        await to_thread(self.site.server.end, (signal.SIGTERM, 20.0))

    async def mend(self) -> None:
        self.site.start_server()


class PauseServer(Paused):
    touches = "server"
    lasts_s = (0.3, 4.0)

    def pids(self) -> Sequence[int]:
        return [self.site.server.pid, *self.site.workers()]


class PauseServerForLong(PauseServer):
    lasts_s = (12.0, 15.0)


class WrongClock(Fault):
    """The server's time of day jumps, and later jumps back."""

    touches = "clock"
    lasts_s = (0.5, 3.0)
    clock_error_ms = 121 * _MINUTE_MS
    _JUMPS_MS = tuple(sign * ms for sign in (-1, 1) for ms in (5_000, 20 * _MINUTE_MS, 120 * _MINUTE_MS))

    async def strike(self) -> None:
        wrong_clock.set_offset(self.site.clock_file, self.dice.choice(self._JUMPS_MS))

    async def mend(self) -> None:
        wrong_clock.set_offset(self.site.clock_file, 0)
