"""What the product logs during a scenario, with the virtual time and the process that says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from tests.simulator.loop import current_process

#: Takes process, level and the event's fields.
Take = Callable[[str, str, dict[str, Any]], None]


@contextmanager
def captured(take: Take, *, quiet: bool) -> Iterator[None]:
    """Hand everything that is logged to `take`; `quiet` leaves out what is below an error."""

    def processor(_logger: object, method: str, event: dict[str, Any]) -> Any:
        process = current_process()
        take("the world" if process is None else process.name, method, event)
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(
        processors=[processor],
        wrapper_class=structlog.make_filtering_bound_logger("error" if quiet else "debug"),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
