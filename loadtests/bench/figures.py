"""Every figure of the benchmark, named once. The end of a name is its unit: `_per_s`, `_ms`, `_us_...`, `_s`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field

#: What each figure means, by name; `{n}` stands for a number. A figure that is not here cannot be put.
MEANINGS = {
    "redeem_{n}_per_s": "durable redeems a second, closed loop, {n} registers with one request under way each",
    "redeem_{n}_p50_ms": "median latency of the redeems of {n} registers",
    "redeem_{n}_p99_ms": "99th percentile of their latency, {n} registers",
    "redeem_{n}_p999_ms": "99.9th percentile of their latency, {n} registers",
    "pgbench_{n}_per_s": "the same job as one SQL function inside PostgreSQL, {n} clients of pgbench",
    "pgbench_best_per_s": "the best of them",
    "pgbench_best_clients": "the clients that it took",
    "pgbench_postgresql_us_per_transaction": "PostgreSQL's processor time for each of these transactions, at the best",
    "pgbench_half_peak_p99_ms": "99th percentile of pgbench at half its best rate, from the schedule; median run",
    "http_service_{n}_per_s": "the same job in an asyncio HTTP service with SELECT ... FOR UPDATE, {n} connections",
    "http_service_best_per_s": "the best of them",
    "http_service_best_connections": "the connections that it took",
    "ceiling_script_per_s": "decisions of the Redis script alone, pipelined, nothing journaled",
    "ceiling_journal_per_s": "entries of the journal's insert alone, rows made beforehand",
    "mix_256_per_s": "requests a second of a mix: 60 % balance, 25 % sale, 10 % hold and capture, 5 % reversal",
    "mix_256_p50_ms": "median latency of the mix",
    "mix_256_p99_ms": "99th percentile of the mix",
    "mix_256_p999_ms": "99.9th percentile of the mix",
    "open_{n}_per_s": "redeems offered a second, open loop, at {n} % of the peak",
    "open_{n}_p50_ms": "median latency at {n} % of the peak, from the intended time of sending",
    "open_{n}_p99_ms": "99th percentile at {n} % of the peak; of the runs the one with the median",
    "open_{n}_p999_ms": "99.9th percentile at {n} % of the peak",
    "hot_card_256_per_s": "durable redeems a second when 256 registers share one card",
    "tls_256_per_s": "durable redeems a second of 256 registers over TLS",
    "tls_to_plain_in_turns": "the same : without TLS, measured in turns; the median of the pairs",
    "server_us_per_redeem": "processor time of Tillwire's own processes for each durable redeem",
    "valkey_us_per_redeem": "processor time of Valkey for each durable redeem",
    "postgresql_us_per_redeem": "processor time of PostgreSQL for each durable redeem",
    "generator_us_per_redeem": "processor time of the load generator for each durable redeem, no cost of the server",
    "batch_cycle_mean_ms": "mean time from the moment a batch is formed until its answers are out, 256 registers",
    "batch_requests_mean": "mean number of requests in a batch, 256 registers",
    "redis_bytes_per_account": "memory of Redis for an account with 6 lots and 8 remembered requests",
    "kib_per_idle_connection": "the server's memory for each of 10,000 connections that are signed on and silent",
    "reconnect_3000_s": "time from a restart of the server until 3,000 registers have signed on again",
    "goodput_overload_3x_per_s": "durable redeems a second while three times the peak is offered",
    "disk_bytes_written_per_redeem": "bytes written to disk by PostgreSQL and Redis for each durable redeem",
    "allocations_per_redeem": "blocks of memory that the hot path asks Python's allocator for, for each redeem",
    "mqtt_echo_{n}_per_s": "messages a second to an echo and back through Mosquitto, QoS 1, {n} closed loops",
    "mqtt_echo_{n}_p50_ms": "median of that round trip, {n} clients",
    "mqtt_echo_{n}_p99_ms": "99th percentile of that round trip, {n} clients",
    "relay_{n}_per_s": "durable redeems a second through a store's relay and Mosquitto, {n} registers of the store",
    "relay_{n}_p50_ms": "median latency of the redeems through the relay, {n} registers",
    "relay_{n}_p99_ms": "99th percentile of that latency, {n} registers",
    "relay_{n}_p50_to_mqtt_echo": "median latency through the relay, {n} registers : median of the echo, {n} clients",
    "relay_{n}_per_s_to_mqtt_echo": "redeems a second through the relay, {n} registers : messages of the echo",
    "relay_{n}_us_per_redeem": "processor time of all processes but the registers for each such redeem, {n} registers",
    "growth_redeem_256_per_s": "durable redeems a second at 256 registers, 1,000,000 accounts and 10,000,000 entries",
    "growth_to_small_in_turns": "the same : with 100,000 accounts, measured in turns; the median of the pairs",
}

_SHAPES = [(re.compile(name.replace("{n}", r"(\d+)")), text) for name, text in MEANINGS.items()]


def meaning(name: str) -> str | None:
    """Return what a figure means, None for a name that is no figure's."""
    for shape, text in _SHAPES:
        if found := shape.fullmatch(name):
            return text.format(n=int(found[1])) if found.groups() else text
    return None


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve: `at` is what varies (registers, clients, offered requests a second)."""

    at: float
    per_s: float
    p50_ms: float | None = None
    p99_ms: float | None = None
    p999_ms: float | None = None


@dataclass
class Figures:
    """The figures of one run, and its curves.

    The curves that the picture shows: `registers` (Tillwire, over registers), `offered` (Tillwire, open loop, over
    the offered rate), `pgbench` (over clients), `http_service` (over connections), `pgbench_offered` (over the offered
    rate).
    """

    values: dict[str, float] = field(default_factory=dict)
    curves: dict[str, list[Point]] = field(default_factory=dict)

    def put(self, name: str, value: float) -> None:
        """Take a figure. Raises ValueError for a name that is there already or has no meaning, and for no number."""
        if name in self.values:
            raise ValueError(f"the figure {name} is there already")
        if meaning(name) is None:
            raise ValueError(f"{name} is no figure: give it a meaning in {__name__}")
        if not math.isfinite(value):
            raise ValueError(f"the figure {name} is no number: {value}")
        self.values[name] = value

    def add(self, curve: str, point: Point) -> None:
        """Add a point to a curve."""
        self.curves.setdefault(curve, []).append(point)

    def peak_per_s(self) -> float | None:
        """Return the most durable redeems a second that a closed loop reached, None when none was measured."""
        reached = [value for name, value in self.values.items() if re.fullmatch(r"redeem_\d+_per_s", name)]
        return max(reached, default=None)
