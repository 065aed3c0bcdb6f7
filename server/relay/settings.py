"""The settings of a relay: a model of its own, read from `TILLWIRE_RELAY_...` and the table `[relay]` of the file."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from protocol.codes import AMOUNT_MAX
from protocol.relay_keys import RelayCredential
from server.errors import UsageError
from server.mqtt import BrokerAddress
from server.settings import INT53_MAX, Connections, Count, Milliseconds, Port
from server.settings_load import RELAY_PREFIX, RELAY_TABLE, SettingsError, read, unknown_variables

_CREDENTIAL_BYTES_MAX = 1_024


class RelayPlace(BaseModel):
    """Who the relay is, where headquarters is, and where the registers of its store reach it."""

    credential: SecretStr | None = Field(
        default=None, description="The line that headquarters gave out for this relay; never on a command line."
    )
    credential_file: Path | None = Field(default=None, description="Or the file that holds it.")
    mqtt_url: SecretStr | None = Field(
        default=None, description="`mqtt://user:password@host:port`, headquarters' broker; `mqtts://` for TLS."
    )
    mqtt_ca_file: Path | None = Field(
        default=None, description="PEM authorities that the broker's certificate must come from; the system's without."
    )
    mqtt_qos: Literal[0, 1] = Field(default=1, description="Quality of service of what is published.")
    data_dir: Path = Field(default=Path("relay-data"), description="Folder of the store; nobody else may read it.")
    listen_host: str = Field(default="127.0.0.1", description="Address for registers; `0.0.0.0` for all interfaces.")
    listen_port: Port = Field(default=7411, description="TCP port for registers; 0 takes a free one.")
    tls_cert_file: Path | None = Field(default=None, description="PEM certificate chain; with it registers speak TLS.")
    tls_key_file: Path | None = Field(default=None, description="PEM private key of the certificate.")
    tls_client_ca_file: Path | None = Field(
        default=None, description="PEM authorities; with it a register must present a certificate that they signed."
    )


class RelayConnections(Connections):
    """Limits of one register's connection to the relay, and of all of them."""

    connections_max: Count = Field(default=500, description="Connections of registers; more get GOODBYE BUSY.")
    listen_backlog_connections_max: Count = Field(
        default=512, description="Connections that the kernel keeps until they are accepted."
    )


class RelayRequests(BaseModel):
    """Limits of requests on their way through the relay."""

    ttl_default_ms: Milliseconds = Field(default=5_000, description="Deadline of a request that names none.")
    ttl_max_ms: Milliseconds = Field(default=60_000, description="Longest deadline; a longer one is cut to it.")
    answer_timeout_ms: Milliseconds = Field(
        default=5_000, description="How long headquarters is waited for, if the request's deadline is not nearer."
    )
    requests_under_way_max: Count = Field(default=4_096, description="Requests of all registers without an answer.")
    busy_retry_after_ms: Milliseconds = Field(default=200, description="What ERROR BUSY tells a register to wait.")
    amount_max: Annotated[int, Field(gt=0, le=INT53_MAX)] = Field(
        default=AMOUNT_MAX, description="Largest amount or number of points in a request, in minor units."
    )


class RelayLineLimits(BaseModel):
    """The line to headquarters."""

    publications_under_way_max: Annotated[int, Field(ge=1, le=64)] = Field(
        default=16, description="Publications that the broker has not acknowledged; what comes meanwhile gathers."
    )
    waiting_requests_max: Count = Field(
        default=1_024, description="Requests that wait to be published; more are answered ERROR BUSY."
    )
    silence_ms: Milliseconds = Field(
        default=3_000, description="Silence of headquarters, with something asked of it, until a session is begun anew."
    )
    grace_ms: Milliseconds = Field(
        default=1_000, description="How long requests wait for a new session before they are answered as off line."
    )


class RelayStore(BaseModel):
    """What the relay keeps on its disk."""

    queue_max: Count = Field(default=100_000, description="Requests that wait for headquarters; more get ERROR BUSY.")
    answers_max: Count = Field(default=1_000_000, description="Own answers that are remembered, 30 days each.")
    balances_max: Count = Field(default=100_000, description="Cards whose last balance is known.")
    conflicts_max: Count = Field(default=10_000, description="Conflicts that are listed; headquarters has them all.")
    allowances_max: Count = Field(default=1_000, description="Cards that may have a reserved allowance at one time.")


class RelayObservation(BaseModel):
    """What the relay tells about itself, and from when on `tillwire relay status` calls that bad."""

    line_down_alarm_ms: Annotated[int, Field(gt=0)] = Field(
        default=300_000, description="How long the line may be down until `relay status` exits with 1."
    )
    oldest_alarm_ms: Annotated[int, Field(gt=0)] = Field(
        default=3_600_000, description="How old the oldest waiting request may be until it does."
    )
    status_interval_ms: Milliseconds = Field(
        default=5_000, description="How often the running relay notes on its disk how it is, for `relay status`."
    )
    drain_timeout_ms: Milliseconds = Field(
        default=10_000, description="How long a stopping relay may finish what is in flight."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="Least level logged.")
    log_format: Literal["json", "console"] = Field(
        default="json", description="`json`: one object a line; `console`: coloured lines for a person."
    )


RELAY_GROUPS: tuple[type[BaseModel], ...] = (
    RelayPlace,
    RelayConnections,
    RelayRequests,
    RelayLineLimits,
    RelayStore,
    RelayObservation,
)


class RelaySettings(RelayObservation, RelayStore, RelayLineLimits, RelayRequests, RelayConnections, RelayPlace):
    """All settings of a relay. Immutable; `model_copy(update=...)` gives a changed copy."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    @model_validator(mode="after")
    def _limits_agree(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file are set together or not at all")
        if self.tls_client_ca_file is not None and self.tls_cert_file is None:
            raise ValueError("tls_client_ca_file needs tls_cert_file and tls_key_file")
        if self.credential is not None and self.credential_file is not None:
            raise ValueError("credential and credential_file are not set both")
        for smaller, larger in (("heartbeat_ms", "idle_timeout_ms"), ("ttl_default_ms", "ttl_max_ms")):
            if getattr(self, smaller) > getattr(self, larger):
                raise ValueError(f"{smaller} must not exceed {larger}")
        return self


class _Environment(RelaySettings, BaseSettings):
    model_config = SettingsConfigDict(env_prefix=RELAY_PREFIX, env_ignore_empty=True, extra="ignore")


@dataclass(frozen=True)
class LoadedRelay:
    """A relay's settings with the place each value came from."""

    settings: RelaySettings
    origins: Mapping[str, str]
    unknown_variables: tuple[str, ...]


def load_relay(config: Path | None = None, overrides: Mapping[str, Any] | None = None) -> LoadedRelay:
    """Read all sources, as `server.settings_load.load` does. Raises SettingsError."""
    if overrides and "credential" in overrides:
        raise SettingsError(
            "the relay's credential must not stand on a command line, where others of this computer can read it: set "
            f"{RELAY_PREFIX}CREDENTIAL or credential_file"
        )
    settings, origins = read(RelaySettings, _Environment, config, overrides, RELAY_TABLE)
    return LoadedRelay(settings, origins, unknown_variables(RELAY_PREFIX, RelaySettings.model_fields))


def relay_credential(settings: RelaySettings) -> RelayCredential:
    """Return who the relay is. Raises UsageError that says what is missing or damaged."""
    if settings.credential is not None:
        line = settings.credential.get_secret_value()
    elif settings.credential_file is not None:
        try:
            with settings.credential_file.open(encoding="ascii", errors="replace") as file:
                line = file.read(_CREDENTIAL_BYTES_MAX)
        except OSError as error:
            raise UsageError(
                f"the relay's credential in {settings.credential_file} cannot be read: {error.strerror}"
            ) from None
    else:
        raise UsageError(
            "the relay has no credential: have an operator make the relay, and put the line that is shown once into a "
            f"file named by {RELAY_PREFIX}CREDENTIAL_FILE"
        )
    try:
        return RelayCredential.parse(line)
    except ValueError as error:
        raise UsageError(str(error)) from None


def broker_url(settings: RelaySettings) -> str:
    """Return the broker's URL with its password. Raises UsageError."""
    if settings.mqtt_url is None:
        raise UsageError(f"the relay does not know headquarters' broker: set {RELAY_PREFIX}MQTT_URL")
    url = settings.mqtt_url.get_secret_value()
    try:
        BrokerAddress.parse(url)
    except ValueError as error:
        raise UsageError(str(error)) from None
    return url
