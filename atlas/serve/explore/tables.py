"""The explorer's table of the index that is served: made in the background, and answers that are kept with it."""

import contextlib
import hashlib
import logging
import os
import shutil
import tempfile
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import duckdb

from foldatlas.atlas.serve.current import Served
from foldatlas.atlas.serve.explore.columns import ExploredColumn, explored_columns
from foldatlas.atlas.serve.explore.mask import MAX_ROWS, MaskSizes, mask_of
from foldatlas.atlas.serve.explore.regions import Polygon
from foldatlas.atlas.serve.explore.selected import Selected
from foldatlas.atlas.serve.explore.table import ExplorerTable, make_table
from foldatlas.atlas.serve.filters import Matching
from foldatlas.atlas.sql.text import first_line
from foldatlas.schemas.errors import FoldAtlasError, UsageError

WAIT_SECONDS: Final = 2.0  # of a request for the table of a new index
SECONDS_AFTER_FAILURE: Final = 60.0
PLACES: Final = 4  # requests of the explorer that run at a time
PLACE_SECONDS: Final = 20.0  # of a request for a place
KEPT_BYTES: Final = 64 << 20  # answers and masks of one index
ENTRY_BYTES: Final = 256  # of an answer that is kept, beside its bytes

_LOG: Final = logging.getLogger("foldatlas.serve")


class PreparingError(FoldAtlasError):
    """The explorer's table of an index is not ready, or busy. `seconds` is when to ask again."""

    def __init__(self, message: str, seconds: int):
        super().__init__(message)
        self.seconds = seconds


class Kept:
    """Answers that were asked for last, up to KEPT_BYTES; safe for several threads. Of keys, which can be longer than
    answers, digests are kept."""

    def __init__(self, size: int = KEPT_BYTES) -> None:
        self._size = self._left = size
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: Sequence[Any]) -> bytes | None:
        """Return what is kept for `key`, or None."""
        digest = _digest(key)
        with self._lock:
            if digest in self._values:
                self._values.move_to_end(digest)
            return self._values.get(digest)

    def keep(self, key: Sequence[Any], value: bytes) -> None:
        """Keep a value, in place of those that were not asked for longest."""
        digest = _digest(key)
        with self._lock:
            if digest not in self._values and len(value) + ENTRY_BYTES <= self._size:
                self._values[digest] = value
                self._left -= len(value) + ENTRY_BYTES
                while self._left < 0:
                    _, dropped = self._values.popitem(last=False)
                    self._left += len(dropped) + ENTRY_BYTES

    def get(self, key: Sequence[Any], make: Callable[[], bytes]) -> bytes:
        """Return what is kept for `key`, or `make()`, which is kept from then on."""
        found = self.find(key)
        if found is None:
            found = make()
            self.keep(key, found)
        return found


def _digest(key: Sequence[Any]) -> bytes:
    """Return the digest of a key of bytes and of what has a distinct `repr`."""
    found = hashlib.sha256()
    for part in key:
        data = part if isinstance(part, bytes) else repr(part).encode()
        found.update(b"%d:%d:" % (isinstance(part, bytes), len(data)))
        found.update(data)
    return found.digest()


class About:
    """What filters need to know of an index: its columns and the sizes of masks; and answers that are kept."""

    def __init__(self, served: Served):
        self.number = served.number
        self.columns: dict[str, ExploredColumn] = explored_columns(served)
        self.has_projection = bool(served.rows("SELECT 1 AS one FROM projection LIMIT 1"))
        self.sizes = MaskSizes.of(served)
        self.kept = Kept()

    def condition(self, served: Served, table: ExplorerTable, selected: Selected) -> tuple[str, list[Any]]:
        """Return a filter as a condition on the explorer's table, and its parameters."""
        return selected.fast(partial(self._mask, served), partial(self._near, table))

    def _near(self, table: ExplorerTable, polygon: Polygon) -> bytes:
        """Return the mask of `records` of the points near the edges of a polygon that are inside."""
        key = ("near", polygon.grid.cell, polygon.corners)
        return self.kept.get(key, lambda: table.near(polygon, self.sizes.records))

    def _mask(self, served: Served, condition: str, of_records: bool) -> bytes:
        """Return the mask of SQL of our own, on columns of `records` or of `scores`."""
        self.check_size()
        return self.kept.get(
            ("mask", condition, of_records), lambda: mask_of(served, self.sizes, condition, of_records=of_records)
        )

    def matching(self, table: ExplorerTable, condition: str, parameters: Sequence[Any], of_records: bool) -> Matching:
        """Return the proteins that meet a condition on the explorer's table."""
        self.check_size()

        def rows(row: str, bits: int) -> bytes:
            def found() -> bytes:
                sql = f"SELECT bitstring_agg({row}, 0, {bits - 1})::BLOB FROM proteins WHERE {condition}"
                [(value,)] = table.execute(sql, parameters).fetchall()
                return bytes(bits // 8) if value is None else bytes(value)

            return self.kept.get(("matching", row, condition, *parameters), found)

        return Matching(rows("score_row", self.sizes.scores), rows("key", self.sizes.records) if of_records else None)

    def check_size(self) -> None:
        """Raise FoldAtlasError if the index has more rows than a mask can have."""
        if max(self.sizes.scores, self.sizes.records) > MAX_ROWS:
            raise UsageError(f"these conditions work up to {MAX_ROWS:,} records: use POST /v1/sql")


class Explorer:
    """Tables of the indexes that are served, the newest alone. Use it from any thread; `close` it at the end."""

    def __init__(self, memory_limit: str | None = None):
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._about: About | None = None
        self._table: ExplorerTable | None = None
        self._making: int | None = None  # the number of the index
        self._made = threading.Event()
        self._begun = 0.0
        self._failed: tuple[int, float, str] | None = None  # number of the index, time, reason
        self._connection: Any = None
        self._folder: Path | None = None
        self._closed = False
        self._places = threading.BoundedSemaphore(PLACES)

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Wait for one of the places for requests that run at a time. Raise PreparingError if it takes too long."""
        if not self._places.acquire(timeout=PLACE_SECONDS):
            raise PreparingError("the explorer is busy with other requests", 5)
        try:
            yield
        finally:
            self._places.release()

    def about(self, served: Served) -> About:
        """Return what filters need to know of an index."""
        with self._lock:
            if self._about is None or self._about.number != served.number:
                self._about = About(served)
            return self._about

    def table(self, served: Served, wait: float | None = None) -> ExplorerTable:
        """Return the table of an index. Raise PreparingError if it is not made within `wait` seconds."""
        made = self.begin(served)
        if made is not None:
            made.wait(WAIT_SECONDS if wait is None else wait)
        with self._lock:
            if self._table is not None and self._table.number == served.number:
                return self._table
            if self._failed is not None and self._failed[0] == served.number:
                raise PreparingError(f"the explorer's table cannot be made: {self._failed[2]}", 60)
            seconds = time.monotonic() - self._begun
        raise PreparingError(
            f"the explorer reads the index for the first time, since {seconds:.0f} s; 10 million proteins take about "
            "a minute",
            2,
        )

    def begin(self, served: Served) -> threading.Event | None:
        """Begin to make the table of an index unless it exists, and return the event of its end."""
        with self._lock:
            if self._closed or (self._table is not None and self._table.number == served.number):
                return None
            if self._making is not None:
                return self._made
            failed = self._failed
            is_late = failed is None or time.monotonic() >= failed[1] + SECONDS_AFTER_FAILURE
            if failed is not None and failed[0] == served.number and not is_late:
                return None
            self._begun = time.monotonic()
            try:
                folder = self._new_folder()
                index = _copy_of(served.file, folder / f"{served.number}.index")
            except OSError as error:
                self._failed = served.number, time.monotonic(), f"no temporary file ({error.strerror})"
                return None
            self._making, self._made = served.number, threading.Event()
            threading.Thread(target=self._make, args=(served, folder, index, self._made), daemon=True).start()
            return self._made

    def _new_folder(self) -> Path:
        """Return the folder of tables, which is deleted with this object."""
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="foldatlas-explore-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder

    def _make(self, served: Served, folder: Path, index: Path, made: threading.Event) -> None:
        file = folder / f"{served.number}.duckdb"
        table, reason = None, ""
        try:
            table = make_table(
                served, index, self.about(served).columns, file, self._memory_limit, self._connected
            )  # fmt: skip
        except (duckdb.Error, FoldAtlasError, OSError) as error:
            reason = first_line(error)
            _LOG.error("the explorer's table cannot be made: %s", reason)
        except Exception as error:
            reason = "an unexpected error; the operator's log has the traceback"
            _LOG.error("the explorer's table cannot be made", exc_info=error)
        finally:
            index.unlink(missing_ok=True)
        with self._lock:
            old, self._connection = None, None
            if table is not None and not self._closed:
                old, self._table, self._failed = self._table, table, None
            elif table is not None:
                old = table
            else:
                self._failed = served.number, time.monotonic(), reason
            self._making = None
        if old is not None:
            old.close()
        made.set()
        if table is not None:
            _LOG.info("the explorer's table was made in %.1f s", time.monotonic() - self._begun)

    def _connected(self, connection: Any) -> None:
        with self._lock:
            self._connection = connection

    def close(self) -> None:
        """Stop making a table, and delete all files."""
        with self._lock:
            self._closed = True
            making = self._making is not None
        deadline = time.monotonic() + 10
        while making and not self._made.wait(0.1) and time.monotonic() < deadline:
            with self._lock:
                if self._connection is not None:
                    self._connection.interrupt()
        with self._lock:
            if self._table is not None:
                self._table.close()
                self._table = None
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
                self._folder = None


def _copy_of(index: Path, copy: Path) -> Path:
    """Return `copy`, a link or a copy of an index: that may be replaced, and its file deleted, meanwhile."""
    try:
        os.link(index, copy)
    except OSError:
        shutil.copyfile(index, copy)
    return copy
