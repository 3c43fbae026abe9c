"""Reading of experimental chains from a Parquet file; docs/training.md describes its layout.

Files are not trusted: every chain is validated. pyarrow is imported inside functions.

Shapes: L residues, A = 14 atoms of a residue (records.ATOMS), R residues and E atoms of a row group.
"""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS, RESIDUES

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.integer]
Table = Any  # pyarrow.Table

NUM_ATOMS: Final = 14  # the most atoms of any residue (tryptophan)
ANGSTROM: Final = 0.001  # unit of the file's integer coordinates
COORDINATES: Final = "0.001 angstrom"  # end of the metadata value that gives this unit
MAX_COORDINATE: Final = 10_000_000  # 10,000 angstrom, more than a PDB file can have

_TEXTS: Final = ("chain_id", "split", "cluster30", "sequence")
_LISTS: Final = ("residue_index", "atom_residue", "atom_type", "x", "y", "z")
_MISSING: Final = -(1 << 63)  # replaces NULL in a list; outside the allowed range of every list
_INT32: Final = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """The observed residues of one experimental chain.

    `positions_LA3` are in angstrom, atoms in the order of records.ATOMS, zero where `observed_LA` is False: atoms that
    were not observed, or that the residue does not have. `residue_index_L` is the author's numbering, which jumps at
    gaps and repeats at inserted residues. Related chains have the same `cluster`.
    """

    name: str
    sequence: str
    positions_LA3: Floats
    observed_LA: Mask
    residue_index_L: npt.NDArray[np.int32]
    split: str
    cluster: str


def read_chains(path: str | Path, splits: Collection[str] | None = None, max_length: int | None = None) -> list[Chain]:
    """Return the chains of the Parquet file `path`, in its order.

    `splits` selects chains by split (None: all), `max_length` by their number of residues (None: any). Raise UsageError
    if the file is missing, is not Parquet, lacks a column, a metadata key or one of `splits`, or has an invalid chain.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow, path)
            atom_names = _atom_names(file.schema_arrow.metadata or {}, path)
            found: Counter[str] = Counter()
            chains: list[Chain] = []
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=[*_TEXTS, *_LISTS])
                found.update(table["split"].to_pylist())
                chains += _chains(_chosen(table, splits, max_length), atom_names, path)
    except FileNotFoundError:
        raise UsageError(f"{path} does not exist: give a Parquet file of experimental chains") from None
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{path} cannot be read as Parquet ({reason}): give a file of experimental chains") from error
    missing = sorted(set(splits or ()) - set(found))
    if missing:
        has = ", ".join(f"{name} ({count:,})" for name, count in sorted(found.items(), key=str)) or "no chain"
        raise UsageError(f"{path} has no chain of split {', '.join(missing)}: it has {has}")
    return chains


def _check_columns(schema: Any, path: str | Path) -> None:
    from pyarrow import types

    for name in (*_TEXTS, *_LISTS):
        if name not in schema.names:
            raise UsageError(
                f"{path} has no column {name!r}: experimental chains have {', '.join((*_TEXTS, *_LISTS))} "
                "(docs/training.md)"
            )
        arrow_type = schema.field(name).type
        is_text = types.is_string(arrow_type) or types.is_large_string(arrow_type)
        is_list = types.is_list(arrow_type) or types.is_large_list(arrow_type)
        if not (is_text if name in _TEXTS else is_list and types.is_integer(arrow_type.value_type)):
            expected = "text" if name in _TEXTS else "lists of integers"
            raise UsageError(f"{path} has {arrow_type} in column {name!r}, not {expected} (docs/training.md)")


def _atom_names(metadata: dict[bytes, bytes], path: str | Path) -> list[str]:
    """Return the atom names of the values of `atom_type`."""
    value = metadata.get(b"atom_type", b"").decode("utf-8", "replace")
    names = value.removeprefix("index into ").split()
    if not {"N", "CA", "C", "O"} <= set(names):
        raise UsageError(
            f"{path} does not define `atom_type` (metadata: {value!r}): write 'index into N CA C ...' under that key"
        )
    coordinates = metadata.get(b"coordinates", b"").decode("utf-8", "replace")
    if not coordinates.endswith(COORDINATES):
        raise UsageError(
            f"{path} does not declare coordinates in {COORDINATES} (metadata: {coordinates!r}): write them in this "
            "unit, with the unit under the key 'coordinates'"
        )
    return names


def _chosen(table: Table, splits: Collection[str] | None, max_length: int | None) -> Table:
    """Return the rows of `table` with the given splits and lengths."""
    import pyarrow as pa

    is_chosen = [
        (splits is None or split in splits) and (max_length is None or len(sequence or "") <= max_length)
        for split, sequence in zip(table["split"].to_pylist(), table["sequence"].to_pylist(), strict=True)
    ]
    return table.filter(pa.array(is_chosen, pa.bool_()))


def _chains(table: Table, atom_names: list[str], path: str | Path) -> Iterator[Chain]:
    """Yield the chains of one table; their atoms are placed in one vectorised step."""
    texts = {name: table[name].to_pylist() for name in _TEXTS}
    lists = {name: _flat(table[name]) for name in _LISTS}
    num_chains = table.num_rows
    check = _Validation(path, texts["chain_id"])
    for name in _TEXTS:
        for row, text in enumerate(texts[name]):
            if not text:
                check.fail(row, f"has no {name}")
    for row, sequence in enumerate(texts["sequence"]):
        if invalid := sorted(set(sequence) - RESIDUES):
            check.fail(row, f"has {invalid[0]!r} in its sequence, which is not a residue code")
    lengths = np.array([len(sequence) for sequence in texts["sequence"]], dtype=np.int64)
    check.all(lists["residue_index"].sizes == lengths, "has different numbers of residue_index and of residues")
    for name in ("atom_type", "x", "y", "z"):
        check.all(
            lists[name].sizes == lists["atom_residue"].sizes, f"has different numbers of {name} and of atom_residue"
        )

    chain_E = np.repeat(np.arange(num_chains), lists["atom_residue"].sizes)
    residue_E, type_E = lists["atom_residue"].values, lists["atom_type"].values
    check.none((residue_E < 0) | (residue_E >= lengths[chain_E]), chain_E, "has atoms outside its sequence")
    check.none((type_E < 0) | (type_E >= len(atom_names)), chain_E, "has an atom_type without a name")

    for axis in "xyz":
        is_far_E = (lists[axis].values < -MAX_COORDINATE) | (lists[axis].values > MAX_COORDINATE)
        check.none(is_far_E, chain_E, f"has an atom whose {axis} is missing or beyond 10,000 angstrom")
    index_R, chain_R = lists["residue_index"].values, np.repeat(np.arange(num_chains), lengths)
    is_outside_R = (index_R < _INT32.min) | (index_R > _INT32.max)
    check.none(is_outside_R, chain_R, "has a residue_index that is missing or not a 32-bit integer")

    starts = np.concatenate([[0], np.cumsum(lengths)])
    letters = np.frombuffer("".join(texts["sequence"]).encode("ascii"), dtype=np.uint8)
    row_E = starts[chain_E] + residue_E
    atom_E = _atom14_index(atom_names)[letters[row_E], type_E]
    kept = atom_E >= 0
    row_E, atom_E, chain_E = row_E[kept], atom_E[kept], chain_E[kept]
    positions = np.zeros((len(letters), NUM_ATOMS, 3), dtype=np.float32)
    positions[row_E, atom_E] = ANGSTROM * np.stack([lists[axis].values[kept] for axis in "xyz"], axis=1)
    counts = np.bincount(row_E * NUM_ATOMS + atom_E, minlength=len(letters) * NUM_ATOMS)
    check.none(counts[row_E * NUM_ATOMS + atom_E] > 1, chain_E, "has an atom twice")
    observed = counts.reshape(-1, NUM_ATOMS) > 0
    residue_index = index_R.astype(np.int32)
    for row in range(num_chains):
        part = slice(starts[row], starts[row + 1])
        yield Chain(
            name=texts["chain_id"][row],
            sequence=texts["sequence"][row],
            positions_LA3=positions[part],
            observed_LA=observed[part],
            residue_index_L=residue_index[part],
            split=texts["split"][row],
            cluster=texts["cluster30"][row],
        )


@dataclass(frozen=True, slots=True)
class _Lists:
    """A column of lists: the concatenated values, and the number of values of each row."""

    values: Integers
    sizes: npt.NDArray[np.int64]


def _flat(column: Any) -> _Lists:
    combined = column.combine_chunks()
    sizes = combined.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = combined.flatten().cast("int64").fill_null(_MISSING)
    return _Lists(values.to_numpy(zero_copy_only=False), sizes)


def _atom14_index(atom_names: list[str]) -> npt.NDArray[np.int64]:
    """Return the index in atom14 [letter, atom_type] of each atom in each residue; -1 if a residue has no such atom."""
    index = np.full((256, len(atom_names)), -1)
    for residue, atoms in ATOMS.items():
        for number, atom in enumerate(atoms):
            if atom in atom_names:
                index[ord(residue), atom_names.index(atom)] = number
    return index


@dataclass(frozen=True, slots=True)
class _Validation:
    """Checks that raise UsageError with the name of the invalid chain."""

    path: str | Path
    names: list[str | None]

    def fail(self, row: int, what: str) -> None:
        raise UsageError(f"{self.path}: chain {self.names[row] or row + 1} {what} (docs/training.md has the layout)")

    def all(self, is_valid: Mask, what: str) -> None:
        if not is_valid.all():
            self.fail(int(np.argmin(is_valid)), what)

    def none(self, is_invalid_E: Mask, chain_E: Integers, what: str) -> None:
        if is_invalid_E.any():
            self.fail(int(chain_E[np.argmax(is_invalid_E)]), what)
