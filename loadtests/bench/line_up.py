"""All stages in the order in which they run."""

from __future__ import annotations

from loadtests.bench.closed_loop import ClosedLoopStage, HotCardStage, MixStage, TlsStage
from loadtests.bench.connections import IdleConnectionsStage, ReconnectStage
from loadtests.bench.cost import CostStage
from loadtests.bench.growth import GrowthStage
from loadtests.bench.mqtt import MqttStage
from loadtests.bench.open_loop import OpenLoopStage, OverloadStage
from loadtests.bench.peer_stages import HttpServiceStage, PgbenchStage
from loadtests.bench.redis_memory import RedisMemoryStage
from loadtests.bench.stages import Stage
from loadtests.bench.traffic import Traffic
from loadtests.bench.white_box_stages import AllocationsStage, CeilingsStage

# The stages share it, so that they need not warm the server one after the other.
_TRAFFIC = Traffic()

#: The peers and the ceilings come first: the server does not run yet, and their figures give the others their measure.
STAGES: tuple[Stage, ...] = (
    PgbenchStage(),
    HttpServiceStage(),
    CeilingsStage(),
    AllocationsStage(),
    ClosedLoopStage(_TRAFFIC),
    CostStage(_TRAFFIC),
    MixStage(_TRAFFIC),
    OpenLoopStage(_TRAFFIC),
    HotCardStage(_TRAFFIC),
    OverloadStage(_TRAFFIC),
    MqttStage(_TRAFFIC),
    TlsStage(_TRAFFIC),
    IdleConnectionsStage(),
    ReconnectStage(),
    RedisMemoryStage(),
    GrowthStage(_TRAFFIC),
)


def chosen(names: str) -> list[Stage]:
    """Return the stages of a comma-separated list, all for ''. Raises ValueError for a wrong name."""
    if not names:
        return list(STAGES)
    wanted = {name.strip() for name in names.split(",")}
    known = {stage.name for stage in STAGES}
    if unknown := wanted - known:
        raise ValueError(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(s.name for s in STAGES)}")
    return [stage for stage in STAGES if stage.name in wanted]
