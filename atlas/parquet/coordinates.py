"""Conversion between floats and the integers of a structures file: 0.01 angstrom and 0.01 of pLDDT.

Coordinates are planar (all x, all y, all z of a protein), in the atom order that the sequence determines
(`schemas.records.ATOMS`). A missing value is NaN in memory and NULL in the file. Values are rounded to the nearest
integer, ties to even, so a stored value is off by at most 0.005, and encoding decoded values gives the same integers.

Shapes: `A` stored atoms of a protein, `L` its residues.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.parquet.notebook import structure_html
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import ATOMS, format_structure_id
from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE, STRUCTURES

Floats = npt.NDArray[np.float32]

MAX_PLDDT: Final = 100.0
_INT32: Final = np.iinfo(np.int32)

# Number of atoms by a residue's ASCII code; 0 for other characters.
_ATOMS_OF_CODE: Final = np.zeros(256, dtype=np.int64)
for _residue, _atoms in ATOMS.items():
    _ATOMS_OF_CODE[ord(_residue)] = len(_atoms)


@dataclass(frozen=True, slots=True, eq=False)  # comparing arrays gives arrays
class StoredStructure:
    """A structure of an atlas.

    `positions` is float32 [A, 3] in angstrom, NaN for a missing atom; `plddt` is float32 [L], 0 to 100, NaN for a
    residue without one.
    """

    structure_id: bytes
    sequence: str
    positions: Floats
    plddt: Floats

    def _repr_html_(self) -> str:
        """Return the structure as a notebook shows it."""
        name = format_structure_id(self.structure_id)
        return structure_html(name, self.sequence, self.positions, self.plddt)


def atoms_per_residue(sequences: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of stored atoms of each residue of all `sequences`, concatenated: int64 [total residues]."""
    codes = np.frombuffer("".join(sequences).encode("latin-1", "replace"), dtype=np.uint8)
    return _ATOMS_OF_CODE[codes]


def atoms_per_protein(sequences: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the number of stored atoms of each sequence, int64 [sequences]: `schemas.records.num_atoms` of each."""
    ends = np.cumsum([len(sequence) for sequence in sequences], dtype=np.int64)
    totals = np.concatenate([[0], np.cumsum(atoms_per_residue(sequences))])
    return np.diff(totals[ends], prepend=0)


def encode_structures(
    structure_ids: Sequence[bytes],
    sequences: Sequence[str],
    positions: Sequence[Floats],
    plddt: Sequence[Floats],
) -> pa.Table:
    """Return rows of a structures file, in the given order (schema `schemas.tables.STRUCTURES`).

    `positions` are float [A, 3] in angstrom, `plddt` float [L], 0 to 100; NaN becomes NULL. Raise ValueError, with the
    structure id, for a shape that does not match the sequence, a coordinate that is infinite or beyond 21,474,836
    angstrom, and a pLDDT outside 0 to 100.
    """
    _check_shapes(structure_ids, sequences, positions, plddt)
    axes = np.concatenate([np.empty((0, 3)), *positions]).astype(np.float64) * COORDINATE_SCALE
    atom_ends = np.cumsum([0, *(len(array) for array in positions)])
    residue_ends = np.cumsum([0, *(len(values) for values in plddt)])
    scores = np.concatenate([np.empty(0), *plddt]).astype(np.float64) * PLDDT_SCALE
    _check_range(axes, atom_ends, structure_ids, _INT32.min, _INT32.max, "a coordinate", COORDINATE_SCALE)
    _check_range(scores[:, None], residue_ends, structure_ids, 0, MAX_PLDDT * PLDDT_SCALE, "a pLDDT", PLDDT_SCALE)
    return _table(
        structure_ids,
        sequences,
        [_list_array(axes[:, axis], atom_ends, "xyz"[axis], np.int32) for axis in range(3)],
        _list_array(scores, residue_ends, "plddt", np.uint16),
    )


def encode_stored_structures(
    structure_ids: Sequence[bytes],
    sequences: Sequence[str],
    coordinates: Sequence[npt.NDArray[np.int16] | npt.NDArray[np.int32]],
    plddt: Sequence[npt.NDArray[np.uint16]],
) -> pa.Table:
    """Return the same from values as they are stored, none of them missing: `coordinates` [A, 3] of 0.01 angstrom, and
    `plddt` [L], 0.01 of pLDDT. Raise ValueError for a shape that does not match the sequence."""
    _check_shapes(structure_ids, sequences, coordinates, plddt)
    axes = np.concatenate([np.empty((0, 3), np.int32), *coordinates]).T.astype(np.int32, order="C")
    scores = np.concatenate([np.empty(0, np.uint16), *plddt])
    atom_ends = np.cumsum([0, *(len(array) for array in coordinates)])
    residue_ends = np.cumsum([0, *(len(values) for values in plddt)])
    planes = [_list_of(pa.array(axes[axis]), atom_ends, "xyz"[axis]) for axis in range(3)]
    return _table(structure_ids, sequences, planes, _list_of(pa.array(scores), residue_ends, "plddt"))


def _check_shapes(
    structure_ids: Sequence[bytes],
    sequences: Sequence[str],
    positions: Sequence[npt.NDArray[Any]],
    plddt: Sequence[npt.NDArray[Any]],
) -> None:
    if not len(structure_ids) == len(sequences) == len(positions) == len(plddt):
        raise ValueError(f"{len(structure_ids)=}, {len(sequences)=}, {len(positions)=}, {len(plddt)=} must be equal")
    for identity, sequence, atoms, array, values in zip(
        structure_ids, sequences, atoms_per_protein(sequences).tolist(), positions, plddt, strict=True
    ):
        if array.shape != (atoms, 3) or values.shape != (len(sequence),):
            raise ValueError(
                f"structure {format_structure_id(identity)} has {len(sequence)} residues and {atoms} atoms, "
                f"but positions {array.shape} and plddt {values.shape}"
            )


def _table(
    structure_ids: Sequence[bytes],
    sequences: Sequence[str],
    planes: Sequence["pa.Array[Any]"],
    plddt: "pa.Array[Any]",
) -> pa.Table:
    columns: list[pa.Array[Any]] = [
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array(structure_ids, pa.binary(16))),
        pa.array(sequences, pa.string()),
        *planes,
        plddt,
    ]
    return pa.Table.from_arrays(columns, schema=STRUCTURES)


def decode_structures(table: pa.Table) -> list[StoredStructure]:
    """Return the structures of `table`, in order. Their arrays are views of one array, which they keep in memory.

    Raise DamagedAtlasError for a row whose numbers of coordinates or pLDDT do not match its sequence.
    """
    sequences = table.column("sequence").to_pylist()
    identities = structure_ids_of(table)
    planes = [stored_values(table, axis) for axis in "xyz"]
    scores, residue_ends = stored_values(table, "plddt")
    lengths = [len(sequence) for sequence in sequences]
    atom_ends = planes[0][1]
    expected_ends = np.concatenate([[0], np.cumsum(atoms_per_protein(sequences))])
    if any(not np.array_equal(ends, expected_ends) for _, ends in planes) or not np.array_equal(
        np.diff(residue_ends), lengths
    ):
        raise DamagedAtlasError(
            "the number of atoms or of pLDDT values in a structures file does not match the sequence: "
            "run `foldatlas verify`"
        )
    positions = np.stack([values / COORDINATE_SCALE for values, _ in planes], axis=-1).astype(np.float32)
    plddt = (scores / PLDDT_SCALE).astype(np.float32)
    return [
        StoredStructure(identity, sequence, positions[a0:a1], plddt[r0:r1])
        for identity, sequence, a0, a1, r0, r1 in zip(
            identities,
            sequences,
            atom_ends[:-1].tolist(),
            atom_ends[1:].tolist(),
            residue_ends[:-1].tolist(),
            residue_ends[1:].tolist(),
            strict=True,
        )
    ]


def structure_ids_of(table: pa.Table) -> list[bytes]:
    """Return the column `structure_id` as 16 bytes per row."""
    column: Any = table.column("structure_id").combine_chunks()
    identities: list[bytes] = column.storage.to_pylist()
    return identities


def stored_values(table: pa.Table, column: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Return the values of a list column, concatenated, as float64 (NaN for NULL), and the offset of each row and of
    the end, int64 [rows + 1]."""
    lists: Any = table.column(column).combine_chunks()
    offsets = lists.offsets.to_numpy().astype(np.int64)
    values = lists.flatten().to_numpy(zero_copy_only=False).astype(np.float64)
    return values, offsets - (offsets[0] if len(offsets) else 0)


def _check_range(
    scaled: npt.NDArray[np.float64],
    ends: npt.NDArray[np.int64],
    identities: Sequence[bytes],
    low: float,
    high: float,
    what: str,
    scale: int,
) -> None:
    rounded = np.rint(scaled)
    outside = np.nonzero(((rounded < low) | (rounded > high)).any(axis=-1))[0]  # False for NaN, which becomes NULL
    if len(outside):
        protein = int(np.searchsorted(ends, outside[0], side="right")) - 1
        row = scaled[outside[0]]
        value = row[(np.rint(row) < low) | (np.rint(row) > high)][0] / scale
        raise ValueError(
            f"structure {format_structure_id(identities[protein])} has {what} of {value:g}; "
            f"the limits are {low / scale:g} and {high / scale:g}"
        )


def _list_array(
    scaled: npt.NDArray[np.float64], ends: npt.NDArray[np.int64], column: str, dtype: type[np.int32] | type[np.uint16]
) -> "pa.Array[Any]":
    missing = np.isnan(scaled)
    return _list_of(pa.array(np.rint(np.where(missing, 0, scaled)).astype(dtype), mask=missing), ends, column)


def _list_of(values: "pa.Array[Any]", ends: npt.NDArray[np.int64], column: str) -> "pa.Array[Any]":
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), values, type=STRUCTURES.field(column).type)
