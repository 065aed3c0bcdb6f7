"""Our scripts on a real Valkey and on the embedded Redis: the same calls, the same replies, the same bytes stored."""

import os
from typing import Any, ClassVar

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from redis.exceptions import NoScriptError, RedisError

from ledger import decision
from ledger.embedded_redis import EmbeddedRedis, ScriptRuntime, copied
from ledger.hot_store import ACCOUNTS_MAX, lua, pack, unpack
from ledger.operations import Operation as Op
from ledger.states import first_state
from tests.property.account_journal import MAX, Ask, Terms

CASES = int(os.environ.get("TILLWIRE_PROPERTY_CASES", "1600"))
STEPS = 40
SETTINGS = settings(
    max_examples=max(1, CASES // STEPS),
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SCRIPTS = {"decide": decision.source(with_shell=True), "claim": lua("claim"), "reset": lua("reset")}
HEAD, OUTBOX = b"tillwire:{0}:head", b"tillwire:{0}:outbox"
CARD, OTHER = b"A" * 16, b"B" * 16
DAY_MS, TODAY = 86_400_000, 20_000
NOON = TODAY * DAY_MS + DAY_MS // 2
ACCOUNTS = st.integers(1, 4)
POINTS = st.integers(0, 500) | st.sampled_from([2**31, 2**32, MAX // 4])
IDS = st.integers(1, 12).map(lambda number: number.to_bytes(16, "big"))
OPERATIONS = [
    Op.EARN,
    Op.EARN,
    Op.REDEEM,
    Op.REDEEM,
    Op.SALE,
    Op.HOLD,
    Op.HOLD,
    Op.CAPTURE,
    Op.RELEASE,
    Op.BALANCE,
    Op.SETTLE,
]
OPERATIONS += [Op.REFUND, Op.REVERSE, Op.BLOCK, Op.ACTIVATE, Op.ADJUST]
CONTEXT = [0, 1, Op.REDEEM, 1, 100, -1, 50, 0, 50, 0, 0, [TODAY, TODAY + 9, -50, 0], 0, 0, TODAY, False]
# What was never a stored account, or was one until something was cut off, put over it or put behind it.
STORED = bytes((0, 0, 0, 1)) + bytes(6) + first_state(1, [(CARD, 1)])
GARBAGE = (
    st.binary(max_size=40)
    | st.integers(0, len(STORED)).map(lambda length: STORED[:length])
    | st.builds(
        lambda at, one: STORED[:at] + one + STORED[at + 1 :], st.integers(10, 60), st.binary(min_size=1, max_size=1)
    )
    | st.sampled_from([b"\xc1", b"\x91\x01", b"x", b"\x94"]).map(lambda rest: STORED + rest)
)


def key_of(account: int) -> bytes:
    return b"tillwire:{0}:%d" % account


def outcome_of(call: Any) -> Any:
    """What a caller gets: a reply, or what the hot store makes of an error."""
    try:
        return call()
    except NoScriptError:
        return NoScriptError
    except RedisError as error:
        return "script failed" if "user_script" in str(error) else type(error)


class TwoServers(RuleBasedStateMachine):
    valkey: ClassVar["redis.Redis[bytes]"]
    runtime: ClassVar[ScriptRuntime]

    def __init__(self) -> None:
        super().__init__()
        self.embedded = EmbeddedRedis(self.runtime)
        self.valkey.flushall()
        self.shas: dict[str, str] = {}
        self.epoch, self.committed, self.now_ms = 0, 0, NOON
        self.used: set[bytes] = set()
        self.snapshot: Any = None

    def run(self, script: str, keys: list[bytes], args: list[Any]) -> Any:
        sha = self.shas[script]
        real = outcome_of(lambda: self.valkey.evalsha(sha, len(keys), *keys, *args))
        embedded = outcome_of(lambda: self.embedded.evalsha(sha, keys, args))
        assert embedded == real
        return real

    def head(self) -> bytes:
        return self.valkey.get(HEAD) or b""

    @initialize()
    def begin(self) -> None:
        for name, text in SCRIPTS.items():
            self.shas[name] = self.embedded.script_load(text)
            assert self.valkey.script_load(text) == self.shas[name]
        self.reset(generation=1)

    @rule(generation=st.sampled_from([1, 2, 2**31, 2**32 - 1]))
    def reset(self, generation: int) -> None:
        self.epoch += 1
        self.run("reset", [HEAD, OUTBOX], [f"{self.epoch}:{generation}:{self.committed}"])

    @rule(generation=st.sampled_from([1, 1, 2]), ahead=st.sampled_from([0, 0, 0, 1]))
    def claim(self, generation: int, ahead: int) -> None:
        self.epoch += 1
        self.run("claim", [HEAD, OUTBOX], [self.epoch, generation, self.committed + ahead])

    @rule(data=st.data())
    def decide(self, data: st.DataObject) -> None:
        accounts = data.draw(st.lists(ACCOUNTS, min_size=1, unique=True), label="accounts")
        loads = [
            [index, data.draw(st.sampled_from([0, 1, 2**47])), first_state(account, [(CARD, 1), (OTHER, 2)])]
            for index, account in enumerate(accounts, start=1)
            if key_of(account) not in self.embedded.data or data.draw(st.integers(0, 9)) == 0
        ]
        items = [
            [data.draw(st.integers(1, len(accounts))), 1, self.request(data)]
            for _ in range(data.draw(st.integers(0, 5)))
        ]
        head = self.head() if data.draw(st.integers(0, 9)) else b"1:1:1"
        drop = f"{self.committed + 1}-0" if self.committed and data.draw(st.booleans()) else ""
        batch = pack([data.draw(st.sampled_from([0, 10_800_000, -3_600_000])), [Terms().positional()], loads, items])
        keys = [HEAD, OUTBOX, *map(key_of, accounts)]
        reply = self.run("decide", keys, [head, drop, batch])
        if isinstance(reply, list) and reply[0]:
            self.committed = data.draw(st.integers(min(self.committed, reply[1]), reply[1]), label="committed")

    def request(self, data: st.DataObject) -> list[Any]:
        self.now_ms += data.draw(st.sampled_from([0, 1, 1000, 400_000, DAY_MS]))
        today = self.now_ms // DAY_MS
        op = data.draw(st.sampled_from(OPERATIONS), label="op")
        ask = Ask(
            op, data.draw(IDS), self.now_ms, today, sale_ms=self.now_ms - 5,
            token=data.draw(st.sampled_from([CARD, CARD, CARD, OTHER])), points=data.draw(POINTS),
            amount=data.draw(POINTS), partial=data.draw(st.booleans()), target=data.draw(IDS), active_day=today,
            expiry_day=data.draw(st.sampled_from([0, today, today + 1, today + 30])),
            memo=data.draw(st.sampled_from([b"", b"m" * 31, b"m" * 32, b"m" * 255, b"m" * 256, b"m" * 70_000])),
        )  # fmt: skip
        return ask.positional(data.draw(st.sampled_from([False, CONTEXT])))

    @rule(garbage=GARBAGE, account=ACCOUNTS)
    def spoil(self, garbage: bytes, account: int) -> None:
        self.valkey.set(key_of(account), garbage)
        self.embedded.data[key_of(account)] = garbage

    @rule(mark=st.integers(0, 9))
    def spoil_the_head(self, mark: int) -> None:
        """The next record then has an id that the outbox does not take, and the script fails in the middle."""
        self.valkey.set(HEAD, f"{self.epoch}:1:{mark}")
        self.embedded.data[HEAD] = f"{self.epoch}:1:{mark}".encode()

    @rule(account=ACCOUNTS)
    def forget(self, account: int) -> None:
        names = [key_of(account), key_of(account + 1)]
        assert self.embedded.delete(names) == self.valkey.delete(*names)

    @rule()
    def lose_the_scripts(self) -> None:
        self.valkey.script_flush()
        self.embedded.script_flush()
        assert self.run("reset", [HEAD, OUTBOX], ["1:1:1"]) is NoScriptError
        for text in SCRIPTS.values():
            self.valkey.script_load(text)
            self.embedded.script_load(text)

    @rule()
    def remember(self) -> None:
        self.snapshot = copied(self.embedded.data), {name: self.valkey.dump(name) for name in self.valkey.scan_iter()}

    @precondition(lambda self: self.snapshot)
    @rule()
    def go_back(self) -> None:
        self.embedded.data = copied(self.snapshot[0])
        self.valkey.flushall()
        for name, dumped in self.snapshot[1].items():
            self.valkey.restore(name, 0, dumped)

    @invariant()
    def both_store_the_same(self) -> None:
        names = [HEAD, *(key_of(account) for account in range(1, 6))]
        assert self.embedded.mget(names) == self.valkey.mget(names)
        for first in ("-", f"{self.committed + 1}-0"):
            real = [[name, [part for pair in fields.items() for part in pair]] for name, fields in
                    self.valkey.xrange(OUTBOX, min=first)]  # fmt: skip
            assert self.embedded.xrange(OUTBOX, first) == real


@pytest.fixture
def servers(valkey_url: str) -> Any:
    with redis.Redis.from_url(valkey_url) as client:
        TwoServers.valkey, TwoServers.runtime = client, ScriptRuntime()
        yield TwoServers


@pytest.mark.timeout(0 if CASES > 1600 else 120)
def test_the_scripts_do_the_same_on_both(servers: type[TwoServers]) -> None:
    run_state_machine_as_test(servers, settings=SETTINGS)


PACKED = st.recursive(
    st.none() | st.booleans() | st.binary(max_size=300) | st.integers(-(2**53), 2**53)
    | st.sampled_from([sign * 2**power + by for power in range(53) for by in (-1, 0, 1) for sign in (1, -1)]),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=60,
)  # fmt: skip
AS_REDIS_PACKS = "return cmsgpack.pack(cmsgpack.unpack(ARGV[1]))"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=PACKED.filter(lambda value: not _has_none(value)))
def test_messagepack_has_the_same_bytes(servers: type[TwoServers], value: Any) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    sha = embedded.script_load(AS_REDIS_PACKS)
    packed = embedded.evalsha(sha, [], [pack(value)])
    assert packed == servers.valkey.eval(AS_REDIS_PACKS, 0, pack(value))
    assert unpack(packed) == value


@pytest.mark.parametrize("length", [0, 15, 16, 17, 65_535, 65_536, 70_000])
def test_long_arrays_and_strings_have_the_same_bytes(servers: type[TwoServers], length: int) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    sha = embedded.script_load(AS_REDIS_PACKS)
    for value in (list(range(length)), b"s" * length):
        assert embedded.evalsha(sha, [], [pack(value)]) == servers.valkey.eval(AS_REDIS_PACKS, 0, pack(value))


def test_a_script_takes_as_many_accounts_as_in_redis(servers: type[TwoServers]) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    accounts = list(range(1, ACCOUNTS_MAX + 1))
    loads = [[account, 0, first_state(account, [(CARD, 1)])] for account in accounts]
    ask = Ask(Op.BALANCE, b"i" * 16, NOON, TODAY).positional()
    arguments = ["1:1:0", "", pack([0, [Terms().positional()], loads, [[account, 1, ask] for account in accounts]])]
    keys = [HEAD, OUTBOX, *map(key_of, accounts)]
    servers.valkey.set(HEAD, "1:1:0")
    embedded.data[HEAD] = b"1:1:0"
    real = servers.valkey.evalsha(servers.valkey.script_load(SCRIPTS["decide"]), len(keys), *keys, *arguments)
    assert embedded.evalsha(embedded.script_load(SCRIPTS["decide"]), keys, arguments) == real
    assert embedded.mget(keys) == servers.valkey.mget(keys)


NUMBERS = st.lists(st.tuples(st.integers(1, 7), st.integers(0, 2**53)), max_size=40).map(
    lambda drawn: [(width, number % 256**width) for width, number in drawn]
)
AS_REDIS_STORES = """
local packed = struct.pack(ARGV[1], unpack(cmsgpack.unpack(ARGV[2])))
return { packed, cmsgpack.pack(struct.unpack(ARGV[1], ARGV[3] .. packed, #ARGV[3] + 1)) }
"""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(numbers=NUMBERS, before=st.binary(max_size=5))
def test_numbers_of_fixed_width_have_the_same_bytes(
    servers: type[TwoServers], numbers: list[tuple[int, int]], before: bytes
) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    arguments = [">" + "".join(f"I{width}" for width, _ in numbers), pack([number for _, number in numbers]), before]
    packed, back = embedded.evalsha(embedded.script_load(AS_REDIS_STORES), [], arguments)
    assert [packed, back] == servers.valkey.eval(AS_REDIS_STORES, 0, *arguments)
    assert packed == b"".join(number.to_bytes(width, "big") for width, number in numbers)


TOO_SHORT = "return { struct.unpack('>I4I6', ARGV[1], tonumber(ARGV[2])) }"


@pytest.mark.parametrize(("length", "position"), [(0, 1), (9, 1), (10, 2), (12, 3), (12, 14), (12, 13)])
def test_too_few_bytes_fail_on_both(servers: type[TwoServers], length: int, position: int) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    sha = embedded.script_load(TOO_SHORT)
    arguments = [bytes(length), position]
    real = outcome_of(lambda: servers.valkey.eval(TOO_SHORT, 0, *arguments))
    assert outcome_of(lambda: embedded.evalsha(sha, [], arguments)) == real
    assert (real == "script failed") == (position + 9 > length)


@pytest.mark.parametrize("number", [-1, 1.5, 2**32, 2**53])
def test_a_number_that_redis_would_cut_is_refused(servers: type[TwoServers], number: float) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    sha = embedded.script_load("return struct.pack('>I4', tonumber(ARGV[1]))")
    with pytest.raises(RedisError):
        embedded.evalsha(sha, [], [str(number)])


PARTS = "return { cmsgpack.unpack_limit(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])) }"


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.integers(0, 2**40) | st.binary(max_size=40), max_size=6), data=st.data())
def test_messagepack_is_read_in_parts_as_in_redis(
    servers: type[TwoServers], values: list[Any], data: st.DataObject
) -> None:
    embedded = EmbeddedRedis(servers.runtime)
    before = data.draw(st.binary(max_size=3))
    limit = data.draw(st.integers(1, 7))
    arguments = [before + b"".join(map(pack, values)), limit, len(before) + data.draw(st.integers(0, 1))]
    real = outcome_of(lambda: servers.valkey.eval(PARTS, 0, *arguments))
    assert outcome_of(lambda: embedded.evalsha(embedded.script_load(PARTS), [], arguments)) == real


def _has_none(value: Any) -> bool:
    return value is None or (isinstance(value, list) and any(map(_has_none, value)))
