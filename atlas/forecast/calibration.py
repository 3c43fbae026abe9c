"""How fast devices are and how much is written, by what finished shards tell in the manifest.

Work is predicted in MFLOP, the same on any device and never changed; what a device makes of it depends on the length of
the proteins (short ones do not fill it, long ones are bound by memory). So each make of device has a rate by length, or
its kind where no make is told: a weighted median over all its shards, and about each power of two of residues the
median deviation of the shards that are within an octave, drawn towards none where these are few. Medians, because some
shards' seconds hold a model being loaded, a hung process or another program's load.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from foldatlas.schemas.manifest import Plan, Shard, ShardEntry
from foldatlas.schemas.tables import OPTIONAL_TABLES

# Before a shard was measured: what a device computes, MFLOP a second.
DEFAULT_MFLOP_PER_SECOND: Final = {"cpu": 20_000.0, "cuda": 200_000_000.0}

_KNOTS: Final = tuple(float(2**power) for power in range(4, 13))  # 16 to 4,096 residues
_FEW_SHARDS: Final = 3.0  # at a knot; so many draw its deviation half-way to none
_MOST_FAILED: Final = 0.1  # a shard of which more failed did other work than was predicted


class Device(NamedTuple):
    """A kind ("cpu", "cuda"), and the make as `Run.device_name` has it ("" where it is not known)."""

    kind: str
    name: str


class _Measured(NamedTuple):
    """A finished shard: mean length (residues), predicted MFLOP, its rate (MFLOP a second), and the device's name."""

    length: float
    cost: int
    rate: float
    name: str


@dataclass(frozen=True)
class Rate:
    """MFLOP a second of one device of a kind ("cpu", "cuda"), by length. `num_shards` is 0 where it is the default;
    `names` are the makes of the devices that it was measured on, as far as they are known."""

    device: str
    num_shards: int
    typical: float
    deviations: tuple[float, ...] = (0.0,) * len(_KNOTS)  # natural logarithms, at _KNOTS
    names: tuple[str, ...] = ()

    def at(self, length: float) -> float:
        """MFLOP a second on proteins of `length` residues: linear in the logarithms between knots, level beyond."""
        place = min(max(math.log2(max(length, 1.0) / _KNOTS[0]), 0.0), len(_KNOTS) - 1.0)
        left = min(int(place), len(_KNOTS) - 2)
        part = place - left
        return self.typical * math.exp((1 - part) * self.deviations[left] + part * self.deviations[left + 1])

    @property
    def slowest(self) -> float:
        """The least of it at any length."""
        return self.typical * math.exp(min(self.deviations))

    def seconds(self, shards: Iterable[Shard]) -> list[float]:
        """Predicted seconds of each shard on one device."""
        return [shard.cost / self.at(shard.residues / shard.proteins) for shard in shards]


def default_rate(device: str) -> Rate:
    """What is assumed of a device ("cpu", "cuda", "cuda:1") of which nothing was measured."""
    kind = device_kind(device)
    return Rate(kind, 0, DEFAULT_MFLOP_PER_SECOND[kind])


def device_kind(device: str) -> str:
    """`cuda` of `cuda:1`."""
    return device.partition(":")[0]


def first_entries(histories: Mapping[str, Sequence[ShardEntry]]) -> dict[str, ShardEntry]:
    """The entry by which each shard was folded first, by shard name: what speed is measured by."""
    return {shard: history[0] for shard, history in histories.items()}


def measured_rate(device: str, plans: Sequence[Plan], entries: Mapping[str, ShardEntry], name: str = "") -> Rate:
    """The rate of a device by the finished shards that devices of its `name` folded; where there are none, or for "",
    by those of all devices of its kind; the default where there are none of these either.

    `entries` are `first_entries`: of a shard whose newest entry is of other work nothing is measured.
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
    """The makes of all devices of a kind that folded, "" among them if one is not known."""
    kind = device_kind(device)
    return sorted({entry.run.device_name for entry in entries.values() if device_kind(entry.run.device) == kind})


def main_device(entries: Mapping[str, ShardEntry]) -> Device | None:
    """The device that folded the most, by predicted cost; None before the first shard."""
    costs: Counter[Device] = Counter()
    for entry in entries.values():
        costs[Device(device_kind(entry.run.device), entry.run.device_name)] += entry.cost
    return max(sorted(costs), key=costs.__getitem__) if costs else None


def unfinished(plans: Sequence[Plan], entries: Mapping[str, ShardEntry]) -> list[Shard]:
    """Shards without an entry, in the order in which they should run."""
    return [shard for plan in plans for shard in plan.shards if shard.name not in entries]


def _measured(kind: str, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]) -> list[_Measured]:
    found = []
    for plan in plans:
        for shard in plan.shards:
            entry = entries.get(shard.name)
            if entry is None or device_kind(entry.run.device) != kind or entry.run.seconds <= 0 or shard.cost <= 0:
                continue
            # later generations are of added outputs or of failed proteins alone: other work
            if entry.generation == 0 and entry.failed <= _MOST_FAILED * shard.proteins:
                rate = shard.cost / entry.run.seconds
                found.append(_Measured(shard.residues / shard.proteins, shard.cost, rate, entry.run.device_name))
    return found


def _median(values: Sequence[float], weights: Sequence[float]) -> float:
    """The value at which half of the weight is reached; between two of them their mean."""
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


# What a table's bytes go by; and of each, how much is measured before measurement counts half.
RESIDUES, PROTEINS, PAIRS = "residues", "proteins", "pairs of residues"
_UNITS: Final = {
    "structures": RESIDUES,
    "scores": PROTEINS,
    "embeddings": PROTEINS,
    "residue_embeddings": RESIDUES,
    "pae": PAIRS,
}
_FEW: Final = {RESIDUES: 100_000.0, PROTEINS: 500.0, PAIRS: 20_000_000.0}

# Bytes on disk, measured: 31.8 a residue of structure and pLDDT, 60 of scores a protein; on request four bytes a
# channel of a mean embedding, 1.85 bytes a channel and residue of embeddings of residues, a byte a pair of aligned
# errors (0.73 smooth, 1.15 as noisy as an untrained model's).
_STRUCTURE_BYTES: Final = 34.0
_SCORE_BYTES: Final = 80.0
_EMBEDDING_BYTES_A_CHANNEL: Final = 4.0
_RESIDUE_EMBEDDING_BYTES_A_CHANNEL: Final = 1.85
_PAE_BYTES: Final = 1.0


@dataclass(frozen=True)
class OutputBytes:
    """Bytes of each table for each unit of it: a residue, a protein or a pair of residues."""

    tables: dict[str, float]

    def of_shard(self, shard: Shard) -> dict[str, int]:
        """Predicted bytes of a shard, by table. Its proteins are of about one length."""
        return {table: round(each * _units(table, shard)) for table, each in self.tables.items()}

    def by(self, unit: str) -> float:
        """Bytes of all tables that go by `unit` (RESIDUES, PROTEINS or PAIRS)."""
        return math.fsum(each for table, each in self.tables.items() if _UNITS[table] == unit)


def default_output_bytes(channels: int, outputs: Iterable[str] = ()) -> OutputBytes:
    """What is assumed before a shard was measured. `channels` are the language model's; `outputs` optional tables."""
    wanted = {
        "embeddings": _EMBEDDING_BYTES_A_CHANNEL * channels,
        "residue_embeddings": _RESIDUE_EMBEDDING_BYTES_A_CHANNEL * channels,
        "pae": _PAE_BYTES,
    }
    assert set(wanted) == set(OPTIONAL_TABLES)
    needed = {"structures": _STRUCTURE_BYTES, "scores": _SCORE_BYTES}
    return OutputBytes({**needed, **{table: wanted[table] for table in outputs}})


def measured_output_bytes(
    default: OutputBytes, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]
) -> OutputBytes:
    """`default`'s tables by the files of finished shards, drawn towards the default where these are few."""
    tables = {}
    for table, each in default.tables.items():
        num_bytes, units = each * _FEW[_UNITS[table]], _FEW[_UNITS[table]]
        for plan in plans:
            for shard in plan.shards:
                entry = entries.get(shard.name)
                if entry is not None and table in entry.files and entry.failed <= _MOST_FAILED * shard.proteins:
                    num_bytes, units = num_bytes + entry.files[table].bytes, units + _units(table, shard)
        tables[table] = num_bytes / units
    return OutputBytes(tables)


def _units(table: str, shard: Shard) -> float:
    unit = _UNITS[table]
    if unit == PROTEINS:
        return float(shard.proteins)
    return float(shard.residues) if unit == RESIDUES else shard.residues**2 / shard.proteins
