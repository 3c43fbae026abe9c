"""The rows of a complete search run by structure, and its targets by name, without reading all of its files.

The statistics of row groups say where a structure can be: those of the run's queries, whose row groups are its shards
and are in the order of structures files, and those of rows that were taken over, which are sorted by structure_id.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from foldatlas.atlas.novelty.search_run import HITS_TABLE, KEPT_TABLE, TARGETS_TABLE, SearchRun
from foldatlas.atlas.novelty.targets import Target, read_targets
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.stages.run import StageRun

MAX_FILES: Final = 2_000  # files of hits that are looked through, some milliseconds each

Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Shard:
    """The least and greatest structures file and structure_id of a shard, and the file of its hits."""

    files: tuple[str, str] | None
    identities: tuple[bytes, bytes] | None
    hits: str


class StoredHits:
    """What one complete run found. One for all threads; the run never changes.

    Raise DamagedAtlasError or OSError for documents that cannot be read.
    """

    def __init__(self, run: StageRun):
        search = SearchRun.of(run)
        self._storage = run.folder.storage
        self._kept = [file.path for file in run.document.inputs.get(KEPT_TABLE, ())]
        completion = run.completion()
        listed = () if completion is None else completion.files.get(TARGETS_TABLE, ())
        self._targets = [file.path for file in listed]
        self._shards = self._bounds(search)

    def _bounds(self, search: SearchRun) -> list[_Shard]:
        entries = search.run.entries()
        footers: dict[str, pq.FileMetaData] = {}
        found = []
        for shard in search.run.document.shards:
            if shard.name not in entries:
                continue
            if shard.path not in footers:
                with open_parquet(self._storage, shard.path) as file:
                    footers[shard.path] = file.metadata
            group = footers[shard.path].row_group(shard.row_group)
            found.append(
                _Shard(
                    _range(group, "structure_file"),
                    _range(group, "structure_id"),
                    entries[shard.name].files[HITS_TABLE].path,
                )
            )
        return found

    def row(self, structure_id: bytes, structure_file: str) -> dict[str, Any] | None:
        """Return the row of hits of a structure that was searched itself, without its id, or None.

        `structure_file` is where the structure is stored now. Raise OSError or ArrowException for a damaged file.
        """
        here = [shard for shard in self._shards if _inside(structure_id, shard.identities)]
        first = [shard.hits for shard in here if _inside(structure_file, shard.files)]
        later = [shard.hits for shard in here if not _inside(structure_file, shard.files)]  # it was moved since
        for path in [*first, *self._kept, *later][:MAX_FILES]:
            row = self._row_in(path, structure_id)
            if row is not None:
                return row
        return None

    def _row_in(self, path: str, structure_id: bytes) -> dict[str, Any] | None:
        with open_parquet(self._storage, path) as file:
            for number in range(file.num_row_groups):
                if not _inside(structure_id, _range(file.metadata.row_group(number), "structure_id")):
                    continue
                identities: Any = file.read_row_group(number, columns=["structure_id"]).column(0).combine_chunks()
                row = pc.index(identities.storage, pa.scalar(structure_id, pa.binary(16))).as_py()
                if row >= 0:
                    table = file.read_row_group(number).slice(row, 1).drop_columns(["structure_id"])
                    found: dict[str, Any] = table.to_pylist()[0]
                    return found
        return None

    def target(self, name: str) -> Target | None:
        """Return the target of this name, or None. Raise OSError or ArrowException for a damaged file."""
        return read_targets(self._storage, self._targets, {name}).get(name)


def in_frame(target_M3: npt.NDArray[np.floating], rotation: Any, translation: Any) -> Doubles:
    """Return a target's points in the frame of the structure that was searched with.

    `rotation` (9 numbers or [3, 3]) and `translation` [3] lay the structure on the target: `R @ structure + t`.
    """
    moved: Doubles = (target_M3 - np.asarray(translation, np.float64)) @ np.asarray(rotation, np.float64).reshape(3, 3)
    return moved


def _range(group: pq.RowGroupMetaData, name: str) -> tuple[Any, Any] | None:
    """Return the least and greatest value of a column in a row group, or None where the file does not say."""
    for number in range(group.num_columns):
        column = group.column(number)
        if column.path_in_schema == name:
            statistics = column.statistics
            return (statistics.min, statistics.max) if statistics is not None and statistics.has_min_max else None
    return None


def _inside(value: Any, limits: tuple[Any, Any] | None) -> bool:
    return limits is None or limits[0] <= value <= limits[1]
