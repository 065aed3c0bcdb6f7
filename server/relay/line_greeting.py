"""How a relay comes to a session: HELLO, the wait for WELCOME, and the pauses between, so that nobody is flooded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Final, NamedTuple

import structlog

from protocol.relay_messages import Hello, Welcome, read_publication

# How long a HELLO is waited for: the first, and at most; and the pause after one that was refused, or after a hint.
_WELCOME_WAIT_S: Final = (0.5, 5.0)
_PAUSE_S: Final = (0.1, 5.0)
# Relays of one broker that came back do not all say HELLO in the same moment.
_SPREAD_S: Final = 0.1
_ATTEMPTS_MAX: Final = 16
# HELLOs without an answer in a row before that is said: one may be lost, or headquarters may be busy.
_UNANSWERED: Final = 3

_log = structlog.get_logger(subject="line")


class Saying(NamedTuple):
    """How HELLO is said: `hello` makes one, `publish` sends it and is told for how long it is waited for (seconds).

    The future of `publish` is False if nobody listens; None stands for no broker.
    """

    hello: Callable[[], bytes]
    publish: Callable[[bytes, float], asyncio.Future[bool] | None]
    connected: Callable[[], bool]


class Greeting:
    """Says HELLO whenever a session is wanted. `run` is a task of the owner."""

    def __init__(self, saying: Saying, random: Random) -> None:
        """Take the way to say it; a session is wanted from the beginning."""
        self._saying = saying
        self._random = random
        self._changed = asyncio.Event()
        self._wanted = True
        self._hinted = False
        self._attempts = 0
        self._nonce: bytes | None = None
        self._answered: asyncio.Future[bool] | None = None
        self.refusal = ""
        """Why the last HELLO led to nothing, as far as somebody said so."""

    def want(self, reason: str, *, hinted: bool = False) -> None:
        """Have a new session made; `hinted` by something that nobody vouches for, so that it may take its time."""
        if not self._wanted:
            _log.warning("the session is begun anew", reason=reason)
            self._hinted = hinted
        self._wanted = True
        self._changed.set()

    def answers(self, welcome: Welcome) -> bool:
        """Return whether it answers the last HELLO."""
        return self._nonce is not None and welcome.relay_nonce == self._nonce

    def is_about(self, nonce: bytes) -> bool:
        """Return whether a GOODBYE is about the last HELLO."""
        return self._nonce is not None and nonce == self._nonce

    def welcomed(self) -> None:
        """Take note that there is a session."""
        self._wanted = self._hinted = False
        self._nonce = None
        self.refusal = ""
        self._settle(welcomed=True)

    def refused(self, reason: str) -> None:
        """Take note that the last HELLO seems to lead to nothing; a WELCOME to it counts all the same."""
        if reason != self.refusal:
            _log.warning("no session", reason=reason)
        self.refusal = reason
        self._settle(welcomed=False)

    def steady(self) -> None:
        """Take note that the session was a good one: the next HELLO need not be put off."""
        self._attempts = 0

    def _settle(self, *, welcomed: bool) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(welcomed)

    async def run(self) -> None:
        """Say HELLO as often as needed, until cancelled."""
        while True:
            self._changed.clear()
            if self._wanted and self._saying.connected():
                await self._greet()
            else:
                await self._changed.wait()

    async def _greet(self) -> None:
        """Say HELLO once, and wait for WELCOME, or for as long as it may take until the next HELLO."""
        attempt, self._attempts = self._attempts, min(self._attempts + 1, _ATTEMPTS_MAX)
        pause_s = _grown(_PAUSE_S, attempt) * self._random.uniform(0.5, 1.0)
        await asyncio.sleep(pause_s if self._hinted else self._random.uniform(0, _SPREAD_S))
        self._hinted = False
        loop = asyncio.get_running_loop()
        started = loop.time()
        payload = self._saying.hello()
        hello = read_publication(payload)
        assert isinstance(hello, Hello)  # noqa: S101 - an assertion that stays on
        self._nonce = hello.relay_nonce
        self._answered = loop.create_future()
        wait_s = _grown(_WELCOME_WAIT_S, attempt)
        published = self._saying.publish(payload, wait_s)
        welcomed = False
        if published is not None:
            published.add_done_callback(lambda done: self._published(done, hello.relay_nonce))
            try:
                async with asyncio.timeout(wait_s):
                    welcomed = await self._answered
            except TimeoutError:
                if attempt + 1 >= _UNANSWERED and self._saying.connected():
                    # Whoever cannot open a HELLO keeps silent about it.
                    self.refused("headquarters does not answer HELLO")
        self._answered = None
        if not welcomed:
            await asyncio.sleep(max(0.0, pause_s - (loop.time() - started)))

    def _published(self, done: asyncio.Future[bool], nonce: bytes) -> None:
        if done.cancelled() or not self.is_about(nonce):
            return
        error = done.exception()
        if error is not None:
            if self._saying.connected():
                # Not a broken connection: most likely the broker's access list.
                self.refused(f"the broker does not pass HELLO on: {error}")
        elif not done.result():
            self.refused("nobody at headquarters listens to the broker")


def _grown(bounds: tuple[float, float], attempt: int) -> float:
    """Return the first of two durations, doubled with each attempt up to the second."""
    return float(min(bounds[0] * 2**attempt, bounds[1]))
