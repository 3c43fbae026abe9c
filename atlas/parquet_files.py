"""Parquet files of an atlas: written aside, digested while they are written, then given their name."""

import contextlib
import hashlib
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self, cast

import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.commit import hidden, sync_folder
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
        self.closed = True  # the owner closes the file itself, after fsync

    def readable(self) -> bool:
        return False

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False


class ParquetFile:
    """Context manager that writes one table of `schemas.tables` to `path`.

    Nothing is visible at `path` before the block ends without an error; then `entry` describes the file. `metadata`
    joins the schema's own (text to text). `table` chooses schema and encodings; `schema` another schema for it.
    """

    def __init__(
        self,
        root: Path,
        path: str,
        table: str,
        *,
        metadata: dict[str, str] | None = None,
        schema: pa.Schema | None = None,
    ):
        self._path = root / path
        self._relative = path
        self._table = table
        base = schema if schema is not None else TABLES[table]
        said = {key.decode(): value.decode() for key, value in (base.metadata or {}).items()}
        self.schema = base.with_metadata({**said, **(metadata or {})})
        self.rows = 0
        self.entry: FileEntry | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._temporary = hidden(self._path)
        self._file = self._temporary.open("xb")
        self._sink = _DigestingFile(self._file)
        # pyarrow's stubs know IO alone; its C++ side takes any object with these methods
        sink = pa.PythonFile(cast(IO[bytes], self._sink), mode="w")
        try:
            self._writer = pq.ParquetWriter(sink, self.schema, **write_options(self._table))
        except BaseException:
            self._abandon()
            raise
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
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                size = self._file.tell()
                self._file.close()
                os.replace(self._temporary, self._path)
                sync_folder(self._path.parent)
                self.entry = FileEntry(
                    path=self._relative, rows=self.rows, bytes=size, sha256=self._sink.digest.hexdigest()
                )
        finally:
            self._abandon()

    def _abandon(self) -> None:
        """Leaves nothing hidden behind; after success there is nothing."""
        self._temporary.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # on a full disk closing writes what is buffered, and fails again
            self._file.close()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
