"""Input of clustering: the structures of the present records of an atlas, their sequences, C-alphas and 3Di states.

A structure is identified by its row, its number in the order of descending length; equal lengths are in the order of
structure_id. Shapes: `N` structures, `M` chains that are compared, `K` chains read from a file, `D` descriptor values.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.clusters.descriptors import SIZE, Descriptors, describe
from foldatlas.atlas.clusters.representatives import confidence
from foldatlas.atlas.parquet.coordinates import stored_values, structure_ids_of
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.parquet.structures import StructureLocation, read_structures
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.chains import CANDIDATE
from foldatlas.atlas.reference.encode import structural_states
from foldatlas.atlas.reference.from_atlas import chain_of
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.cluster_tables import CHAINS
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.reference_tables import STATE_ALPHABET
from foldatlas.schemas.tables import COORDINATE_SCALE

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Chains

Rows = npt.NDArray[np.int64]
Ids = npt.NDArray[np.void]  # structure_ids, of dtype ID

ID: Final = np.dtype("V16")

CHAINS_PER_ROW_GROUP: Final = 4_096
_LETTERS: Final = np.frombuffer(STATE_ALPHABET.encode("ascii"), dtype=np.uint8)
_STATES: Final = np.zeros(256, dtype=np.uint8)
_STATES[_LETTERS] = np.arange(len(_LETTERS))

_PRESENT: Final = (
    "SELECT structure_id, length, mean_plddt, ptm, structure_file::VARCHAR AS structure_file, structure_row "
    "FROM scores WHERE structure_id IN (SELECT structure_id FROM records WHERE state = 'folded' AND NOT superseded)"
)
_ORDER: Final = "ORDER BY length DESC, structure_id"


@dataclass(frozen=True, eq=False)
class Structures:
    """The structures of present records, by row. Lengths are in residues; `confidence_N` is pTM x mean pLDDT
    (`representatives`); `file_rows_N` are rows of the structures files `files_N`."""

    ids_N: Ids
    lengths_N: npt.NDArray[np.int32]
    confidence_N: npt.NDArray[np.float64]
    files_N: "pa.ChunkedArray[Any]"
    file_rows_N: Rows

    def __len__(self) -> int:
        return len(self.ids_N)

    @property
    def residues(self) -> int:
        return int(self.lengths_N.sum(dtype=np.int64))

    def locations(self, rows: Rows) -> tuple[Rows, Iterator[StructureLocation]]:
        """Return `rows` in the order in which their structures are stored, and the location of each."""
        files = self.files_N.take(pa.array(rows)).to_pylist()
        order = sorted(range(len(rows)), key=lambda at: (files[at], self.file_rows_N[rows[at]]))
        sorted_rows = rows[order]
        locations = (
            StructureLocation(self.ids_N[row].tobytes(), files[at], int(self.file_rows_N[row]))
            for at, row in zip(order, sorted_rows, strict=True)
        )
        return sorted_rows, locations


def present_structures(atlas: Atlas) -> Structures:
    """Return the structures of present records."""
    table = atlas.query(f"{_PRESENT} {_ORDER}").arrow()

    def numbers(name: str, dtype: Any) -> Any:
        return table.column(name).to_numpy(zero_copy_only=False).astype(dtype)

    return Structures(
        ids_N=ids_of(table),
        lengths_N=numbers("length", np.int32),
        confidence_N=confidence(numbers("mean_plddt", np.float64), numbers("ptm", np.float64)),
        files_N=table.column("structure_file"),
        file_rows_N=numbers("structure_row", np.int64),
    )


def write_sequences(atlas: Atlas, structures: Structures, path: Path) -> None:
    """Write the MMseqs2 database `path` of the sequences of `structures`; keys are rows."""
    result = atlas.query(
        "SELECT sequences.structure_id, sequences.sequence FROM sequences "
        f"JOIN ({_PRESENT}) AS present ON present.structure_id = sequences.structure_id "
        "ORDER BY present.length DESC, present.structure_id"
    )
    row = 0
    with DatabaseWriter(path) as writer:
        for batch in result.batches():
            ids = structure_ids_of(pa.Table.from_batches([batch]))
            if b"".join(ids) != structures.ids_N[row : row + len(ids)].tobytes():
                break
            writer.write(sequence.encode("ascii") for sequence in batch.column("sequence").to_pylist())
            row += len(ids)
    if row != len(structures):
        uri = atlas.folder.uri
        raise DamagedAtlasError(
            f"the sequences of {uri} are not those of its index: run `foldatlas index {uri}`, and "
            f"`foldatlas verify {uri}` if that does not help"
        )


@dataclass(frozen=True, eq=False)
class StagedChains:
    """Chains to compare, in local files. `rows_M` are their rows among the structures, `ids_M` their structure_ids,
    `lengths_M` their residues with a C-alpha, in descending order. `too_short` is the number of structures left out."""

    rows_M: Rows
    ids_M: Ids
    lengths_M: npt.NDArray[np.int32]
    too_short: int
    _starts_M: Rows
    _points: Any
    _states: Any
    _descriptors: Any
    _file_indices_M: Rows

    @classmethod
    def stage(cls, storage: Storage, structures: Structures, rows: Rows, scratch: Path) -> "StagedChains":
        """Copy C-alphas and 3Di states of the structures `rows` to files in `scratch`, 13 bytes per residue.

        Structures are read in the order in which they are stored. Those with fewer than 30 residues with a C-alpha are
        left out, because the TM-score of so short chains is not informative.
        """
        stored_rows, locations = structures.locations(rows)
        lengths = np.zeros(len(rows), dtype=np.int32)
        files = (scratch / "points", scratch / "states", scratch / "descriptors")
        with files[0].open("xb") as points, files[1].open("xb") as states, files[2].open("xb") as descriptors:
            for at, structure in enumerate(read_structures(storage, locations)):
                chain = chain_of(structure)
                if chain.outcome == CANDIDATE:
                    lengths[at] = len(chain.sequence)
                    n, c_alpha, c, c_beta = chain.backbone
                    points.write(np.rint(c_alpha.astype(np.float64) * COORDINATE_SCALE).astype(np.int32).tobytes())
                    states_L = structural_states(n, c_alpha, c, c_beta)
                    states.write(states_L.tobytes())
                    descriptors.write(describe(c_alpha, states_L).tobytes())
        starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        order = np.lexsort((stored_rows, -lengths))
        order = order[lengths[order] > 0]
        file_indices = np.cumsum(lengths > 0) - 1  # of chains, in the files
        return cls(
            rows_M=stored_rows[order],
            ids_M=structures.ids_N[stored_rows[order]],
            lengths_M=lengths[order],
            too_short=int((lengths == 0).sum()),
            _starts_M=starts[order],
            _points=_mapped(files[0], np.int32).reshape(-1, 3),
            _states=_mapped(files[1], np.uint8),
            _descriptors=_mapped(files[2], np.int16).reshape(-1, SIZE),
            _file_indices_M=file_indices[order],
        )

    def write(self, storage: Storage, path: str, is_new_M: npt.NDArray[np.bool_]) -> FileEntry:
        """Write the chains to `path`, schema `cluster_tables.CHAINS`. `is_new_M`: no earlier run compared the chain."""
        with ParquetFile(storage, path, "chains", schema=CHAINS) as file:
            for begin in range(0, max(len(self.rows_M), 1), CHAINS_PER_ROW_GROUP):
                file.write(self._table(slice(begin, begin + CHAINS_PER_ROW_GROUP), is_new_M))
        assert file.entry is not None, "set when the with block ends"
        return file.entry

    def _table(self, some: slice, is_new_M: npt.NDArray[np.bool_]) -> pa.Table:
        lengths = self.lengths_M[some]
        spans = [slice(start, start + length) for start, length in zip(self._starts_M[some], lengths, strict=True)]
        ends = pa.array(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32))
        xyz = np.concatenate([np.empty((0, 3), np.int32), *(self._points[span] for span in spans)])
        columns: list[Any] = [
            pa.ExtensionArray.from_storage(
                pa.uuid(), pa.array([identity.tobytes() for identity in self.ids_M[some]], pa.binary(16))
            ),
            pa.array(lengths),
            *(
                pa.ListArray.from_arrays(
                    ends, pa.array(np.ascontiguousarray(xyz[:, axis])), type=CHAINS.field("x").type
                )
                for axis in range(3)
            ),
            pa.array([_LETTERS[self._states[span]].tobytes().decode("ascii") for span in spans], pa.string()),
            pa.FixedSizeListArray.from_arrays(
                pa.array(self._descriptors[self._file_indices_M[some]].reshape(-1)),
                type=CHAINS.field("descriptor").type,
            ),
            pa.array(is_new_M[some]),
        ]
        return pa.Table.from_arrays(columns, schema=CHAINS)


class ReadChains(NamedTuple):
    """Chains of a chains file: structure_ids, whether each is new (compared by no earlier run), descriptors, chains."""

    ids_K: Ids
    is_new_K: npt.NDArray[np.bool_]
    descriptors_KD: Descriptors
    chains: "Chains"


def read_chains(storage: Storage, path: str, begin: int, end: int) -> ReadChains:
    """Return the rows [begin, end) of a chains file. Raise DamagedAtlasError if it cannot be read or lacks rows."""
    groups = range(begin // CHAINS_PER_ROW_GROUP, -(-end // CHAINS_PER_ROW_GROUP))
    with _opened_chains(storage, path) as file:
        table = file.read_row_groups(list(groups))
    table = table.slice(begin - groups.start * CHAINS_PER_ROW_GROUP, end - begin)
    if table.num_rows != end - begin:
        raise _other_chains(storage, path)
    is_new = table.column("is_new").to_numpy(zero_copy_only=False)
    descriptors: Any = table.column("descriptor").combine_chunks()
    numbers = descriptors.flatten().to_numpy().reshape(-1, SIZE)
    return ReadChains(ids_of(table), is_new, numbers, _decoded(table, storage, path))


def read_some_chains(storage: Storage, path: str, rows: Rows) -> "Chains":
    """Return the `rows`, in ascending order, of a chains file; one row group is read at a time. Raise
    DamagedAtlasError."""
    parts = []
    with _opened_chains(storage, path) as file:
        for group in np.unique(rows // CHAINS_PER_ROW_GROUP).tolist():
            begin = group * CHAINS_PER_ROW_GROUP
            first, last = np.searchsorted(rows, [begin, begin + CHAINS_PER_ROW_GROUP])
            table = file.read_row_group(group, columns=["x", "y", "z", "states"])
            if rows[last - 1] - begin >= table.num_rows:
                raise _other_chains(storage, path)
            parts.append(table.take(pa.array(rows[first:last] - begin)))
    return _decoded(pa.concat_tables(parts), storage, path)


def chain_ids(storage: Storage, path: str) -> Ids:
    """Return the structure_id of each chain of a chains file. Raise DamagedAtlasError."""
    with _opened_chains(storage, path) as file:
        return ids_of(file.read(["structure_id"]))


@contextlib.contextmanager
def _opened_chains(storage: Storage, path: str) -> Iterator[Any]:
    try:
        with open_parquet(storage, path) as file:
            yield file
    except (OSError, pa.ArrowException) as error:
        raise DamagedAtlasError(
            f"{storage.uri}/{path} cannot be read ({error}): restore it from a copy, or delete the folder of its run "
            "and cluster again"
        ) from error


def _other_chains(storage: Storage, path: str) -> DamagedAtlasError:
    return DamagedAtlasError(f"{storage.uri}/{path} does not have the chains of its run: restore it from a copy")


def _decoded(table: pa.Table, storage: Storage, path: str) -> "Chains":
    from foldatlas.folding.compare.tm_align import Chains

    planes = [stored_values(table, axis) for axis in "xyz"]
    points = np.stack([values / COORDINATE_SCALE for values, _ in planes], axis=-1).astype(np.float32)
    states = _STATES[np.frombuffer("".join(table.column("states").to_pylist()).encode("ascii"), dtype=np.uint8)]
    offsets = planes[0][1]
    if len(points) != len(states) or len(points) != offsets[-1]:
        raise _other_chains(storage, path)
    return Chains(points, states, offsets)


def ids_of(table: pa.Table) -> Ids:
    """Return the column `structure_id` as an array."""
    found: Ids = np.frombuffer(b"".join(structure_ids_of(table)), dtype=ID)
    return found


def _mapped(path: Path, dtype: Any) -> Any:
    if not path.stat().st_size:
        return np.empty(0, dtype)
    return np.memmap(path, dtype=dtype, mode="r")
