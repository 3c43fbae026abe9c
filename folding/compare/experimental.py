"""Experimental chains, read from a Parquet file whose layout docs/training.md describes.

Every chain is checked before it is handed out: a file that anyone can make is not trusted. pyarrow is imported where
it is used. Shapes: L residues, A = 14 atoms of a residue (records.ATOMS), R residues and E atoms of a row group.
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

NUM_ATOMS: Final = 14  # most atoms of any residue: tryptophan's
ANGSTROM: Final = 0.001  # what an integer of the file means
COORDINATES: Final = "0.001 angstrom"  # how the file's metadata ends, saying so
MAX_COORDINATE: Final = 10_000_000  # 10,000 angstrom, beyond what a PDB file can say

_TEXTS: Final = ("chain_id", "split", "cluster30", "sequence")
_LISTS: Final = ("residue_index", "atom_residue", "atom_type", "x", "y", "z")
_MISSING: Final = -(1 << 63)  # stands for NULL in a list, and is outside of what any list may hold
_INT32: Final = np.iinfo(np.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """One experimental chain: the residues that were observed, and no others.

    `positions_LA3` is in angstrom, atoms in the order of records.ATOMS, zero where `observed_LA` is False: an atom
    that was not seen, or that the residue does not have. `residue_index_L` is the author's numbering: it jumps at
    gaps, and repeats where residues were inserted. `cluster` is the same for related chains.
    """

    name: str
    sequence: str
    positions_LA3: Floats
    observed_LA: Mask
    residue_index_L: npt.NDArray[np.int32]
    split: str
    cluster: str


def read_chains(path: str | Path, splits: Collection[str] | None = None, max_length: int | None = None) -> list[Chain]:
    """The chains of the Parquet file `path` in its order: those of `splits` (None: of all) that have at most
    `max_length` residues (None: any length).

    Raises UsageError for a file that is missing or no Parquet, that lacks a column or a key of metadata, a split that
    it does not have, and a chain that contradicts itself.
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
        raise UsageError(f"{path} is not there: name a Parquet file of experimental chains") from None
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
            wanted = "text" if name in _TEXTS else "lists of integers"
            raise UsageError(f"{path} has {arrow_type} in column {name!r}, where {wanted} belong (docs/training.md)")


def _atom_names(metadata: dict[bytes, bytes], path: str | Path) -> list[str]:
    """The names that `atom_type` counts through."""
    said = metadata.get(b"atom_type", b"").decode("utf-8", "replace")
    names = said.removeprefix("index into ").split()
    if not {"N", "CA", "C", "O"} <= set(names):
        raise UsageError(
            f"{path} does not say what `atom_type` means (metadata: {said!r}): write 'index into N CA C ...' under "
            "that key"
        )
    coordinates = metadata.get(b"coordinates", b"").decode("utf-8", "replace")
    if not coordinates.endswith(COORDINATES):
        raise UsageError(
            f"{path} does not give its coordinates in {COORDINATES} (metadata: {coordinates!r}): write them so, and "
            "say it under the key 'coordinates'"
        )
    return names


def _chosen(table: Table, splits: Collection[str] | None, max_length: int | None) -> Table:
    """The rows of `table` that were asked for."""
    import pyarrow as pa

    is_chosen = [
        (splits is None or split in splits) and (max_length is None or len(sequence or "") <= max_length)
        for split, sequence in zip(table["split"].to_pylist(), table["sequence"].to_pylist(), strict=True)
    ]
    return table.filter(pa.array(is_chosen, pa.bool_()))


def _chains(table: Table, atom_names: list[str], path: str | Path) -> Iterator[Chain]:
    """The chains of one table, all their atoms placed at once."""
    texts = {name: table[name].to_pylist() for name in _TEXTS}
    lists = {name: _flat(table[name]) for name in _LISTS}
    num_chains = table.num_rows
    fault = _Faults(path, texts["chain_id"])
    for name in _TEXTS:
        for row, text in enumerate(texts[name]):
            if not text:
                fault.say(row, f"has no {name}")
    for row, sequence in enumerate(texts["sequence"]):
        if strange := sorted(set(sequence) - RESIDUES):
            fault.say(row, f"has {strange[0]!r} in its sequence, which is no residue code")
    lengths = np.array([len(sequence) for sequence in texts["sequence"]], dtype=np.int64)
    fault.unless(lists["residue_index"].sizes == lengths, "has another number of residue_index than of residues")
    for name in ("atom_type", "x", "y", "z"):
        fault.unless(
            lists[name].sizes == lists["atom_residue"].sizes, f"has another number of {name} than of atom_residue"
        )

    chain_E = np.repeat(np.arange(num_chains), lists["atom_residue"].sizes)
    residue_E, type_E = lists["atom_residue"].values, lists["atom_type"].values
    fault.unless_any((residue_E < 0) | (residue_E >= lengths[chain_E]), chain_E, "has atoms outside its sequence")
    fault.unless_any((type_E < 0) | (type_E >= len(atom_names)), chain_E, "has an atom_type without a name")

    for axis in "xyz":
        is_far_E = (lists[axis].values < -MAX_COORDINATE) | (lists[axis].values > MAX_COORDINATE)
        fault.unless_any(is_far_E, chain_E, f"has an atom whose {axis} is missing or beyond 10,000 angstrom")
    index_R, chain_R = lists["residue_index"].values, np.repeat(np.arange(num_chains), lengths)
    is_strange_R = (index_R < _INT32.min) | (index_R > _INT32.max)
    fault.unless_any(is_strange_R, chain_R, "has a residue_index that is missing or no number of 32 bits")

    starts = np.concatenate([[0], np.cumsum(lengths)])
    letters = np.frombuffer("".join(texts["sequence"]).encode("ascii"), dtype=np.uint8)
    row_E = starts[chain_E] + residue_E
    place_E = _places(atom_names)[letters[row_E], type_E]
    kept = place_E >= 0
    row_E, place_E, chain_E = row_E[kept], place_E[kept], chain_E[kept]
    positions = np.zeros((len(letters), NUM_ATOMS, 3), dtype=np.float32)
    positions[row_E, place_E] = ANGSTROM * np.stack([lists[axis].values[kept] for axis in "xyz"], axis=1)
    seen = np.bincount(row_E * NUM_ATOMS + place_E, minlength=len(letters) * NUM_ATOMS)
    fault.unless_any(seen[row_E * NUM_ATOMS + place_E] > 1, chain_E, "has an atom twice")
    observed = seen.reshape(-1, NUM_ATOMS) > 0
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
    """A column of lists: all values one after the other, and how many each row has."""

    values: Integers
    sizes: npt.NDArray[np.int64]


def _flat(column: Any) -> _Lists:
    combined = column.combine_chunks()
    sizes = combined.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    values = combined.flatten().cast("int64").fill_null(_MISSING)
    return _Lists(values.to_numpy(zero_copy_only=False), sizes)


def _places(atom_names: list[str]) -> npt.NDArray[np.int64]:
    """Place in atom14 [letter, atom_type] of each atom name in each residue; -1 where a residue has no such atom."""
    places = np.full((256, len(atom_names)), -1)
    for residue, atoms in ATOMS.items():
        for place, atom in enumerate(atoms):
            if atom in atom_names:
                places[ord(residue), atom_names.index(atom)] = place
    return places


@dataclass(frozen=True, slots=True)
class _Faults:
    """Says which chain of the file is at fault."""

    path: str | Path
    names: list[str | None]

    def say(self, row: int, what: str) -> None:
        raise UsageError(f"{self.path}: chain {self.names[row] or row + 1} {what} (docs/training.md has the layout)")

    def unless(self, right: Mask, what: str) -> None:
        if not right.all():
            self.say(int(np.argmin(right)), what)

    def unless_any(self, wrong_E: Mask, chain_E: Integers, what: str) -> None:
        if wrong_E.any():
            self.say(int(chain_E[np.argmax(wrong_E)]), what)
