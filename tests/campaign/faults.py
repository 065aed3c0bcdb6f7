"""The faults that a round may draw, by their names in the report."""

from __future__ import annotations

from tests.campaign.engine_faults import (
    EndSessions,
    FillDisk,
    FlushValkey,
    KillPostgres,
    KillValkey,
    PausePostgres,
    PauseValkey,
    PromoteReplica,
    RefuseConnections,
    RollValkeyBack,
    SlowFsync,
    StopPostgresImmediately,
)
from tests.campaign.fault import Maker
from tests.campaign.line_faults import LINE_FAULTS
from tests.campaign.server_faults import (
    KillAdmin,
    KillServer,
    KillWorker,
    PauseAdmin,
    PauseServer,
    PauseServerForLong,
    PauseWorker,
    PauseWorkerAndCutLines,
    PauseWorkerForLong,
    RestartServer,
    WrongClock,
)
from tests.campaign.shop_faults import (
    FillRelaysDisk,
    KillBroker,
    KillRelay,
    KillRelayAlone,
    PauseBroker,
    PauseRelay,
    RestartBroker,
    RestartRelay,
)

FAULTS: dict[str, Maker] = {
    "worker killed": KillWorker,
    "worker paused": PauseWorker,
    "worker paused and lines cut": PauseWorkerAndCutLines,
    "worker paused for long": PauseWorkerForLong,
    "admin killed": KillAdmin,
    "admin paused": PauseAdmin,
    "server killed": KillServer,
    "server restarted": RestartServer,
    "server paused": PauseServer,
    "server paused for long": PauseServerForLong,
    "valkey killed": KillValkey,
    "valkey paused": PauseValkey,
    "valkey flushed": FlushValkey,
    "valkey rolled back": RollValkeyBack,
    "lagging replica promoted": PromoteReplica,
    "postgres killed": KillPostgres,
    "postgres stopped immediately": StopPostgresImmediately,
    "postgres paused": PausePostgres,
    "postgres sessions ended": EndSessions,
    "postgres refuses": RefuseConnections,
    "postgres disk full": FillDisk,
    "postgres fsync slow": SlowFsync,
    "clock jumps": WrongClock,
    "broker killed": KillBroker,
    "broker restarted": RestartBroker,
    "broker paused": PauseBroker,
    "relay killed": KillRelay,
    "relay killed while alone": KillRelayAlone,
    "relay restarted": RestartRelay,
    "relay paused": PauseRelay,
    "relay disk full": FillRelaysDisk,
    **LINE_FAULTS,
}
"""Every kind of fault by its name in the report."""
