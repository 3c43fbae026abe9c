"""The atlas that is served, with the index that is published now.

`foldatlas index` replaces an index by renaming; a process that has the old one open keeps reading it. Each request
takes the atlas with `use()`: if another index was published, it is opened first, and requests that began with the old
one finish with it. DuckDB opens a file of one name once per process, even if it was replaced, so each index is opened
under a name of its own: a hard link, or a copy where links are not possible.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.published import LocalIndex, PublishedIndex, index_of
from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.errors import FoldAtlasError, NotAnAtlasError

SECONDS_BETWEEN_LOOKS: Final = 0.2  # at a file
SECONDS_BETWEEN_FETCHES: Final = 30.0  # of the pointer on a store
SECONDS_AFTER_FAILURE: Final = 5.0  # until an index that cannot be opened is tried again

_LOG: Final = logging.getLogger("foldatlas.serve")


class Served:
    """An atlas with one of its indexes. `number` counts the indexes that this process opened."""

    def __init__(self, atlas: Atlas, number: int, file: Path):
        self.atlas = atlas
        self.number = number
        self.file = file  # of this index alone, until it is closed
        self._threads = threading.local()
        self._lock = threading.Lock()
        [counts] = self.rows(
            "SELECT indexed, (SELECT count(*) FROM scores) AS structures, "
            "(SELECT count(*) FROM records WHERE state = 'folded' AND NOT superseded) AS proteins FROM settings"
        )
        self.indexed: str = counts["indexed"]
        self.num_structures: int = counts["structures"]
        self.num_proteins: int = counts["proteins"]
        tables = self.rows("SELECT table_name FROM duckdb_tables() WHERE table_name = 'folded_records'")
        # Relation of the records of `proteins`: a table by structure_id, which indexes of older programs lack.
        self.folded_records = "folded_records" if tables else "(FROM records WHERE state = 'folded' AND NOT superseded)"

    def cursor(self) -> Any:
        """Return this thread's connection to the index."""
        if not hasattr(self._threads, "cursor"):
            self._threads.cursor = self.new_cursor()
        return self._threads.cursor

    def new_cursor(self) -> Any:
        """Return a new connection to the index, with temporary tables of its own."""
        with self._lock:  # DuckDB raises if two threads make one at the same time
            return self.atlas.cursor("")

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a statement by name of their columns."""
        found = self.cursor().execute(sql, list(parameters))
        names = [column[0] for column in found.description]
        singles = [number for number, column in enumerate(found.description) if str(column[1]) == "FLOAT"]
        rows = []
        for row in map(list, found.fetchall()):
            for number in singles:  # 0.7, not 0.699999988079071
                row[number] = None if row[number] is None else float(str(np.float32(row[number])))
            rows.append(dict(zip(names, row, strict=True)))
        return rows

    def schema(self) -> list[dict[str, Any]]:
        """Return what SQL sees, as `Atlas.schema`."""
        with self._lock:
            described = self.atlas.schema()
            return [dict(zip(described.columns, row, strict=True)) for row in described.rows()]

    def close(self) -> None:
        """Close the index and delete its file. Cursors of other threads keep what they read."""
        self.atlas.close()
        self.file.unlink(missing_ok=True)


class CurrentAtlas:
    """The atlas at `path` with its published index. Use it as a context manager, so that its files are deleted."""

    def __init__(self, path: str | Path, memory_limit: str | None = None):
        self._path = path
        self.memory_limit = memory_limit
        self._folder = AtlasFolder.existing(path).resolved()
        self._index: PublishedIndex = index_of(self._folder)
        self._is_local = isinstance(self._index, LocalIndex)
        self._temporary = tempfile.TemporaryDirectory(prefix="foldatlas-serve-")
        self._lock = threading.Lock()
        self._users: dict[int, int] = {}
        self._opened = 0
        self._looked = time.monotonic()
        self.problem: str | None = None  # why the published index is not the one that is served
        try:
            self._identity = self._published()
            self._served = self._open()
        except BaseException:
            self._temporary.cleanup()
            raise

    @property
    def folder(self) -> AtlasFolder:
        return self._folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the index and delete its file."""
        self._served.close()
        self._temporary.cleanup()

    @contextlib.contextmanager
    def use(self) -> Iterator[Served]:
        """Yield the atlas with the index that is published now; it stays open until the block ends."""
        served = self.acquire()
        try:
            yield served
        finally:
            self.release(served)

    def acquire(self) -> Served:
        """Return the atlas as `use()` does, to be given back with `release`."""
        with self._lock:
            if time.monotonic() - self._looked >= (
                SECONDS_BETWEEN_LOOKS if self._is_local else SECONDS_BETWEEN_FETCHES
            ):
                self._renew()
            self._users[self._served.number] = self._users.get(self._served.number, 0) + 1
            return self._served

    def release(self, served: Served) -> None:
        """Give back what `acquire` returned. The last user of a replaced index closes it."""
        with self._lock:
            self._users[served.number] -= 1
            if served is not self._served and not self._users[served.number]:
                del self._users[served.number]
                served.close()

    def look(self) -> None:
        """Look for a new index at the next request."""
        self._looked = -SECONDS_BETWEEN_FETCHES

    def _renew(self) -> None:
        """Open the published index if it is not the one that is served. If that fails, the old one stays."""
        self._looked = time.monotonic()
        try:
            identity = self._published()
            if identity == self._identity:
                self.problem = None
                return
            new = self._open()
        except (FoldAtlasError, OSError) as error:
            self._looked += SECONDS_AFTER_FAILURE
            if self.problem is None:
                _LOG.warning("the new index cannot be opened, the old one is served: %s", error)
            self.problem = "the published index cannot be opened; an older one is served"
            return
        old, self._served, self._identity, self.problem = self._served, new, identity, None
        if not self._users.get(old.number):
            self._users.pop(old.number, None)
            old.close()
        _LOG.info("index %d is served: %d structures", new.number, new.num_structures)

    def _published(self) -> tuple[Any, ...]:
        """Return what identifies the published index."""
        if self._is_local:
            try:
                status = self._index.local_path().stat()
            except FileNotFoundError:
                raise NotAnAtlasError(f"{self._path} has no index yet: run `foldatlas index {self._path}`") from None
            return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
        return (self._index.local_path().name,)

    def _open(self) -> Served:
        self._opened += 1
        file = Path(self._temporary.name) / f"{self._opened}.duckdb"
        published = self._index.local_path()
        try:
            os.link(published.resolve(), file)
        except OSError:  # another file system, or one without links
            shutil.copyfile(published, file)
        return Served(Atlas.open(self._path, memory_limit=self.memory_limit, index=file), self._opened, file)
