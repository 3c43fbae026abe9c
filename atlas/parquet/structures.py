"""Read stored structures by their location, one row group at a time, without a view over all files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures, structure_ids_of
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.records import format_structure_id
from foldatlas.schemas.tables import STRUCTURES_PER_ROW_GROUP


@dataclass(frozen=True, slots=True)
class StructureLocation:
    """The location of a structure: its file, relative to the atlas, and its row in that file."""

    structure_id: bytes
    file: str
    row: int


class StructureReader:
    """Reads rows of structures files. It keeps the last row group, so reading in the order of file and row is fast."""

    def __init__(self, uri: Path | Storage, columns: list[str] | None = None):
        self._storage = open_storage(uri)
        self._columns = columns
        self._path: str | None = None
        self._file: pq.ParquetFile | None = None
        self._number = -1
        self._group: pa.Table | None = None
        self._identities: list[bytes] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
        self._path = self._file = self._group = None

    def rows(self, locations: list[StructureLocation]) -> pa.Table:
        """Return the rows at `locations`, all in one row group, in order.

        Raise DamagedAtlasError for a file that is missing, unreadable, or has other structures in these rows.
        """
        file, number = locations[0].file, locations[0].row // STRUCTURES_PER_ROW_GROUP
        group = self._read(file, number)
        inside = [location.row - number * STRUCTURES_PER_ROW_GROUP for location in locations]
        for location, row in zip(locations, inside, strict=True):
            if row >= group.num_rows or self._identities[row] != location.structure_id:
                expected = format_structure_id(location.structure_id)
                raise DamagedAtlasError(
                    f"row {location.row} of {self._storage.uri}/{file} is not structure {expected}: run "
                    f"`foldatlas index {self._storage.uri}`, and `foldatlas verify` if that does not help"
                )
        return group.take(pa.array(inside, pa.int64()))

    def _read(self, path: str, number: int) -> pa.Table:
        if path == self._path and number == self._number and self._group is not None:
            return self._group
        try:
            if path != self._path or self._file is None:
                self.close()
                self._file = open_parquet(self._storage, path)
                self._path = path
            if number >= self._file.num_row_groups:
                raise pa.ArrowInvalid(f"it has {self._file.num_row_groups} row groups, {number + 1} are needed")
            self._group = self._file.read_row_group(number, columns=self._columns)
        except (OSError, pa.ArrowException) as error:
            raise DamagedAtlasError(
                f"{self._storage.uri}/{path} cannot be read ({error}): `foldatlas verify {self._storage.uri}` "
                "lists what is damaged"
            ) from error
        self._number = number
        self._identities = structure_ids_of(self._group)
        return self._group


def by_row_group(locations: Iterable[StructureLocation]) -> Iterator[list[StructureLocation]]:
    """Yield lists of consecutive locations in one row group."""
    together: list[StructureLocation] = []
    for location in locations:
        if together and _group_of(together[0]) != _group_of(location):
            yield together
            together = []
        together.append(location)
    if together:
        yield together


def read_structures(atlas: Path | Storage, locations: Iterable[StructureLocation]) -> Iterator[StoredStructure]:
    """Yield the structures at `locations`, in order. If sorted by file and row, each row group is read once.

    Raise DamagedAtlasError for a file that is missing, unreadable, or has other structures in these rows.
    """
    with StructureReader(atlas) as reader:
        for together in by_row_group(locations):
            yield from decode_structures(reader.rows(together))


def _group_of(location: StructureLocation) -> tuple[str, int]:
    return location.file, location.row // STRUCTURES_PER_ROW_GROUP
