"""Parquet files of an atlas: written under a temporary name, with their sha256 computed on the way, then renamed."""

import contextlib
import hashlib
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.storage.opening import open_storage
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.formats import table_schema
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.tables import FORMAT_VERSION, write_options


class _DigestingFile:
    """A write-only file that computes the sha256 of its bytes. Parquet is written front to back, without seeking."""

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
        self.closed = True  # the caller closes the file itself

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class ParquetFile:
    """Context manager that writes one table to the file `path` of the folder or atlas `root`.

    Nothing is visible at `path` until the block succeeds; then `entry` describes the file. `table` and the atlas's
    `format` select schema (schemas.formats) and encodings; `schema` replaces that schema. `metadata` (text to text) is
    added to the schema's own.
    """

    def __init__(
        self,
        root: Path | Storage,
        path: str,
        table: str,
        *,
        metadata: dict[str, str] | None = None,
        schema: pa.Schema | None = None,
        format: int = FORMAT_VERSION,
    ):
        self._storage = open_storage(root)
        self._path = path
        self._table = table
        base = schema if schema is not None else table_schema(table, format)
        own = {key.decode(): value.decode() for key, value in (base.metadata or {}).items()}
        self.schema = base.with_metadata({**own, **(metadata or {})})
        self.rows = 0
        self.entry: FileEntry | None = None

    def __enter__(self) -> Self:
        self._building = contextlib.ExitStack()
        with self._building:
            temporary = self._building.enter_context(self._storage.building(self._path))
            self._file = self._building.enter_context(temporary.open("xb"))
            self._sink = _DigestingFile(self._file)
            # pyarrow's type stubs require IO; its C++ code accepts any object with these methods
            sink = pa.PythonFile(cast(IO[bytes], self._sink), mode="w")
            self._writer = pq.ParquetWriter(sink, self.schema, **write_options(self._table))
            self._building = self._building.pop_all()
        return self

    def write(self, table: pa.Table, row_group_size: int | None = None) -> None:
        """Append rows, in row groups of `row_group_size`, by default in one row group."""
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
        """Delete the unfinished file."""
        with contextlib.suppress(OSError):  # on a full disk, closing writes what is buffered and fails again
            self._building.__exit__(type(error), error, error.__traceback__)


def is_sound(storage: Storage, file: FileEntry) -> bool:
    """Return whether a file exists and has the sha256 that was committed."""
    try:
        return storage.sha256(file.path) == file.sha256
    except OSError:
        return False


def open_parquet(storage: Storage, name: str) -> pq.ParquetFile:
    """Open a Parquet file of an atlas. Of a file on a store, only the ranges that are read are fetched.

    Raise OSError for a missing file, OSError or ArrowInvalid for one that is not Parquet.
    """
    if storage.root is not None:
        return pq.ParquetFile(storage.root / name)
    # pre_buffer: a few requests for all columns of a row group
    return pq.ParquetFile(storage.open(name), pre_buffer=True)
