"""Read predicted aligned errors by structure, one row group at a time."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.parquet.matrices import BULKY_ROW_GROUP_BYTES, Floats, decode_pae
from foldatlas.atlas.storage.protocol import Storage

_BYTES_PER_PAIR: Final = 4  # while errors are written by folding, in single precision


def in_row_groups(rows: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield rows of pae files, given one by one, as row groups of the size that folding writes."""
    waiting: list[pa.Table] = []
    size = 0
    for row in rows:
        waiting.append(row)
        size += row["length"][0].as_py() ** 2 * _BYTES_PER_PAIR
        if size >= BULKY_ROW_GROUP_BYTES:
            yield pa.concat_tables(waiting).combine_chunks()
            waiting, size = [], 0
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


class PaeReader:
    """Reads rows of pae files. It keeps the last file and row group open.

    `files` has the pae file of each structures file, for those that have one.
    """

    def __init__(self, storage: Storage, files: Mapping[str, str]):
        self._storage = storage
        self._files = files
        self._path = ""
        self._file: pq.ParquetFile | None = None
        self._places: dict[bytes, tuple[int, int]] = {}  # row group, row in it
        self._number = -1
        self._group = pa.table({})

    def matrix(self, structures_file: str, structure_id: bytes) -> Floats | None:
        """Return the errors of a structure, float32 [L, L] in angstrom, None without them.

        Raise OSError, ArrowException or DamagedAtlasError for a file that cannot be read.
        """
        row = self.row(structures_file, structure_id)
        return None if row is None else decode_pae(row)[0]

    def row(self, structures_file: str, structure_id: bytes) -> pa.Table | None:
        """Return the row of a structure, None without one."""
        path = self._files.get(structures_file)
        if path is None:
            return None
        if path != self._path or self._file is None:
            self.close()
            self._file, self._path = open_parquet(self._storage, path), path
            self._places = _places(self._file)
        place = self._places.get(structure_id)
        if place is None:
            return None
        if place[0] != self._number:
            self._number, self._group = place[0], self._file.read_row_group(place[0])
        return self._group.slice(place[1], 1)

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
        self._file, self._number = None, -1


def _places(file: pq.ParquetFile) -> dict[bytes, tuple[int, int]]:
    found = {}
    for number in range(file.num_row_groups):
        for row, identity in enumerate(structure_ids_of(file.read_row_group(number, columns=["structure_id"]))):
            found[identity] = number, row
    return found
