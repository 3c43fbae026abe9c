"""Conversion between floats and the columns of `pae` and `residue_embeddings` files: one flat list per protein.

Predicted aligned errors are stored as integers of 0.125 angstrom, off by at most 0.0625; hidden states in half
precision, off by at most 2^-11 of their value. Encoding decoded values gives the same bytes.

Shapes: `L` residues of a protein, `D` channels.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import format_structure_id
from foldatlas.schemas.tables import PAE, PAE_SCALE, RESIDUE_EMBEDDINGS

Floats = npt.NDArray[np.float32]

# Row groups of tables that are much larger than all others: at most this in memory, and at least one protein.
BULKY_ROW_GROUP_BYTES: Final = 16 << 20

MAX_PAE: Final = np.iinfo(np.uint8).max / PAE_SCALE  # angstrom


def encode_pae(structure_ids: Sequence[bytes], errors: Sequence[Floats]) -> pa.Table:
    """Return rows of a pae file from matrices [L, L] in angstrom.

    Raise ValueError, with the structure id, for a value that is NaN or outside 0 to 31.875 A.
    """
    for identity, matrix in zip(structure_ids, errors, strict=True):
        if not ((matrix >= 0) & (matrix <= MAX_PAE)).all():
            raise ValueError(
                f"structure {format_structure_id(identity)} has an aligned error of {matrix.min():g} to "
                f"{matrix.max():g} A; the limits are 0 and {MAX_PAE:g}"
            )
    stored = [np.rint(matrix * PAE_SCALE).astype(np.uint8) for matrix in errors]
    return _encode(PAE, "pae", structure_ids, stored)


def decode_pae(table: pa.Table) -> list[Floats]:
    """Return the matrix of each row of a pae file, float32 [L, L] in angstrom.

    Raise DamagedAtlasError for a row that is not square.
    """
    return [
        values.reshape(length, length).astype(np.float32) / np.float32(PAE_SCALE)
        for values, length in _decode(table, "pae", square=True)
    ]


def encode_residue_embeddings(structure_ids: Sequence[bytes], states: Sequence[Floats]) -> pa.Table:
    """Return rows of a residue_embeddings file from hidden states, float32 [L, D].

    Raise ValueError, with the structure id, for a value outside the range of half precision.
    """
    return _encode(RESIDUE_EMBEDDINGS, "residues", structure_ids, half_precision(structure_ids, states))


def decode_residue_embeddings(table: pa.Table) -> list[Floats]:
    """Return the hidden states of each row of a residue_embeddings file, float32 [L, D].

    Raise DamagedAtlasError for a row whose number of values is not a multiple of L.
    """
    return [
        values.reshape(length, -1).astype(np.float32) for values, length in _decode(table, "residues", square=False)
    ]


def encode_stored_matrices(table: str, structure_ids: Sequence[bytes], values: Sequence[npt.NDArray[Any]]) -> pa.Table:
    """Return rows of a `pae` or `residue_embeddings` file from values as they are stored: uint8 [L, L] of 0.125
    angstrom, or float16 [L, D]."""
    schema = {"pae": PAE, "residue_embeddings": RESIDUE_EMBEDDINGS}[table]
    return _encode(schema, schema.names[-1], structure_ids, values)


def half_precision(structure_ids: Sequence[bytes], states: Sequence[Floats]) -> list[npt.NDArray[np.float16]]:
    """Return `states` as float16. Raise ValueError, with the structure id, for a value outside its range."""
    with np.errstate(over="ignore"):
        stored = [values.astype(np.float16) for values in states]
    for identity, values in zip(structure_ids, stored, strict=True):
        if not np.isfinite(values).all():
            raise ValueError(
                f"structure {format_structure_id(identity)} has hidden states outside half precision, whose limits are "
                f"{np.finfo(np.float16).min:g} and {np.finfo(np.float16).max:g}"
            )
    return stored


def flat_lists(values: Sequence[npt.NDArray[Any] | None], arrow_type: pa.DataType) -> "pa.Array[Any]":
    """Return an array of the list type `arrow_type`: each item of `values` flattened row by row, NULL for None."""
    present = [array for array in values if array is not None]
    ends = np.cumsum([0, *(0 if array is None else array.size for array in values)], dtype=np.int64)
    flat = np.concatenate([array.ravel() for array in present]) if present else np.empty(0)
    offsets = pa.array(ends, pa.int64()).cast(pa.int32())  # raises ArrowInvalid beyond 32 bits
    missing = pa.array([array is None for array in values], pa.bool_()) if len(present) < len(values) else None
    return pa.ListArray.from_arrays(offsets, pa.array(flat, arrow_type.value_type), type=arrow_type, mask=missing)


def _encode(
    schema: pa.Schema, column: str, structure_ids: Sequence[bytes], values: Sequence[npt.NDArray[Any]]
) -> pa.Table:
    columns: list[pa.Array[Any]] = [
        pa.ExtensionArray.from_storage(pa.uuid(), pa.array(structure_ids, pa.binary(16))),
        pa.array([len(array) for array in values], pa.int32()),
        flat_lists(values, schema.field(column).type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _decode(table: pa.Table, column: str, *, square: bool) -> list[tuple[npt.NDArray[Any], int]]:
    """Return values and length of each row. With `square` there must be one value per pair of residues."""
    lists: Any = table.column(column).combine_chunks()
    lengths = table.column("length").to_pylist()
    rows = []
    for row, length in zip(lists, lengths, strict=True):
        values = row.values.to_numpy()
        fits = len(values) == length**2 if square else len(values) % length == 0
        if not fits:
            raise DamagedAtlasError(
                f"a row of {column} has {len(values)} values for {length} residues: run `foldatlas verify`"
            )
        rows.append((values, length))
    return rows
