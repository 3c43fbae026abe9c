"""Compare stored structures whose content differs: RMSD of all atoms after superposition, and pLDDT by residue."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import pyarrow as pa

from foldatlas.atlas.diff.differences import SCHEMA, Change
from foldatlas.atlas.diff.tolerances import Tolerances
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.parquet.structures import StructureLocation
from foldatlas.atlas.reader import Atlas
from foldatlas.folding.compare.superposition import rmsd

STRUCTURES_PER_BATCH: Final = 1024

Row = tuple[str, str, bytes, str, str | None, str | None, float]


def compare_coordinates(
    connection: Any, atlases: tuple[Atlas, Atlas], tolerances: Tolerances, progress: Callable[[int, int], None]
) -> None:
    """Add differences of coordinates and pLDDT of structures that both atlases have with different hashes.

    A structure whose mean pLDDT is listed already has no further row for the pLDDT of its residues.
    """
    changed = connection.execute(
        "SELECT structure_id, b.id, a.file, a.row, b.file, b.row, EXISTS (FROM differences AS d WHERE "
        "d.structure_id = pairs.structure_id AND d.column = 'mean_plddt') AS is_listed FROM pairs "
        "JOIN first_hashes USING (structure_id) JOIN second_hashes USING (structure_id) "
        "WHERE first_hashes.content <> second_hashes.content ORDER BY a.file, a.row"
    ).fetchall()
    for start in range(0, len(changed), STRUCTURES_PER_BATCH):
        batch = changed[start : start + STRUCTURES_PER_BATCH]
        olds = _read(atlases[0], [StructureLocation(row[0].bytes, row[2], row[3]) for row in batch])
        news = _read(atlases[1], [StructureLocation(row[0].bytes, row[4], row[5]) for row in batch])
        rows = [
            row
            for identity, name, *_, is_listed in batch
            for row in _differences(name, olds[identity.bytes], news[identity.bytes], tolerances, is_listed)
        ]
        connection.register("given", _table(rows))
        connection.execute("INSERT INTO differences FROM given")
        connection.unregister("given")
        progress(start + len(batch), len(changed))


def _read(atlas: Atlas, locations: list[StructureLocation]) -> dict[bytes, StoredStructure]:
    in_file_order = sorted(locations, key=lambda location: (location.file, location.row))
    return {structure.structure_id: structure for structure in atlas.structures(in_file_order)}


def _differences(
    name: str, old: StoredStructure, new: StoredStructure, tolerances: Tolerances, is_listed: bool
) -> list[Row]:
    found: list[Row] = []
    had, has = ~np.isnan(old.positions).any(axis=1), ~np.isnan(new.positions).any(axis=1)
    if (had != has).any():
        before, after = int(had.sum()), int(has.sum())
        row = (Change.COORDINATES, name, new.structure_id, "atoms", str(before), str(after), float(after - before))
        found.append(row)
    both = had & has
    distance = rmsd(new.positions[both], old.positions[both]) if both.any() else 0.0
    if distance > tolerances.rmsd:
        found.append((Change.COORDINATES, name, new.structure_id, "rmsd", None, None, distance))
    if not is_listed:
        found += _plddt_difference(name, old, new, tolerances.plddt)
    return found


def _plddt_difference(name: str, old: StoredStructure, new: StoredStructure, tolerance: float) -> list[Row]:
    """Return a row for the residue whose pLDDT differs most, a residue without pLDDT in one of them first."""
    shifts = new.plddt.astype(np.float64) - old.plddt
    one_sided = np.isnan(old.plddt) != np.isnan(new.plddt)
    residue = int(np.argmax(np.where(one_sided, np.inf, np.abs(np.nan_to_num(shifts)))))
    if not one_sided[residue] and not abs(shifts[residue]) > tolerance:
        return []
    before, after = (None if np.isnan(v := s.plddt[residue]) else f"{v:.2f}" for s in (old, new))
    return [(Change.SCORE, name, new.structure_id, f"plddt of residue {residue + 1}", before, after, shifts[residue])]


def _table(rows: list[Row]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(SCHEMA)
    arrays = [
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array(values, pa.binary(16)))
        if field.name == "structure_id"
        else pa.array(values, field.type)
        for field, values in zip(SCHEMA, columns, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)
