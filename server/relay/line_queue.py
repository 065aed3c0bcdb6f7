"""What is asked of headquarters over the line: what waits to be sent, what has no answer yet, and whose answer it is.

No I/O and no clock. Of requests with one id of one terminal only one is under way; the next one is sent when that is
answered, so that an answer is never taken for another one's.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Any, Final, TypeAlias

import msgpack

from protocol.codes import REQUEST_ID_BYTES, ErrorCode, Message, Outcome
from protocol.fields import array, binary_id, unpack
from protocol.relay_messages import ITEMS_MAX, PUBLICATION_BYTES_MAX, LineLimits, ReplyItem, RequestItem
from server.relay.asking import LineDown, NoReply

_ID_AT: Final = 4
_ID_END: Final = _ID_AT + REQUEST_ID_BYTES
_BIN_16: Final = b"\xc4\x10"
# Around a message: array, kind, terminal, time of sale, hold, lengths; and once the seal and the publication's head.
_ITEM_BYTES: Final = 128
_PUBLICATION_BYTES: Final = 1_024
_BYTES_MAX: Final = PUBLICATION_BYTES_MAX - _PUBLICATION_BYTES
_APPROVED_LAST: Final = int(Outcome.APPROVED_PARTIAL)
_QUESTIONS: Final = frozenset({int(Message.BALANCE), int(Message.STATUS)})
# Errors that say "not executed" of one copy only; an earlier one may have been.
_OF_ONE_COPY: Final = frozenset({int(ErrorCode.BUSY), int(ErrorCode.EXPIRED), int(ErrorCode.UNAVAILABLE)})

LATE_MAX: Final = 4_096
"""Requests that nobody waits for any more and whose late answers are recognised."""

Key: TypeAlias = tuple[str, bytes]


def id_of(message: bytes) -> bytes:
    """Return the request id in a request, an ANSWER or an ERROR (without length). Raises Malformed."""
    if message[2:_ID_AT] == _BIN_16 and len(message) >= _ID_END:
        return message[_ID_AT:_ID_END]
    return binary_id(array(unpack(message), "message", None, 2)[1], "request_id", None)


class Asked:
    """One item that somebody waits for."""

    __slots__ = ("behind", "copies", "expires_s", "item", "key", "reply", "waiting")

    def __init__(self, item: RequestItem, expires_s: float, reply: asyncio.Future[ReplyItem]) -> None:
        """Take the item, when nobody waits for it any more (monotonic clock), and what becomes of it."""
        self.item = item
        self.key: Key = (item.terminal, id_of(item.message))
        self.expires_s = expires_s
        self.reply = reply
        self.copies = 0
        self.waiting = False
        self.behind: deque[Asked] | None = None

    @property
    def of_backlog(self) -> bool:
        """Whether it counts against the backlog's limit."""
        return self.item.sale_ms is not None

    def given_up(self) -> LineDown | NoReply:
        """Return what became of it when nobody waits any longer."""
        return NoReply("no answer in time") if self.copies else LineDown("it could not be sent in time")


class LineQueue:
    """Everything that is asked and not answered."""

    def __init__(self) -> None:
        self._first: dict[Key, Asked] = {}
        self._live: deque[Asked] = deque()
        self._backlog: deque[Asked] = deque()
        # In the order of their sending.
        self._sent: dict[Asked, None] = {}
        self._sent_of_backlog = 0
        # Live copies of this session whose answers may come although nobody waits for them any more.
        self._late: OrderedDict[Key, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sent) + len(self._live) + len(self._backlog)

    @property
    def under_way(self) -> int:
        """How many were sent and have no answer."""
        return len(self._sent)

    def add(self, asked: Asked) -> None:
        """Put an item behind the others of its kind."""
        first = self._first.setdefault(asked.key, asked)
        if first is asked:
            self._enqueue(asked)
        else:
            first.behind = first.behind or deque()
            first.behind.append(asked)

    def _enqueue(self, asked: Asked) -> None:
        asked.waiting = True
        (self._backlog if asked.of_backlog else self._live).append(asked)

    def take(self, limits: LineLimits) -> list[Asked]:
        """Return what the next publication carries; it counts as sent from now on.

        That is either live or of the backlog, and live first.
        """
        room = min(limits.in_flight_max - len(self._sent), ITEMS_MAX)
        taken = self._take_from(self._live, room)
        return taken or self._take_from(self._backlog, min(room, limits.backlog_in_flight_max - self._sent_of_backlog))

    def _take_from(self, queue: deque[Asked], room: int) -> list[Asked]:
        taken: list[Asked] = []
        free = _BYTES_MAX
        while queue and len(taken) < room:
            asked = queue[0]
            if not asked.waiting:
                queue.popleft()
                continue
            free -= len(asked.item.message) + _ITEM_BYTES
            if free < 0:
                break
            queue.popleft()
            asked.waiting = False
            asked.copies += 1
            self._sent[asked] = None
            self._sent_of_backlog += asked.of_backlog
            taken.append(asked)
        return taken

    def untake(self, taken: list[Asked]) -> None:
        """Put back what `take` returned: no copy of it left."""
        for asked in taken:
            asked.copies -= 1
        self._put_back(taken)

    def ask_again(self) -> None:
        """Put everything that was sent and not answered before what waits, in the order of its first sending.

        Answers of the session before cannot be read any more.
        """
        self._late.clear()
        self._put_back(list(self._sent))

    def _put_back(self, some: list[Asked]) -> None:
        for asked in reversed(some):
            if asked in self._sent:
                self._unsend(asked)
                asked.waiting = True
                (self._backlog if asked.of_backlog else self._live).appendleft(asked)

    def _unsend(self, asked: Asked) -> None:
        del self._sent[asked]
        self._sent_of_backlog -= asked.of_backlog

    def answered(self, reply: ReplyItem) -> None:
        """Give an answer to whoever waits for it; to one that nobody waits for nothing happens. Raises Malformed."""
        key = reply.terminal, id_of(reply.message)
        asked = self._first.get(key)
        if asked is None or not asked.copies:
            self._came_late(key)
            return
        if asked.of_backlog and not _approves(reply.message) and self._came_late(key):
            # Said of a live copy, so no operator was told of it: the advice's own answer is still to come.
            return
        if not asked.reply.done():
            if settles(asked, reply.message):
                asked.reply.set_result(reply)
            else:
                asked.reply.set_exception(NoReply("an earlier copy may have taken effect"))
        self.forget(asked)

    def forget(self, asked: Asked) -> None:
        """Drop an item, answered or not; the next one under its id may be sent. May be called twice."""
        first = self._first.get(asked.key)
        if first is not asked:
            if first is not None and first.behind is not None and asked in first.behind:
                first.behind.remove(asked)
            return
        asked.waiting = False
        if asked in self._sent:
            self._unsend(asked)
            if not asked.of_backlog and (asked.reply.cancelled() or not asked.reply.done()):
                self._expect_late(asked.key)
        behind = asked.behind
        if behind:
            following = self._first[asked.key] = behind.popleft()
            following.behind = behind
            self._enqueue(following)
        else:
            del self._first[asked.key]
        # What was dropped while it waited still stands in its queue; it must not gather there.
        for queue in (self._live, self._backlog):
            while queue and not queue[0].waiting:
                queue.popleft()

    def _expect_late(self, key: Key) -> None:
        self._late[key] = self._late.pop(key, 0) + 1
        if len(self._late) > LATE_MAX:
            self._late.popitem(last=False)

    def _came_late(self, key: Key) -> bool:
        """Take note of an answer that may be to a copy that nobody waits for; return whether there was one."""
        copies = self._late.pop(key, 0)
        if copies > 1:
            self._late[key] = copies - 1
        return copies > 0

    def give_up_late(self, now_s: float) -> None:
        """Tell those of the backlog who have waited for as long as they meant to; of live ones `ask` counts the time.

        A live one that was told here would look answered to `forget`, and its late answer would not be expected.
        """
        for asked in [*self._sent, *self._live, *self._backlog]:
            for one in (asked, *(asked.behind or ())):
                if one.of_backlog and one.expires_s <= now_s and not one.reply.done():
                    one.reply.set_exception(one.given_up())

    def give_up_unsent(self) -> None:
        """Tell everybody of whose request no copy ever left that the line is down."""
        for asked in [*self._live, *self._backlog]:
            for one in (asked, *(asked.behind or ())):
                if not one.copies and not one.reply.done():
                    one.reply.set_exception(LineDown("the line to headquarters is down"))


def settles(asked: Asked, message: bytes) -> bool:
    """Return whether a reply ends every doubt about a request of which several copies may be on their way.

    As SPEC.md says of a register that sent a request again: an approval does, "not executed" and a decline are said of
    one copy. A question has no effect to be in doubt; the backlog is asked again until it is settled.
    """
    if asked.copies <= 1 or asked.item.message[1] in _QUESTIONS:
        return True
    fields = _fields(message)
    if fields[0] == Message.ANSWER:
        return asked.of_backlog or fields[3][0] <= _APPROVED_LAST
    return fields[2] not in _OF_ONE_COPY


def _approves(message: bytes) -> bool:
    fields = _fields(message)
    return bool(fields[0] == Message.ANSWER and fields[3][0] <= _APPROVED_LAST)


def _fields(message: bytes) -> Any:
    return msgpack.unpackb(message, use_list=False, strict_map_key=False)
