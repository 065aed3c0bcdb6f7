"""Every setting of the process: one plain, frozen model, grouped by subject.

`Settings` itself reads nothing, so that tests and workers get exactly what they are given; `server.settings_load` fills
it from the command line, the environment and one TOML file. A number's name says its unit.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Port = Annotated[int, Field(ge=0, le=65_535)]
Milliseconds = Annotated[int, Field(gt=0, le=86_400_000)]
Count = Annotated[int, Field(gt=0, le=2**31)]

INT53_MAX = 2**53 - 1


class Addresses(BaseModel):
    """Where the process listens."""

    listen_host: str = Field(default="127.0.0.1", description="Address for registers; `0.0.0.0` for all interfaces.")
    listen_port: Port = Field(default=7411, description="TCP port for registers; 0 takes a free one.")
    admin_host: str = Field(default="127.0.0.1", description="Address for health, metrics and the admin HTTP layer.")
    admin_port: Port = Field(default=7480, description="Port for health, metrics and the admin HTTP layer.")
    tls_cert_file: Path | None = Field(default=None, description="PEM certificate chain; with it registers speak TLS.")
    tls_key_file: Path | None = Field(default=None, description="PEM private key of the certificate.")
    tls_client_ca_file: Path | None = Field(
        default=None, description="PEM authorities; with it a register must present a certificate that they signed."
    )


class Engines(BaseModel):
    """The engines behind the process. Without a URL `tillwire up` starts its own engine on the port named here."""

    postgres_url: SecretStr | None = Field(
        default=None, description="`postgresql://user:password@host:port/database`, PostgreSQL 15 or later."
    )
    redis_url: SecretStr | None = Field(
        default=None, description="`redis://:password@host:port/0`, Valkey 8 or Redis 7 or later; `rediss://` for TLS."
    )
    mqtt_url: SecretStr | None = Field(
        default=None, description="`mqtt://user:password@host:port`, an MQTT 5 broker; `mqtts://` for TLS."
    )
    embedded_postgres_port: Port = Field(default=7413, description="Port of the PostgreSQL of `tillwire up`.")
    embedded_valkey_port: Port = Field(default=7412, description="Port of the Valkey of `tillwire up`.")
    embedded_broker_port: Port = Field(default=7414, description="Port of the MQTT broker of `tillwire up`.")
    embedded_valkey_memory_bytes_max: Annotated[int, Field(ge=64 * 2**20)] = Field(
        default=2 * 2**30, description="Memory of the Valkey of `tillwire up`; past it writes fail, nothing is evicted."
    )
    postgres_timeout_ms: Milliseconds = Field(default=5_000, description="Longest wait for one answer of PostgreSQL.")
    redis_timeout_ms: Milliseconds = Field(default=2_000, description="Longest wait for one answer of Redis.")
    postgres_silence_ms: Milliseconds = Field(
        default=2_000,
        description="Silence of PostgreSQL, with something asked of it, after which nobody waits for it any more.",
    )
    redis_probe_ms: Milliseconds = Field(default=500, description="How often a lost Redis is asked if it is back.")
    redis_steady_ms: Milliseconds = Field(
        default=1_000, description="How long a lost Redis must answer again before it is used."
    )
    redis_steady_ms_max: Milliseconds = Field(
        default=60_000, description="The same at most, for one that is lost again and again: twice as long each time."
    )
    standby_accounts_max: Count = Field(
        default=50_000, description="Accounts of a partition that a worker remembers while Redis is away."
    )
    postgres_connections_max: Count = Field(
        default=8, description="Connections that one worker keeps for reading, beside one per partition it writes."
    )


class Process(BaseModel):
    """The shape of the process."""

    workers: Annotated[int, Field(ge=1, le=256)] = Field(default=1, description="Worker processes on the one port.")
    partitions: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=0,
        description="Parts of the accounts; each is decided and journaled by one worker at a time. 0: one a worker. "
        "The same for every worker and host.",
    )
    data_dir: Path = Field(default=Path("data"), description="Folder of embedded engines and of generated secrets.")
    secrets_file: Path | None = Field(
        default=None, description="TOML file of the secret keys; without it `secrets.toml` in `data_dir`."
    )
    drain_timeout_ms: Milliseconds = Field(
        default=10_000, description="How long a stopping worker may finish what is in flight before it is killed."
    )
    worker_start_timeout_ms: Milliseconds = Field(
        default=60_000, description="How long a new worker may take until its first sign of life."
    )
    worker_silent_after_ms: Milliseconds = Field(
        default=5_000, description="A worker that reports nothing for so long counts as down."
    )
    worker_kill_after_ms: Milliseconds = Field(
        default=30_000, description="A worker that reports nothing for so long is killed and started anew."
    )
    worker_backoff_ms_max: Milliseconds = Field(
        default=10_000, description="Longest pause before a dead worker is started again; the first is 100 ms."
    )


class Connections(BaseModel):
    """Limits of one register's connection, and of all of them."""

    connections_max: Count = Field(default=12_000, description="Connections of one worker; more get GOODBYE BUSY.")
    listen_backlog_connections_max: Count = Field(
        default=4_096, description="Connections that the kernel keeps until a worker accepts them."
    )
    frame_bytes_max: Annotated[int, Field(ge=1_024, le=2**24)] = Field(
        default=65_536, description="Longest frame from a register, without its length prefix."
    )
    in_flight_max: Annotated[int, Field(ge=1, le=65_536)] = Field(
        default=64, description="Unanswered requests of one connection; more get ERROR BUSY."
    )
    send_buffer_bytes_max: Count = Field(
        default=1_048_576, description="Bytes a register may leave unread before its connection is closed."
    )
    handshake_timeout_ms: Milliseconds = Field(default=5_000, description="From connect to a proven identity.")
    frame_timeout_ms: Milliseconds = Field(default=10_000, description="From a frame's first byte to its last.")
    idle_timeout_ms: Milliseconds = Field(default=90_000, description="Silence after which a connection is closed.")
    heartbeat_ms: Milliseconds = Field(default=30_000, description="How often a silent register should send PING.")
    reconnect_after_ms: Milliseconds = Field(
        default=1_000, description="What a draining worker tells registers to wait before they connect again."
    )


class Requests(BaseModel):
    """Limits of requests on their way through one worker."""

    ttl_default_ms: Milliseconds = Field(default=5_000, description="Deadline of a request that names none.")
    ttl_max_ms: Milliseconds = Field(default=60_000, description="Longest deadline; a longer one is cut to it.")
    queue_requests_max: Count = Field(
        default=8_192, description="Requests of a partition that wait for a batch; more get ERROR BUSY."
    )
    queue_wait_ms_max: Milliseconds = Field(
        default=500, description="How long they wait at most; while it takes longer, new ones get ERROR BUSY."
    )
    batch_requests_max: Count = Field(default=256, description="Requests decided by one call of the script.")
    uncommitted_entries_max: Count = Field(
        default=4_096, description="Decided entries of a partition that may wait for PostgreSQL."
    )
    load_accounts_max: Count = Field(default=256, description="Cold accounts loaded from PostgreSQL by one query.")
    redecide_attempts_max: Count = Field(
        default=5, description="How often a request is decided anew after a veto before it is answered UNAVAILABLE."
    )
    busy_retry_after_ms: Milliseconds = Field(default=100, description="What ERROR BUSY tells a register to wait.")
    token_cache_entries_max: Count = Field(
        default=2_000_000, description="Tokens whose account a worker remembers, 24 bytes each."
    )
    advice_future_max_ms: Milliseconds = Field(
        default=600_000, description="How far ahead of the server's clock the sale time of an advice may lie."
    )
    amount_max: Annotated[int, Field(gt=0, le=INT53_MAX)] = Field(
        default=100_000_000_000, description="Largest amount or number of points in a request, in minor units."
    )
    settle_interval_ms: Milliseconds = Field(
        default=1_000, description="How often holds and lots that have run out are looked for."
    )


class Bridge(BaseModel):
    """Stores that ask over MQTT: the worker's connection to the broker of `mqtt_url`, and what bounds their relays."""

    mqtt_ca_file: Path | None = Field(
        default=None, description="PEM authorities of the broker's certificate; without it those of the system."
    )
    mqtt_qos: Literal[0, 1] = Field(
        default=1, description="Quality of service of publications; nothing relies on it, 1 spares repetitions."
    )
    mqtt_publications_max: Annotated[int, Field(ge=1, le=65_535)] = Field(
        default=64,
        description="Publications that the broker has not acknowledged; what gathers meanwhile goes out in one.",
    )
    bridge_sessions_max: Count = Field(default=10_000, description="Relays of one worker; more get GOODBYE BUSY.")
    bridge_in_flight_max: Count = Field(
        default=32_768,
        description="Unanswered requests of all relays of one worker, at most half of them from backlogs; more get "
        "ERROR BUSY.",
    )
    bridge_backlog_at_once_max: Count = Field(
        default=128,
        description="Of these, requests from relays' backlogs that the ledger has at once; the others wait, so that "
        "live ones need not.",
    )
    bridge_relay_in_flight_max: Count = Field(
        default=256, description="Unanswered requests of one relay; more get ERROR BUSY."
    )
    bridge_relay_backlog_in_flight_max: Count = Field(
        default=64, description="Of these, requests from its backlog; more get ERROR BUSY."
    )
    bridge_relay_backlog_per_s_max: Count = Field(
        default=100, description="What a relay is told to send from its backlog at most, in requests a second."
    )
    bridge_heartbeat_ms: Milliseconds = Field(
        default=10_000, description="How often a silent relay says something; after three times that it is gone."
    )


class Operators(BaseModel):
    """The admin process: the operators' HTTP interface and console, beside health and metrics on `admin_port`."""

    admin_url: str | None = Field(
        default=None,
        pattern=r"^https?://[^\s/]+/?$",
        description="Where people reach the console, as in `https://loyalty.example.com`; links begin with it. "
        "Without it: `admin_host` and `admin_port`.",
    )
    admin_tls_cert_file: Path | None = Field(
        default=None, description="PEM certificate chain; with it the admin port speaks HTTPS."
    )
    admin_tls_key_file: Path | None = Field(default=None, description="PEM private key of that certificate.")
    forwarded_allow_ips: str = Field(
        default="",
        description="Addresses of the reverse proxies, comma-separated, whose `X-Forwarded-For` and "
        "`X-Forwarded-Proto` are believed; nobody's when empty.",
    )
    admin_connections_max: Count = Field(
        default=512, description="HTTP connections of the admin process; more are answered 503."
    )
    admin_streams_max: Count = Field(
        default=32, description="Streams of live figures among them; more are answered 503."
    )
    admin_silence_ms: Milliseconds = Field(
        default=10_000,
        description="Silence in the middle of an HTTP request, or before the first, that ends a connection.",
    )
    admin_body_bytes_max: Count = Field(default=1_048_576, description="Longest body of an HTTP request.")
    admin_memory_bytes_max: Annotated[int, Field(ge=256 * 2**20)] = Field(
        default=2**30, description="Memory of the admin process; past it requests fail, and registers notice nothing."
    )
    admin_kill_after_ms: Milliseconds = Field(
        default=10_000, description="An admin process that reports nothing for so long is killed and started anew."
    )
    admin_patience_ms: Milliseconds = Field(
        default=5_000, description="How long an operator's request may wait for its decision before it is answered 503."
    )
    admin_postgres_connections_max: Count = Field(
        default=8, description="Connections of the admin process to PostgreSQL for its own tables."
    )
    admin_page_rows_max: Count = Field(default=200, description="Most rows of one page of a list.")
    requests_per_minute_max: Count = Field(
        default=1_200, description="HTTP requests of one actor a minute; more are answered 429."
    )
    sign_ins_per_minute_max: Count = Field(default=10, description="Attempts to sign in from one address a minute.")
    sign_in_failures_max: Count = Field(
        default=8, description="Wrong passwords or codes in a row until a user is locked out."
    )
    lockout_ms: Milliseconds = Field(default=900_000, description="For how long.")
    session_idle_ms: Milliseconds = Field(default=1_800_000, description="A session ends after so much silence.")
    session_ms: Milliseconds = Field(default=43_200_000, description="A session ends at last after so long.")
    invitation_ms: Milliseconds = Field(default=86_400_000, description="How long a new user's link may be used.")
    token_days_max: Annotated[int, Field(ge=1, le=3_660)] = Field(
        default=366, description="Longest life of a program's token, in days."
    )
    member_token_ms_max: Milliseconds = Field(
        default=86_400_000, description="Longest life of a token with which one member sees his own account."
    )
    idempotency_ms: Milliseconds = Field(
        default=86_400_000, description="How long the answer to a POST is remembered under its Idempotency-Key."
    )
    adjust_alone_points_max: Annotated[int, Field(ge=0, le=INT53_MAX)] = Field(
        default=100_000,
        description="Minor points that one person may give and take on an account in a day; more needs another person.",
    )
    card_batch_cards_max: Count = Field(default=100_000, description="Most cards of one batch.")


class Observation(BaseModel):
    """What the process tells about itself."""

    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json`: one object a line; `console`: coloured lines for a person."
    )
    status_interval_ms: Milliseconds = Field(
        default=1_000, description="How often a worker reports its state to the supervisor."
    )


GROUPS: tuple[type[BaseModel], ...] = (
    Addresses,
    Engines,
    Process,
    Connections,
    Requests,
    Bridge,
    Operators,
    Observation,
)


class Settings(Observation, Operators, Bridge, Requests, Connections, Process, Engines, Addresses):
    """All settings. Immutable; `model_copy(update=...)` gives a changed copy."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are set together or not at all")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        if (self.admin_tls_cert_file is None) != (self.admin_tls_key_file is None):
            raise ValueError("admin_tls_cert_file and admin_tls_key_file are set together or not at all")
        for smaller, larger in (
            ("heartbeat_ms", "idle_timeout_ms"),
            ("ttl_default_ms", "ttl_max_ms"),
            ("batch_requests_max", "queue_requests_max"),
            ("bridge_relay_backlog_in_flight_max", "bridge_relay_in_flight_max"),
            ("bridge_relay_in_flight_max", "bridge_in_flight_max"),
            ("bridge_backlog_at_once_max", "bridge_in_flight_max"),
            ("redis_steady_ms", "redis_steady_ms_max"),
            ("status_interval_ms", "worker_silent_after_ms"),
            ("worker_silent_after_ms", "worker_kill_after_ms"),
            ("status_interval_ms", "admin_kill_after_ms"),
            ("session_idle_ms", "session_ms"),
        ):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(f"{smaller} must not exceed {larger}")
        return self
