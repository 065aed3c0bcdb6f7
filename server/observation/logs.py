"""One JSON object a line on standard error, with no personal data and no card number in it.

Callers log events with fields: `log.info("request", outcome=0)`. Within `with bound_request(id):` every line of the
task carries the request's id. Fields that would hold personal data are redacted by name, strings by their look.
"""

import contextlib
import logging
import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

REDACTED = "[redacted]"

# Words, between underscores, of field names whose values are never written.
PERSONAL_WORDS = frozenset(
    {
        *("card", "pan", "ean13", "track", "token", "phone", "name", "greeting", "email", "birthday", "birthdate"),
        *("address", "street", "member", "password", "secret", "key", "proof", "url", "dsn"),
    }
)
# Fields with such a word that name a thing of the system, not a person.
_INNOCENT_FIELDS = frozenset({"logger_name", "tokens_count", "token_cache_entries", "local_address"})
_CARD_OR_TOKEN = re.compile(
    # A canonical token of any kind; an E.164 number; the digits of a card, a magnetic track; credentials in a URL.
    r"\b(?:ean13|pan|phone|virtual):[^\s,;'\"]+|\+\d{7,15}|(?<!\d)\d{13}(?!\d)|(?<!\d)\d{15,19}(?!\d)"
    r"|[%;]B?\d{8,19}[=^][^\s?]*\??|(?<=://)[^\s/@]+@"
)
_NESTED_MAX = 4


def configure_logging(level: str, style: str = "json", *, stream: TextIO | None = None, **always: Any) -> None:
    """Set up structlog and the standard library's logging for this process.

    `level`: debug, info, warning, error. `style`: json or console. `always`: fields of every line, such as `worker=0`.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    renderer: Processor = structlog.dev.ConsoleRenderer() if style == "console" else _to_json
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=lambda *_: _LineLogger(stream),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(**always)
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Libraries speak up only when something is wrong.
    root.setLevel(max(logging.getLevelNamesMapping()[level.upper()], logging.WARNING))


class _LineLogger:
    """Writes each line at once. A log that nobody can take any more, as after a broken pipe, ends no process."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    debug = info = warning = error = critical = exception = msg


def get_log(subject: str) -> Any:
    """Return a logger whose lines carry `subject`, the part of the server that speaks."""
    return structlog.get_logger(subject=subject)


@contextlib.contextmanager
def bound_request(request_id: bytes) -> Iterator[None]:
    """Put the id of a request, in hex, on every line logged by this task."""
    with structlog.contextvars.bound_contextvars(request_id=request_id.hex()):
        yield


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Replace what would identify a person or a card, by the field's name and by the look of a string."""
    return {name: _clean(name, value, 0) for name, value in event.items()}


def _clean(name: str, value: Any, depth: int) -> Any:
    if name not in _INNOCENT_FIELDS and not PERSONAL_WORDS.isdisjoint(name.lower().split("_")):
        return REDACTED
    if isinstance(value, str):
        # A request's id is 32 hexadecimal digits, by chance all of them decimal.
        return value if name == "request_id" else _CARD_OR_TOKEN.sub(REDACTED, value)
    if isinstance(value, bytes | bytearray | memoryview):
        return REDACTED
    if isinstance(value, Mapping):
        if depth >= _NESTED_MAX:
            return REDACTED
        return {str(key): _clean(str(key), inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(name, inner, depth + 1) for inner in value] if depth < _NESTED_MAX else REDACTED
    if isinstance(value, bool | int | float | None):
        return value
    return _CARD_OR_TOKEN.sub(REDACTED, str(value))


def _to_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    # 64-bit integers are orjson's limit; a longer one is written as a string rather than losing the line.
    try:
        return orjson.dumps(event, option=orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:
        return orjson.dumps({name: str(value) for name, value in event.items()}).decode()
