"""Parquet files of an atlas: written aside, digested while they are written, then given their name."""

import contextlib
import hashlib
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage, file_sha256
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.tables import TABLES, write_options


class _DigestingFile:
    """A write-only file that keeps the sha256 of what passes. Parquet is written front to back, so no seek comes."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        self.digest = hashlib.sha256()
        self.closed = False

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self.closed = True  # the owner closes the file itself

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class ParquetFile:
    """Context manager that writes one table of `schemas.tables` to `path` in the folder or atlas `root`.

    Nothing is visible at `path` before the block ends without an error; then `entry` describes the file. `metadata`
    joins the schema's own (text to text). `table` chooses schema and encodings; `schema` another schema for it.
    """

    def __init__(
        self,
        root: Path | Storage,
        path: str,
        table: str,
        *,
        metadata: dict[str, str] | None = None,
        schema: pa.Schema | None = None,
    ):
        self._storage = open_storage(root)
        self._path = path
        self._table = table
        base = schema if schema is not None else TABLES[table]
        said = {key.decode(): value.decode() for key, value in (base.metadata or {}).items()}
        self.schema = base.with_metadata({**said, **(metadata or {})})
        self.rows = 0
        self.entry: FileEntry | None = None

    def __enter__(self) -> Self:
        self._building = contextlib.ExitStack()
        with self._building:
            temporary = self._building.enter_context(self._storage.building(self._path))
            self._file = self._building.enter_context(temporary.open("xb"))
            self._sink = _DigestingFile(self._file)
            # pyarrow's stubs know IO alone; its C++ side takes any object with these methods
            sink = pa.PythonFile(cast(IO[bytes], self._sink), mode="w")
            self._writer = pq.ParquetWriter(sink, self.schema, **write_options(self._table))
            self._building = self._building.pop_all()
        return self

    def write(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Appends rows; `row_group_size` rows a group, by default one group for this call."""
        self._writer.write_table(table.cast(self.schema), row_group_size or max(1, table.num_rows))
        self.rows += table.num_rows

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._writer.close()
            self._file.flush()
            size = self._file.tell()
        except BaseException as failure:
            self._abandon(failure)
            raise
        if error is not None:
            self._abandon(error)
            return
        self._building.close()
        self.entry = FileEntry(path=self._path, rows=self.rows, bytes=size, sha256=self._sink.digest.hexdigest())

    def _abandon(self, error: BaseException) -> None:
        """Leaves nothing behind."""
        with contextlib.suppress(OSError):  # on a full disk closing writes what is buffered, and fails again
            self._building.__exit__(type(error), error, error.__traceback__)


def open_parquet(storage: Storage, name: str) -> pq.ParquetFile:
    """A Parquet file of an atlas, to read in parts. On a store, the ranges that are asked for are all that is fetched.

    Raises OSError for a file that is missing, OSError or ArrowInvalid for one that is no Parquet.
    """
    if storage.root is not None:
        return pq.ParquetFile(storage.root / name)
    # the columns of a row group in one request or a few
    return pq.ParquetFile(storage.open(name), pre_buffer=True)


__all__ = ["ParquetFile", "file_sha256", "open_parquet"]
