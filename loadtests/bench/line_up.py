"""All stages in the order in which they run."""

from __future__ import annotations

from loadtests.bench.peer_stages import HttpServiceStage, PgbenchStage
from loadtests.bench.stages import Stage

#: The peers and the ceilings come first: the server does not run yet, and their figures give the others their measure.
STAGES: tuple[Stage, ...] = (PgbenchStage(), HttpServiceStage())


def chosen(names: str) -> list[Stage]:
    """Return the stages of a comma-separated list, all for ''. Raises ValueError for a wrong name."""
    if not names:
        return list(STAGES)
    wanted = {name.strip() for name in names.split(",")}
    known = {stage.name for stage in STAGES}
    if unknown := wanted - known:
        raise ValueError(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in STAGES)}")
    return [stage for stage in STAGES if stage.name in wanted]
