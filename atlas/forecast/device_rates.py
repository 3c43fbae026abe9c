"""Rates of devices, measured from the times of committed shards in the manifest.

Work is predicted in MFLOP, equal on all devices. The rate at which a device does it depends on the length of the
proteins: short ones do not fill the device, long ones are bound by its memory. A `Rate` therefore has a typical value,
the median over all shards weighted by cost, and at each power of two of residues a deviation, the median over the
shards within an octave, shrunk towards 0 where these are few. A rate is measured for a device model or, if the model is
not known, for a kind of device. Medians are used because the seconds of some shards include loading a model, a hung
process or the load of another program.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from foldatlas.schemas.manifest import Plan, Shard, ShardEntry

# MFLOP per second of a device of which no shard is measured.
DEFAULT_MFLOP_PER_SECOND: Final = {"cpu": 20_000.0, "cuda": 200_000_000.0}

_KNOTS: Final = tuple(float(2**power) for power in range(4, 13))  # 16 to 4,096 residues
_FEW_SHARDS: Final = 3.0  # with so many shards at a knot, its deviation is halved
MAX_FAILED_FRACTION: Final = 0.1  # shards with more failures are not measured: they did less work than predicted


class Device(NamedTuple):
    """A kind of device ("cpu", "cuda"), and the device model as in `Run.device_name` ("" if unknown)."""

    kind: str
    name: str


class _Measured(NamedTuple):
    """A committed shard: mean length in residues, predicted MFLOP, MFLOP per second, and the device model."""

    length: float
    cost: int
    rate: float
    name: str


@dataclass(frozen=True)
class Rate:
    """MFLOP per second of one device, by length of the proteins.

    `device` is "cpu" or "cuda"; `num_shards` the number of shards measured, 0 for a default; `typical` is in MFLOP per
    second; `names` are the device models that were measured, as far as known.
    """

    device: str
    num_shards: int
    typical: float
    deviations: tuple[float, ...] = (0.0,) * len(_KNOTS)  # natural logarithms, at _KNOTS
    names: tuple[str, ...] = ()

    def at(self, length: float) -> float:
        """Return MFLOP per second on proteins of `length` residues.

        Logarithms are interpolated linearly between knots, and constant beyond the first and the last.
        """
        position = min(max(math.log2(max(length, 1.0) / _KNOTS[0]), 0.0), len(_KNOTS) - 1.0)
        left = min(int(position), len(_KNOTS) - 2)
        part = position - left
        return self.typical * math.exp((1 - part) * self.deviations[left] + part * self.deviations[left + 1])

    @property
    def slowest(self) -> float:
        """The lowest rate at any length, MFLOP per second."""
        return self.typical * math.exp(min(self.deviations))

    def seconds(self, shards: Iterable[Shard]) -> list[float]:
        """Return the predicted seconds of each shard on one device."""
        return [shard.cost / self.at(shard.residues / shard.proteins) for shard in shards]


def default_rate(device: str) -> Rate:
    """Return the rate that is assumed for a device ("cpu", "cuda", "cuda:1") of which no shard is measured."""
    kind = device_kind(device)
    return Rate(kind, 0, DEFAULT_MFLOP_PER_SECOND[kind])


def device_kind(device: str) -> str:
    """Return the kind of a device: "cuda" for "cuda:1"."""
    return device.partition(":")[0]


def first_entries(histories: Mapping[str, Sequence[ShardEntry]]) -> dict[str, ShardEntry]:
    """Return the first generation of each shard, by shard name: the entry that measures the device's speed."""
    return {shard: history[0] for shard, history in histories.items()}


def measured_rate(device: str, plans: Sequence[Plan], entries: Mapping[str, ShardEntry], name: str = "") -> Rate:
    """Return the rate of a device, measured from committed shards.

    Only shards that the device model `name` folded are used. If there are none, or `name` is "", the shards of all
    devices of the kind are used. If there are none of these either, the default rate is returned. `entries` are
    `first_entries`: later generations measure other work.
    """
    kind = device_kind(device)
    all_of_kind = _measured(kind, plans, entries)
    measured = [shard for shard in all_of_kind if name and shard.name == name] or all_of_kind
    if not measured:
        return default_rate(kind)
    typical = _median([math.log(shard.rate) for shard in measured], [float(shard.cost) for shard in measured])
    deviations = []
    for knot in _KNOTS:
        nearness = [max(0.0, 1.0 - abs(math.log2(shard.length / knot))) for shard in measured]
        weight = sum(nearness)
        deviation = _median([math.log(shard.rate) - typical for shard in measured], nearness) if weight else 0.0
        deviations.append(deviation * weight / (weight + _FEW_SHARDS))
    names = tuple(sorted({shard.name for shard in measured} - {""}))
    return Rate(kind, len(measured), math.exp(typical), tuple(deviations), names)


def device_names(device: str, entries: Mapping[str, ShardEntry]) -> list[str]:
    """Return the models of all devices of a kind that folded, sorted; "" is an unknown model."""
    kind = device_kind(device)
    return sorted({entry.run.device_name for entry in entries.values() if device_kind(entry.run.device) == kind})


def main_device(entries: Mapping[str, ShardEntry]) -> Device | None:
    """Return the device that folded the most, by predicted cost; None before the first shard."""
    costs: Counter[Device] = Counter()
    for entry in entries.values():
        costs[Device(device_kind(entry.run.device), entry.run.device_name)] += entry.cost
    return max(sorted(costs), key=costs.__getitem__) if costs else None


def _measured(kind: str, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]) -> list[_Measured]:
    found = []
    for plan in plans:
        for shard in plan.shards:
            entry = entries.get(shard.name)
            if entry is None or device_kind(entry.run.device) != kind or entry.run.seconds <= 0 or shard.cost <= 0:
                continue
            # later generations add outputs or retry failures, which is other work
            if entry.generation == 0 and entry.failed <= MAX_FAILED_FRACTION * shard.proteins:
                rate = shard.cost / entry.run.seconds
                found.append(_Measured(shard.residues / shard.proteins, shard.cost, rate, entry.run.device_name))
    return found


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """Return the weighted median: the value at which half of the weight is reached, or the mean of two such values."""
    half = math.fsum(weights) / 2
    reached = 0.0
    ordered = sorted((value, weight) for value, weight in zip(values, weights, strict=True) if weight > 0)
    for number, (value, weight) in enumerate(ordered):
        reached += weight
        if math.isclose(reached, half) and number + 1 < len(ordered):
            return (value + ordered[number + 1][0]) / 2
        if reached > half:
            return value
    return ordered[-1][0]
