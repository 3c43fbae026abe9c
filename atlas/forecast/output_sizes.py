"""Bytes of each output table, measured from the files of committed shards in the manifest."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from foldatlas.atlas.forecast.device_rates import MAX_FAILED_FRACTION
from foldatlas.schemas.manifest import Plan, Shard, ShardEntry
from foldatlas.schemas.tables import OPTIONAL_TABLES

# What the bytes of a table are proportional to.
RESIDUES, PROTEINS, PAIRS = "residues", "proteins", "pairs of residues"
_UNITS: Final = {
    "structures": RESIDUES,
    "scores": PROTEINS,
    "embeddings": PROTEINS,
    "residue_embeddings": RESIDUES,
    "pae": PAIRS,
}
# With so many units measured, measurement and default count equally.
_FEW: Final = {RESIDUES: 100_000.0, PROTEINS: 500.0, PAIRS: 20_000_000.0}

# Bytes on disk, measured: 31.8 per residue of structures with pLDDT, 60 per protein of scores; 4 per channel of a mean
# embedding, 1.85 per channel and residue of residue embeddings, 1 per pair of residues of PAE (0.73 if smooth, 1.15 if
# as noisy as an untrained model's).
_STRUCTURE_BYTES: Final = 34.0
_SCORE_BYTES: Final = 80.0
_EMBEDDING_BYTES_PER_CHANNEL: Final = 4.0
_RESIDUE_EMBEDDING_BYTES_PER_CHANNEL: Final = 1.85
_PAE_BYTES: Final = 1.0


@dataclass(frozen=True)
class OutputBytes:
    """Bytes of each table per unit: residue, protein or pair of residues."""

    tables: dict[str, float]

    def of_shard(self, shard: Shard) -> dict[str, int]:
        """Return the predicted bytes of a shard by table. Its proteins are taken to have equal lengths."""
        return {table: round(each * _units(table, shard)) for table, each in self.tables.items()}

    def by(self, unit: str) -> float:
        """Return the bytes per `unit` (RESIDUES, PROTEINS or PAIRS) of all tables proportional to it."""
        return math.fsum(each for table, each in self.tables.items() if _UNITS[table] == unit)


def default_output_bytes(channels: int, outputs: Iterable[str] = ()) -> OutputBytes:
    """Return the sizes that are assumed before any shard was measured.

    `channels` are those of the language model's embeddings; `outputs` names optional tables.
    """
    wanted = {
        "embeddings": _EMBEDDING_BYTES_PER_CHANNEL * channels,
        "residue_embeddings": _RESIDUE_EMBEDDING_BYTES_PER_CHANNEL * channels,
        "pae": _PAE_BYTES,
    }
    assert set(wanted) == set(OPTIONAL_TABLES)
    needed = {"structures": _STRUCTURE_BYTES, "scores": _SCORE_BYTES}
    return OutputBytes({**needed, **{table: wanted[table] for table in outputs}})


def measured_output_bytes(
    default: OutputBytes, plans: Sequence[Plan], entries: Mapping[str, ShardEntry]
) -> OutputBytes:
    """Return the sizes of the tables in `default`, measured from committed shards and shrunk towards `default` where
    these are few."""
    tables = {}
    for table, each in default.tables.items():
        num_bytes, units = each * _FEW[_UNITS[table]], _FEW[_UNITS[table]]
        for plan in plans:
            for shard in plan.shards:
                entry = entries.get(shard.name)
                if entry is not None and table in entry.files and entry.failed <= MAX_FAILED_FRACTION * shard.proteins:
                    num_bytes, units = num_bytes + entry.files[table].bytes, units + _units(table, shard)
        tables[table] = num_bytes / units
    return OutputBytes(tables)


def _units(table: str, shard: Shard) -> float:
    unit = _UNITS[table]
    if unit == PROTEINS:
        return float(shard.proteins)
    return float(shard.residues) if unit == RESIDUES else shard.residues**2 / shard.proteins
