"""The link between workers: a partition of accounts is decided by one worker, whichever worker a register is on.

Submissions go one way over a UNIX socket and their replies come back the other way, both in batches. A lost link
refuses everything that was under way on it as UNAVAILABLE, because whether it took effect is not known here; the
register then retries, reverses or asks (SPEC.md, no answer).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import structlog

from ledger.clock import Clock
from ledger.submission import Refusal, Submission
from server.workers.peer_frames import (
    ANSWERED,
    REFUSED,
    REPLAYED,
    REPLIES_PER_FRAME_MAX,
    SUBMISSIONS_PER_FRAME_MAX,
    PeerFrameError,
    PeerFrameReader,
    arrived,
    carried,
    framed,
)

OUTSTANDING_MAX = 8192
UNSENT_BYTES_MAX = 16 * 1024 * 1024
BUSY_RETRY_MS = 50
CONNECT_TIMEOUT_S = 2.0
# How long after its deadline a forwarded submission may still be answered: its commit can be under way.
GRACE_S = 10.0
_SWEEP_S = 1.0
_DRAIN_POLL_S = 0.01

_log = structlog.get_logger(subject="peer link")


class _Outgoing(asyncio.Protocol):
    """The sending end: forwards submissions to one worker and hands its replies to those who wait."""

    def __init__(self, address: str, outstanding_max: int, gone: Callable[[_Outgoing], None]) -> None:
        self.address = address
        self._outstanding_max = outstanding_max
        self._gone = gone
        self._transport: asyncio.Transport | None = None
        self._waiting: dict[int, Submission] = {}
        self._unsent: list[list[Any]] = []
        self._tag = 0
        self._flush_due = False
        self._reader = PeerFrameReader()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast("asyncio.Transport", transport)
        self._flush()

    def forward(self, submission: Submission) -> None:
        """Send a submission with the next batch, or refuse it as BUSY past the bound."""
        if len(self._waiting) >= self._outstanding_max:
            submission.reply_to.refuse(submission.request_id, Refusal.BUSY, BUSY_RETRY_MS)
            return
        self._tag += 1
        self._waiting[self._tag] = submission
        self._unsent.append(carried(self._tag, submission))
        if self._transport is not None and not self._flush_due:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_due = False
        unsent, self._unsent = self._unsent, []
        if self._transport is None or self._transport.is_closing():
            return
        self._transport.writelines(
            [
                framed(unsent[start : start + SUBMISSIONS_PER_FRAME_MAX])
                for start in range(0, len(unsent), SUBMISSIONS_PER_FRAME_MAX)
            ]
        )

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.messages(data):
                for row in message:
                    self._take_reply(row)
        except (PeerFrameError, ValueError, TypeError) as error:
            _log.error("peer link broken", peer=self.address, reason=repr(error))
            self.close()

    def _take_reply(self, row: list[Any]) -> None:
        tag, kind, value, retry_after_ms = row
        submission = self._waiting.pop(tag, None)
        if submission is None:
            return
        if kind == REFUSED:
            submission.reply_to.refuse(submission.request_id, Refusal(value), retry_after_ms)
        else:
            submission.reply_to.answer(submission.request_id, value, replayed=kind == REPLAYED)

    def refuse_overdue(self, now: float) -> None:
        """Give up on what should have been answered long ago: the other worker hangs."""
        overdue = [tag for tag, submission in self._waiting.items() if submission.deadline + GRACE_S < now]
        for tag in overdue:
            submission = self._waiting.pop(tag)
            submission.reply_to.refuse(submission.request_id, Refusal.UNAVAILABLE, 0)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        if self._waiting:
            _log.warning("peer link lost", peer=self.address, refused=len(self._waiting), reason=repr(error))
        self._end(Refusal.UNAVAILABLE)

    def not_connected(self, error: Exception) -> None:
        """Take note that there is no way to that worker: nothing was sent, so nothing was done."""
        _log.warning("peer link refused", peer=self.address, refused=len(self._waiting), reason=repr(error))
        self._end(Refusal.BUSY)

    def _end(self, refusal: Refusal) -> None:
        self._gone(self)
        waiting, self._waiting = self._waiting, {}
        self._unsent.clear()
        for submission in waiting.values():
            submission.reply_to.refuse(submission.request_id, refusal, BUSY_RETRY_MS)

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting

    def close(self) -> None:
        """End the link; what is under way is refused."""
        if self._transport is not None:
            self._transport.abort()
        else:
            self.not_connected(ConnectionAbortedError("stopped"))


class _Incoming(asyncio.Protocol):
    """The receiving end: submits what another worker forwards and sends the replies back in batches."""

    def __init__(self, submit: Callable[[Submission], None], links: dict[_Incoming, None]) -> None:
        self._submit = submit
        self._links = links
        self._transport: asyncio.Transport | None = None
        self._reader = PeerFrameReader()
        self._replies: list[list[Any]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's in all but their base class.
        self._transport = cast("asyncio.Transport", transport)
        self._links[self] = None

    def data_received(self, data: bytes) -> None:
        try:
            for message in self._reader.messages(data):
                for row in message:
                    self._submit(arrived(row, _PeerReply(self, row[0])))
        except (PeerFrameError, TypeError) as error:
            _log.error("peer link broken", reason=repr(error))
            self.close()

    def reply(self, row: list[Any]) -> None:
        """Send a reply with the next batch; without a link it is dropped, the other end has refused it already."""
        if self._transport is None:
            return
        if not self._replies:
            asyncio.get_running_loop().call_soon(self._flush)
        self._replies.append(row)

    def _flush(self) -> None:
        replies, self._replies = self._replies, []
        if self._transport is None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > UNSENT_BYTES_MAX:
            _log.error("peer link broken", reason="the other worker does not read its replies")
            self.close()
            return
        self._transport.writelines(
            [
                framed(replies[start : start + REPLIES_PER_FRAME_MAX])
                for start in range(0, len(replies), REPLIES_PER_FRAME_MAX)
            ]
        )

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._transport = None
        self._replies.clear()
        self._links.pop(self, None)

    def close(self) -> None:
        """End the link at once."""
        if self._transport is not None:
            self._transport.abort()


class _PeerReply:
    """Waits for one forwarded submission on the deciding worker's side (`ledger.submission.ReplyTo`)."""

    __slots__ = ("_link", "_tag")

    def __init__(self, link: _Incoming, tag: int) -> None:
        self._link = link
        self._tag = tag

    def answer(self, request_id: bytes, body: bytes, *, replayed: bool) -> None:
        del request_id
        self._link.reply([self._tag, REPLAYED if replayed else ANSWERED, body, 0])

    def refuse(self, request_id: bytes, refusal: Refusal, retry_after_ms: int) -> None:
        del request_id
        self._link.reply([self._tag, REFUSED, int(refusal), retry_after_ms])


class PeerLinks:
    """All links of one worker: the socket on which others reach it and its own links to them, made when needed."""

    def __init__(
        self,
        address: str,
        submit_local: Callable[[Submission], None],
        clock: Clock,
        *,
        outstanding_max: int = OUTSTANDING_MAX,
    ) -> None:
        """Take the path of this worker's socket and what decides the submissions that arrive there.

        Without a path nobody reaches this end, and it only forwards.
        `outstanding_max` bounds the submissions under way on each link; more are refused as BUSY.
        """
        self.address = address
        self._submit_local = submit_local
        self._clock = clock
        self._outstanding_max = outstanding_max
        self._server: asyncio.AbstractServer | None = None
        self._incoming: dict[_Incoming, None] = {}
        self._outgoing: dict[str, _Outgoing] = {}
        self._connecting: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._stopped = False

    async def start(self) -> None:
        """Listen on the own address, if there is one; only this user may connect (mode 0600)."""
        if self._sweeper is not None:
            return
        loop = asyncio.get_running_loop()
        self._sweeper = loop.create_task(self._sweep(), name="peer links")
        self._stopped = False
        if not self.address:
            return
        _remove(self.address)
        self._server = await loop.create_unix_server(
            lambda: _Incoming(self._submit_local, self._incoming), self.address, start_serving=False
        )
        os.chmod(self.address, 0o600)  # noqa: PTH101
        await self._server.start_serving()

    def forward(self, address: str, submission: Submission) -> bool:
        """Send a submission to the worker at `address`, over a new link if need be; False once stopped.

        Without a way to that worker the submission is refused as BUSY, because nothing was sent.
        """
        if self._stopped:
            return False
        link = self._outgoing.get(address)
        if link is None:
            link = self._outgoing[address] = _Outgoing(address, self._outstanding_max, self._gone)
            task = asyncio.get_running_loop().create_task(self._connect(link), name=f"peer link {address}")
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)
        link.forward(submission)
        return True

    def _gone(self, link: _Outgoing) -> None:
        if self._outgoing.get(link.address) is link:
            del self._outgoing[link.address]

    async def _connect(self, link: _Outgoing) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await loop.create_unix_connection(lambda: link, link.address)
        except OSError as error:
            link.not_connected(error)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = self._clock.monotonic_s()
            for link in list(self._outgoing.values()):
                link.refuse_overdue(now)

    def health(self) -> dict[str, object]:
        """Return how many workers this one is linked to, in either direction."""
        return {"links_out": len(self._outgoing), "links_in": len(self._incoming)}

    async def drain(self, timeout_s: float) -> None:
        """Close the own links, on which nothing is under way any more, and wait for the others to close theirs."""
        for outgoing in list(self._outgoing.values()):
            if outgoing.idle:
                outgoing.close()
        deadline = self._clock.monotonic_s() + timeout_s
        while self._incoming and self._clock.monotonic_s() < deadline:  # noqa: ASYNC110 - a poll now and then ends sooner
            await asyncio.sleep(_DRAIN_POLL_S)

    async def stop(self) -> None:
        """Close everything; what is under way is refused. May be called twice."""
        self._stopped = True
        tasks = [*self._connecting, *([self._sweeper] if self._sweeper is not None else [])]
        self._sweeper = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for outgoing in list(self._outgoing.values()):
            outgoing.close()
        for incoming in list(self._incoming):
            incoming.close()
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()
            _remove(self.address)
        # One turn of the loop, in which the transports report that they are closed.
        await asyncio.sleep(0)


def _remove(address: str) -> None:
    """Remove a socket that this worker, or the dead one before it, has left."""
    with contextlib.suppress(FileNotFoundError):
        Path(address).unlink()
