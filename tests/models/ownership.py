"""A model of ownership, fencing and reloading, small enough to look at every state that it can reach.

One account with a few points, two workers, two requests that each spend one point and may be sent at any time and
again, PostgreSQL, Redis with its outbox, and faults: crashes, answers of engines that are lost, sessions that
PostgreSQL ends although their worker goes on, Redis flushed, set back to an earlier moment, or away. The account's
history stands for its head (seq and link), because two histories never have the same link.

    python -m tests.models.ownership [--faults 3] [--points 1] [--without fence ...]

explores breadth first and prints the shortest way into a state that breaks a promise. Every rule that the product rests
on can be left out, to see that the model notices: see `Rules`.
"""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

REQUESTS = ("a", "b")
History = tuple[str, ...]
NOBODY = -1


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of the product that keep the promises; each may be left out."""

    #: commit.sql: a commit of an older epoch changes nothing.
    fence: bool = True
    #: commit.sql: an entry whose predecessor is not the account's head is refused.
    veto: bool = True
    #: shell.lua: a script call whose caller expects another head decides nothing.
    head_check: bool = True
    #: shell.lua: a copy of another generation counts as not there.
    generation: bool = True
    #: claim.lua: a Redis that was last claimed before the last owner began to serve is not believed.
    served: bool = True
    #: committing.py: what was vetoed is forgotten in Redis before the mark is committed.
    forget_before_mark: bool = True
    #: committing.py: an approval leaves when it is committed.
    durable: bool = True
    #: waiting_room.py: the truth is read only while nothing of the account is under way.
    quiet_truth: bool = True
    #: A new owner without Redis waits until the former one cannot believe any more that it is still the owner.
    lease: bool = True
    #: A new owner with Redis waits like that when the former one decides without.
    lease_of_standby: bool = True


class Postgres(NamedTuple):
    """The truth. `lock` is the worker whose session holds the partition's lock.

    `served` is the last epoch that began to decide, `served_by` its worker, `standby` whether it decides without Redis.
    """

    epoch: int = 0
    served: int = 0
    served_by: int = NOBODY
    standby: bool = False
    generation: int = 0
    mark: int = 0
    lock: int = NOBODY
    history: History = ()


class Record(NamedTuple):
    """One decision: the outbox record's number, the history before it, the request."""

    mark: int
    before: History
    request: str


class Redis(NamedTuple):
    """The copy: head (epoch, generation, mark), the account with its generation, the outbox."""

    head: tuple[int, int, int] | None = None
    copy: tuple[int, History] | None = None
    outbox: tuple[Record, ...] = ()


class Worker(NamedTuple):
    """What a worker believes. Phases: off, claimed, catching up, voiding, resetting, serving, standby."""

    phase: str = "off"
    epoch: int = 0
    generation: int = 0
    mark: int = 0
    under_way: tuple[Record, ...] = ()
    truth: History | None = None
    memory: History | None = None
    vetoed: bool = False


class World(NamedTuple):
    """Everything; `told` is what registers heard as approved.

    Two things nobody can tell from Redis, so that what is only read may be wrong then, while every change is vetoed:
    `altered`: the account's key was set back behind an unchanged head. `set_back`: Redis was set back; to a worker that
    was overtaken and does not know it yet it may show the moment when that worker was still the owner.
    """

    postgres: Postgres = Postgres()
    redis: Redis = Redis()
    redis_up: bool = True
    saved: Redis = Redis()
    workers: tuple[Worker, Worker] = (Worker(), Worker())
    told: frozenset[str] = frozenset()
    altered: bool = False
    set_back: bool = False
    faults: int = 0


class Breach(Exception):  # noqa: N818 - it is what the model looks for
    """A promise is broken in the step at hand."""


Step = tuple[str, World]


class Model:
    """All steps that are possible in a world."""

    def __init__(self, rules: Rules, points: int) -> None:
        self._rules = rules
        self._points = points

    def steps(self, world: World) -> Iterator[Step]:
        """Yield every next world with the name of what happened. Raises Breach."""
        for number in range(len(world.workers)):
            yield from self._owning(world, number)
            yield from self._working(world, number)
            yield from self._failing(world, number)
        yield from self._redis_faults(world)

    def check_told(self, world: World) -> None:
        """Raise Breach when an approval is lost for good: nobody has it under way any more."""
        lost = world.told - set(world.postgres.history)
        if lost and not any(worker.under_way for worker in world.workers):
            raise Breach(f"{', '.join(sorted(lost))} was told approved and is lost")

    # ---- becoming an owner: ledger/partition.py

    def _owning(self, world: World, number: int) -> Iterator[Step]:
        worker, postgres = world.workers[number], world.postgres
        if worker.phase == "off" and postgres.lock == NOBODY:
            taken = postgres._replace(epoch=postgres.epoch + 1, lock=number)
            claimed = Worker("claimed", taken.epoch, taken.generation, taken.mark)
            yield f"{number} takes the lock", self._put(world._replace(postgres=taken), number, claimed)
        elif worker.phase == "claimed":
            yield from self._claim(world, number)
        elif worker.phase == "catching up":
            yield from self._catch_up(world, number)
        elif worker.phase in ("voiding", "voiding for standby"):
            yield from self._void(world, number)
        elif worker.phase == "resetting" and world.redis_up:
            yield from self._reset(world, number)

    def _reset(self, world: World, number: int) -> Iterator[Step]:
        """reset.lua; what comes next is what comes after a catching up of nothing."""
        worker = world.workers[number]
        reset = world.redis._replace(head=(worker.epoch, worker.generation, worker.mark), outbox=())
        yield f"{number} resets Redis", self._put(world._replace(redis=reset), number, _at(worker, "catching up"))

    def _claim(self, world: World, number: int) -> Iterator[Step]:
        """claim.lua."""
        worker, redis = world.workers[number], world.redis
        if not world.redis_up:
            yield f"{number} finds no Redis", self._put(world, number, _at(worker, "voiding for standby"))
            return
        rest = tuple(record for record in redis.outbox if record.mark > worker.mark)
        head = redis.head
        trusted = head is not None and head[0] < worker.epoch and head[2] >= worker.mark
        trusted = trusted and (head is None or head[0] >= world.postgres.served or not self._rules.served)
        trusted = trusted and (head is None or head[1] == worker.generation or not self._rules.generation)
        if trusted and head is not None:
            trusted = len(rest) == head[2] - worker.mark
        if not trusted or head is None:
            yield f"{number} trusts Redis in nothing", self._put(world, number, _at(worker, "voiding"))
            return
        fenced = redis._replace(head=(worker.epoch, head[1], head[2]))
        catching_up = worker._replace(phase="catching up", under_way=rest, mark=head[2])
        yield f"{number} claims Redis", self._put(world._replace(redis=fenced), number, catching_up)

    def _catch_up(self, world: World, number: int) -> Iterator[Step]:
        worker = world.workers[number]
        if worker.under_way:
            yield from self._commit(world, number, answering=False)
        elif worker.vetoed:
            yield f"{number} found a veto", self._put(world, number, _at(worker._replace(vetoed=False), "voiding"))
        else:
            yield from self._serve(world, number)

    def _serve(self, world: World, number: int) -> Iterator[Step]:
        worker, postgres = world.workers[number], world.postgres
        if postgres.epoch != worker.epoch and self._rules.fence:
            yield f"{number} is fenced", self._off(world, number)
            return
        if postgres.standby and self._rules.lease_of_standby and self._former_believes(world, number):
            return
        begun = postgres._replace(served=worker.epoch, served_by=number, standby=False)
        served = world._replace(postgres=begun)
        yield f"{number} serves", self._put(served, number, _at(worker, "serving"))

    def _void(self, world: World, number: int) -> Iterator[Step]:
        worker, postgres = world.workers[number], world.postgres
        if postgres.epoch != worker.epoch and self._rules.fence:
            yield f"{number} is fenced", self._off(world, number)
            return
        standby = worker.phase == "voiding for standby"
        if standby and self._rules.lease and self._former_believes(world, number):
            return
        voided = postgres._replace(generation=postgres.generation + 1)
        if standby:
            voided = voided._replace(served=worker.epoch, served_by=number, standby=True)
        phase = "standby" if standby else "resetting"
        worker = worker._replace(phase=phase, generation=voided.generation)
        yield f"{number} voids the generation", self._put(world._replace(postgres=voided), number, worker)

    def _former_believes(self, world: World, number: int) -> bool:
        """Return whether somebody else was the last to decide and does not know that he is no owner any more."""
        other = 1 - number
        return world.postgres.served_by == other and world.workers[other].phase in ("serving", "standby")

    # ---- deciding and journaling: ledger/pipeline.py, ledger/committing.py

    def _working(self, world: World, number: int) -> Iterator[Step]:
        worker = world.workers[number]
        if worker.phase not in ("serving", "standby"):
            return
        if worker.truth is None and (not worker.under_way or not self._rules.quiet_truth):
            yield f"{number} reads the truth", self._put(world, number, worker._replace(truth=world.postgres.history))
        if worker.under_way:
            yield from self._commit(world, number, answering=True)
        for request in REQUESTS:
            yield from self._decide(world, number, request)
        if worker.phase == "standby" and world.redis_up:
            yield f"{number} goes back to Redis", self._off(world, number)

    def _decide(self, world: World, number: int, request: str) -> Iterator[Step]:
        worker, redis = world.workers[number], world.redis
        if worker.phase == "standby":
            history = worker.memory
        elif not world.redis_up:
            yield f"{number} loses Redis", self._off(world, number)
            return
        elif redis.head != (worker.epoch, worker.generation, worker.mark) and self._rules.head_check:
            yield f"{number} finds another head", self._off(world, number)
            return
        else:
            known = redis.copy is not None and (redis.copy[0] == worker.generation or not self._rules.generation)
            history = redis.copy[1] if known and redis.copy is not None else None
        if worker.truth is not None:
            yield f"{number} loads the account", self._load(world, number)
        elif history is not None:
            self._read(world, worker, history)
            if request in history:
                yield from self._replay(world, number, request)
            elif len(history) < self._points:
                yield from self._approve(world, number, history, request)
            # A decline says no more than a reading does, and leaves no trace.

    def _load(self, world: World, number: int) -> World:
        worker = world.workers[number]
        after = worker._replace(truth=None)
        if worker.phase == "standby":
            return self._put(world, number, after._replace(memory=worker.truth))
        copy = (worker.generation, worker.truth or ())
        return self._put(world._replace(redis=world.redis._replace(copy=copy)), number, after)

    def _approve(self, world: World, number: int, history: History, request: str) -> Iterator[Step]:
        worker = world.workers[number]
        mark = worker.mark + 1
        record = Record(mark, history, request)
        now = worker._replace(mark=mark, under_way=(*worker.under_way, record))
        if not self._rules.durable:
            world = self._tell(world, request)
        if worker.phase == "standby":
            now = now._replace(memory=(*history, request))
            yield f"{number} decides {request} in memory", self._put(world, number, now)
            return
        head = (worker.epoch, worker.generation, mark)
        outbox = (*(r for r in world.redis.outbox if r.mark > world.postgres.mark and r.mark < mark), record)
        redis = Redis(head, (worker.generation, (*history, request)), outbox)
        decided = world._replace(redis=redis)
        yield f"{number} decides {request}", self._put(decided, number, now)
        if world.faults:
            lost = self._off(decided._replace(faults=world.faults - 1), number)
            yield f"{number} decides {request} and does not hear of it", lost

    def _replay(self, world: World, number: int, request: str) -> Iterator[Step]:
        """Answered from the journal alone; what is not there is decided anew."""
        worker = world.workers[number]
        if request in world.postgres.history:
            yield f"{number} replays {request}", self._put(self._tell(world, request), number, worker)
        elif not worker.under_way:
            forgotten = world
            if worker.phase == "standby":
                worker = worker._replace(memory=None)
            else:
                forgotten = world._replace(redis=world.redis._replace(copy=None))
            yield f"{number} does not find {request} in the journal", self._put(forgotten, number, worker)

    def _read(self, world: World, worker: Worker, history: History) -> None:
        """A balance, and a decline, that rest on nothing uncommitted leave at once; they must be true."""
        overtaken = world.postgres.epoch != worker.epoch
        if worker.under_way or world.altered or (overtaken and world.set_back):
            return
        if history != world.postgres.history:
            raise Breach(f"a balance is told as after {history}, but the journal has {world.postgres.history}")

    def _commit(self, world: World, number: int, *, answering: bool) -> Iterator[Step]:
        worker, postgres = world.workers[number], world.postgres
        if postgres.epoch != worker.epoch and self._rules.fence:
            yield f"{number} is fenced", self._off(world, number)
            return
        record, rest = worker.under_way[0], worker.under_way[1:]
        taken = postgres.history == record.before or not self._rules.veto
        now = worker._replace(under_way=rest)
        if taken:
            committed = postgres._replace(mark=record.mark, history=(*postgres.history, record.request))
            self._check(committed)
            journaled = world._replace(postgres=committed)
            told = self._tell(journaled, record.request) if answering else journaled
            yield f"{number} journals {record.request}", self._put(told, number, now)
            if world.faults:
                lost = self._off(journaled._replace(faults=world.faults - 1), number)
                yield f"{number} journals {record.request} and does not hear of it", lost
            return
        yield from self._vetoed(world, number, now._replace(vetoed=not answering, truth=None), record)

    def _vetoed(self, world: World, number: int, now: Worker, record: Record) -> Iterator[Step]:
        """The commit that leaves a vetoed entry out; Redis forgets the account first."""
        if now.phase != "standby" and not world.redis_up:
            yield f"{number} cannot make Redis forget", self._off(world, number)
            return
        # What was altered is mended by this; a copy of Redis made in between would bring it back.
        marked = world._replace(
            postgres=world.postgres._replace(mark=record.mark),
            altered=False,
            saved=Redis() if world.altered else world.saved,
        )
        forgotten = world.redis._replace(copy=None)
        after = marked if now.phase == "standby" else marked._replace(redis=forgotten)
        name = f"{number} is vetoed on {record.request}"
        yield name, self._put(after, number, now._replace(memory=None))
        if world.faults and now.phase != "standby":
            before = after if self._rules.forget_before_mark else marked
            yield f"{name} and dies", self._off(before._replace(faults=world.faults - 1), number)

    # ---- faults

    def _failing(self, world: World, number: int) -> Iterator[Step]:
        if not world.faults or world.workers[number].phase == "off":
            return
        less = world._replace(faults=world.faults - 1)
        yield f"{number} dies", self._off(less, number)
        if world.postgres.lock == number:
            ended = less._replace(postgres=world.postgres._replace(lock=NOBODY))
            yield f"PostgreSQL ends the session of {number}, which goes on", ended

    def _redis_faults(self, world: World) -> Iterator[Step]:
        if not world.redis_up:
            yield "Redis comes back", world._replace(redis_up=True)
            return
        if world.saved != world.redis:
            yield "a copy of Redis is made", world._replace(saved=world.redis)
        if world.faults:
            less = world._replace(faults=world.faults - 1)
            yield "Redis is flushed", less._replace(redis=Redis())
            yield "Redis goes away", less._replace(redis_up=False)
            if world.saved != world.redis:
                yield "Redis is set back to the copy", less._replace(redis=world.saved, set_back=True)
            if world.saved.copy != world.redis.copy:
                altered = world.redis._replace(copy=world.saved.copy)
                yield "the account's key is set back to the copy", less._replace(redis=altered, altered=True)

    # ---- small change

    def _put(self, world: World, number: int, worker: Worker) -> World:
        workers = (worker, world.workers[1]) if number == 0 else (world.workers[0], worker)
        return world._replace(workers=workers)

    def _off(self, world: World, number: int) -> World:
        """Let a worker begin anew; its session, and with it the lock, ends."""
        if world.postgres.lock == number:
            world = world._replace(postgres=world.postgres._replace(lock=NOBODY))
        return self._put(world, number, Worker())

    def _tell(self, world: World, request: str) -> World:
        if self._rules.durable and request not in world.postgres.history:
            raise Breach(f"{request} is told approved and is not journaled")
        return world._replace(told=world.told | {request})

    def _check(self, postgres: Postgres) -> None:
        if len(set(postgres.history)) < len(postgres.history):
            raise Breach(f"a request has two effects: {postgres.history}")
        if len(postgres.history) > self._points:
            raise Breach(f"more was spent than there was: {postgres.history}")


def _at(worker: Worker, phase: str) -> Worker:
    return worker._replace(phase=phase)


@dataclass(frozen=True, slots=True)
class Explored:
    """How many states there are, and the shortest way into a breach, the breach last; empty when there is none."""

    states: int
    way: tuple[str, ...]


def explore(rules: Rules = Rules(), *, points: int = 1, faults: int = 2, states_max: int = 5_000_000) -> Explored:
    """Look at every reachable state, nearest first, until a promise is broken or there are no more."""
    model = Model(rules, points)
    start = World(faults=faults)
    came_from: dict[World, tuple[World, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        world = queue.popleft()
        try:
            model.check_told(world)
            for name, after in model.steps(world):
                if after not in came_from:
                    came_from[after] = (world, name)
                    queue.append(after)
        except Breach as breach:
            return Explored(len(came_from), (*_way(came_from, world), str(breach)))
        if len(came_from) > states_max:
            raise MemoryError(f"more than {states_max} states")
    return Explored(len(came_from), ())


def _way(came_from: dict[World, tuple[World, str] | None], world: World) -> list[str]:
    names = []
    step = came_from[world]
    while step is not None:
        world, name = step
        names.append(name)
        step = came_from[world]
    return names[::-1]


def main() -> None:
    names = [field.name for field in fields(Rules)]
    parser = argparse.ArgumentParser(description="Explore the model of ownership.")
    parser.add_argument("--faults", type=int, default=3)
    parser.add_argument("--points", type=int, default=1)
    parser.add_argument("--without", nargs="*", choices=names, default=[])
    options = parser.parse_args()
    rules = Rules(**{name: name not in options.without for name in names})
    explored = explore(rules, points=options.points, faults=options.faults)
    for name in explored.way:
        print(name)  # noqa: T201
    print(f"{explored.states} states, {'a promise is broken' if explored.way else 'no promise is broken'}")  # noqa: T201
    sys.exit(bool(explored.way))


if __name__ == "__main__":
    main()
