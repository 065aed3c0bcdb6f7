"""What a durable redeem costs: processor time of each part, bytes on the disk."""

from __future__ import annotations

from loadtests.bench.disk import Disk
from loadtests.bench.stages import Bench
from loadtests.bench.traffic import MANY, Traffic
from loadtests.generator.load import Load

_PARTS = ("server", "valkey", "postgresql")
_WRITTEN = "written_bytes"


class CostStage:
    """Many registers redeem, and the kernel is asked before and after."""

    name = "cost"

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def run(self, bench: Bench) -> None:
        """Put `*_us_per_redeem` and `disk_bytes_written_per_redeem`."""
        installation = bench.serve()
        disk = Disk(installation.postgres_url, installation.redis_url)

        def used() -> dict[str, float]:
            return {**installation.processors(), _WRITTEN: float(disk.written_bytes())}

        load = Load(MANY, bench.scale.measuring_s, warm_up_s=bench.scale.warm_up_s)
        outcome = self._traffic.run(bench, load, observe=used)
        for part in _PARTS:
            bench.figures.put(f"{part}_us_per_redeem", outcome.observed[part] / outcome.approved * 1e6)
        bench.figures.put("generator_us_per_redeem", outcome.cpu_us_per_request)
        bench.figures.put("disk_bytes_written_per_redeem", outcome.observed[_WRITTEN] / outcome.approved)
        each = ", ".join(f"{part} {bench.figures.values[f'{part}_us_per_redeem']:.1f}" for part in _PARTS)
        bench.say(f"us per redeem: {each}, generator {outcome.cpu_us_per_request:.1f}")
