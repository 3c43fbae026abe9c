"""Predictions for a plan: device time, wall time on several devices, bytes on disk, and money."""

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from foldatlas.atlas.forecast.device_rates import Rate
from foldatlas.atlas.forecast.output_sizes import OutputBytes
from foldatlas.schemas.manifest import Shard
from foldatlas.schemas.wording import counted, readable_bytes, readable_time


@dataclass(frozen=True)
class Estimate:
    """Predictions for some shards on `devices` devices of one kind.

    device_seconds: summed over devices.
    wall_seconds: from start to end.
    bytes: by table.
    price: money per device and hour, in any currency, or None.
    measured_shards: committed shards on which the rate is based, 0 for a default rate.
    measured_on: device models that folded these, as far as known.
    """

    device: str
    devices: int
    shards: int
    fine_shards: int
    proteins: int
    residues: int
    tflop: float
    device_seconds: float
    wall_seconds: float
    bytes: dict[str, int]
    measured_shards: int
    price: float | None = None
    measured_on: tuple[str, ...] = ()

    @property
    def total_bytes(self) -> int:
        return sum(self.bytes.values())

    @property
    def cost(self) -> float | None:
        """The price of all devices until the last shard ends, or None."""
        return None if self.price is None else self.price * self.devices * self.wall_seconds / 3600

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        name = {"cuda": "GPU", "cpu": "CPU"}.get(self.device, self.device)
        based = (
            f"by {counted(self.measured_shards, 'shard')} of this atlas"
            + (f" on {' and '.join(self.measured_on)}" if self.measured_on else "")
            if self.measured_shards
            else "by default rates, until shards of this atlas are measured"
        )
        tables = ", ".join(f"{table} {readable_bytes(size)}" for table, size in self.bytes.items())
        hours = self.device_seconds / 3600
        lines = [
            f"shards    {self.shards:,}: {self.shards - self.fine_shards:,} of full size and {self.fine_shards:,} fine "
            "ones, run last",
            f"work      {self.tflop:,.3f} TFLOP",
            f"{name} time  {hours:,.{2 if hours >= 0.1 else 4}f} {name}-hours, {based}",
            f"wall time {readable_time(self.wall_seconds)} on {counted(self.devices, name)}",
            f"output    {readable_bytes(self.total_bytes)}: {tables}",
        ]
        if self.cost is not None:
            lines.append(f"cost      {self.cost:,.2f} at {self.price:,.2f} an hour and {name}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return plain numbers for `--json`: seconds, bytes, TFLOP and money."""
        return {
            "device": self.device,
            "devices": self.devices,
            "shards": self.shards,
            "fine_shards": self.fine_shards,
            "proteins": self.proteins,
            "residues": self.residues,
            "tflop": self.tflop,
            "device_seconds": round(self.device_seconds, 3),
            "wall_seconds": round(self.wall_seconds, 3),
            "bytes": self.bytes,
            "measured_shards": self.measured_shards,
            "measured_on": list(self.measured_on),
            "price_an_hour": self.price,
            "cost": self.cost,
        }


def estimate(
    shards: Sequence[Shard],
    rate: Rate,
    output_bytes: OutputBytes,
    *,
    devices: int = 1,
    price: float | None = None,
) -> Estimate:
    """Return predictions for folding `shards`, in the order of a run: full-size ones first.

    `price` is money per device and hour.
    """
    half = max((shard.cost for shard in shards), default=0) / 2
    full_size = [shard for shard in shards if shard.cost >= half]
    seconds = rate.seconds([*full_size, *(shard for shard in shards if shard.cost < half)])
    sizes: Counter[str] = Counter(dict.fromkeys(output_bytes.tables, 0))
    for shard in shards:
        sizes.update(output_bytes.of_shard(shard))
    return Estimate(
        device=rate.device,
        devices=devices,
        shards=len(shards),
        fine_shards=len(shards) - len(full_size),
        proteins=sum(shard.proteins for shard in shards),
        residues=sum(shard.residues for shard in shards),
        tflop=sum(shard.cost for shard in shards) / 1e6,
        device_seconds=math.fsum(seconds),
        wall_seconds=makespan(seconds, devices),
        bytes=dict(sizes),
        measured_shards=rate.num_shards,
        price=price,
        measured_on=rate.names,
    )


def makespan(seconds: Iterable[float], devices: int) -> float:
    """Return the end of the last task, if each task in turn is given to the first free device, in seconds."""
    free_at: list[float] = [0.0] * devices
    for each in seconds:
        heapq.heapreplace(free_at, free_at[0] + each)
    return max(free_at)
