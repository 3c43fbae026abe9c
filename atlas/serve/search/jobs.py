"""The queue of searches: a bounded number waits, a few run, each in a process of its own, and results expire.

Jobs are known by random names alone and are not listed. Nothing of a query is logged or kept after its search.
"""

import contextlib
import copy
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self

from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.search.documents import DOCUMENT, SearchDatabase, read_database
from foldatlas.atlas.serve.search.processes import SearchProcess
from foldatlas.atlas.serve.search.requests import Embedding, Failed, Found, Job, Sequence, Structure
from foldatlas.atlas.serve.search.results import described, encoded
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError

State = Literal["waiting", "running", "done", "failed", "cancelled"]

_LOG: Final = logging.getLogger("foldatlas.serve")
_CANCELLED: Final = Failed("cancelled", "the search was cancelled")


@dataclass(frozen=True)
class SearchLimits:
    """Limits of searches. Times are in seconds, sizes in bytes.

    `running` searches run at a time, `waiting` wait, `per_client` of one address run or wait. A search is stopped after
    `seconds`. Results are kept for `keep_seconds`, and no more than `kept` searches of `kept_hits` hits altogether.
    """

    running: int = 2
    waiting: int = 50
    per_client: int = 8
    seconds: float = 300
    keep_seconds: float = 3_600
    kept: int = 1_000
    kept_hits: int = 100_000
    threads: int = 1
    memory_bytes: int = 2 << 30
    temporary_bytes: int = 1 << 30
    sequence_residues: int = 10_000
    structure_residues: int = 3_000


class TooManySearches(FoldAtlasError):
    """No more searches are accepted now; of this client, if `of_client`."""

    def __init__(self, message: str, *, of_client: bool = False):
        super().__init__(message)
        self.of_client = of_client


class NoDatabase(FoldAtlasError):
    """The atlas has no search database, or none that has what a search needs."""


@dataclass(eq=False)
class Search:
    """A search and its result. Its fields are read and changed under the lock of `Searches`."""

    name: str
    kind: str
    client: str
    created: datetime
    state: State = "waiting"
    phase: str | None = None
    fraction: float = 0.0
    reason: str | None = None
    detail: str | None = None
    exact: str | None = None
    query_length: int | None = None
    searched: int | None = None
    is_current: bool = True
    hits: list[bytes] = field(default_factory=list, repr=False)
    ended: float | None = None
    seconds: float | None = None
    query: Sequence | Structure | Embedding | None = field(default=None, repr=False)
    limit: int = 0
    process: SearchProcess | None = field(default=None, repr=False)


class Searches:
    """The searches of a server. Use it as a context manager, so that its processes end and their files are deleted.

    `root` is the folder of the search database. `on_end` is called with the kind, the state and the seconds of each
    search that ends. `clock` gives the seconds by which results expire.
    """

    def __init__(
        self,
        current: CurrentAtlas,
        root: Path,
        limits: SearchLimits | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ):
        self.limits = limits if limits is not None else SearchLimits()
        self.root = root
        self.on_end: Callable[[str, str, float], None] = lambda kind, state, seconds: None
        self._current = current
        self._clock = clock
        self._lock = threading.Condition()
        self._jobs: dict[str, Search] = {}  # in the order in which they were made
        self._waiting: deque[Search] = deque()
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._spares: dict[bool, SearchProcess] = {}
        self._document: tuple[tuple[int, int, int], SearchDatabase] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self) -> None:
        """Start the processes of the first searches, if there is a search database. Where numba has not compiled the
        kernels yet, this takes one of them minutes."""
        with contextlib.suppress(NoDatabase, DamagedAtlasError, OSError):
            if self.database().structures:
                for warm in (False, True):
                    self._spares[warm] = SearchProcess(warm=warm)

    def close(self) -> None:
        """Stop all searches, and end their processes."""
        with self._lock:
            self._closing = True
            for job in self._jobs.values():
                if job.process is not None:
                    job.process.stop(_CANCELLED)
            self._lock.notify_all()
        for thread in self._threads:
            thread.join()
        for process in self._spares.values():
            process.close()

    def database(self) -> SearchDatabase:
        """Return the document of the search database. Raise NoDatabase, DamagedAtlasError."""
        try:
            status = (self.root / DOCUMENT).stat()
        except FileNotFoundError:
            raise NoDatabase(
                "the atlas has no search database: the operator makes one with `foldatlas index --search`"
            ) from None
        except OSError as error:
            raise DamagedAtlasError(f"{self.root / DOCUMENT} cannot be read: {error}") from error
        identity = (status.st_ino, status.st_size, status.st_mtime_ns)
        if self._document is None or self._document[0] != identity:
            document = read_database(self.root)
            if document is None:
                raise NoDatabase("the search database was deleted")
            self._document = identity, document
        return self._document[1]

    def is_current(self, database: SearchDatabase) -> bool:
        """Return whether a search database has what the index has that is served now."""
        with self._current.use() as served:
            [row] = served.rows("SELECT contents FROM settings")
            return bool(row["contents"] == database.contents)

    def submit(
        self, query: Sequence | Structure | Embedding, *, limit: int, client: str = "", exact: str | None = None
    ) -> Search:
        """Add a search to the queue. Raise TooManySearches, NoDatabase, DamagedAtlasError."""
        database = self.database()
        if not database.structures:
            raise NoDatabase("the search database is empty: the operator runs `foldatlas index --search`")
        if isinstance(query, Embedding) and not database.embeddings:
            raise NoDatabase(
                "the search database has no embeddings: the operator folds with --embeddings mean, then runs "
                "`foldatlas index --search`"
            )
        kind = type(query).__name__.lower()
        current = self.is_current(database)
        with self._lock:
            self._expire()
            active = [job for job in self._jobs.values() if job.state in ("waiting", "running")]
            if len(self._waiting) >= self.limits.waiting:
                raise TooManySearches("too many searches are waiting")
            if sum(job.client == client for job in active) >= self.limits.per_client:
                raise TooManySearches(
                    f"{self.limits.per_client} searches of this address wait or run: wait for them, or cancel some",
                    of_client=True,
                )
            job = Search(
                secrets.token_urlsafe(24), kind, client, datetime.now(UTC), exact=exact, is_current=current,
                query=query, limit=limit,
            )  # fmt: skip
            self._jobs[job.name] = job
            self._waiting.append(job)
            if len(self._threads) < self.limits.running:
                self._threads.append(threading.Thread(target=self._run, name="foldatlas-search"))
                self._threads[-1].start()
            self._lock.notify()
            return job

    def get(self, name: str) -> Search | None:
        """Return a copy of a search, None if there is none of this name or it has expired."""
        with self._lock:
            self._expire()
            job = self._jobs.get(name)
            return copy.copy(job)

    def cancel(self, name: str) -> bool:
        """Stop a search and delete its result. Return whether there is one of this name."""
        with self._lock:
            self._expire()
            job = self._jobs.get(name)
            if job is None:
                return False
            if job.state == "waiting":
                self._waiting.remove(job)
            if job.process is not None:
                job.process.stop(_CANCELLED)
            if job.ended is None:
                self._end(job, "cancelled")
            job.state, job.hits = "cancelled", []
            return True

    def expires(self, job: Search) -> datetime | None:
        """Return when the result of a search is deleted at the latest; None before it has ended."""
        if job.ended is None:
            return None
        return datetime.now(UTC) + timedelta(seconds=self.limits.keep_seconds - (self._clock() - job.ended))

    def counts(self) -> dict[str, int]:
        """Return the number of searches that wait and that run."""
        with self._lock:
            states = [job.state for job in self._jobs.values()]
            return {state: states.count(state) for state in ("waiting", "running")}

    def _expire(self) -> None:
        """Forget results that are too old or too many, the oldest first."""
        ended = [job for job in self._jobs.values() if job.ended is not None]
        hits = sum(len(job.hits) for job in ended)
        excess = len(ended) - self.limits.kept
        for job in sorted(ended, key=lambda job: job.ended or 0.0):
            is_old = self._clock() - (job.ended or 0.0) >= self.limits.keep_seconds
            if not is_old and excess <= 0 and hits <= self.limits.kept_hits:
                break
            del self._jobs[job.name]
            hits -= len(job.hits)
            excess -= 1

    def _run(self) -> None:
        """Run searches one after another until the server ends. Each runner is a thread."""
        while True:
            with self._lock:
                while not self._waiting and not self._closing:
                    self._lock.wait()
                if self._closing:
                    return
                job = self._waiting.popleft()
                job.state, job.phase = "running", "starting"
            begin = time.monotonic()
            result = self._search(job)
            try:
                rows = self._described(result)
            except (FoldAtlasError, OSError) as error:
                _LOG.error("the hits of a search cannot be looked up: %s", error)
                result, rows = Failed("failed", "the index cannot be read"), []
            with self._lock:
                job.process, job.query = None, None
                job.seconds = time.monotonic() - begin
                if job.ended is None:
                    if isinstance(result, Found):
                        job.hits, job.query_length, job.searched = rows, result.query_length or None, result.searched
                        job.fraction = 1.0
                        self._end(job, "done")
                    else:
                        job.reason, job.detail = result.reason, result.detail
                        self._end(job, "failed")

    def _end(self, job: Search, state: State) -> None:
        job.state, job.phase, job.query = state, None, None
        job.ended = self._clock()
        self.on_end(job.kind, state, job.seconds or 0.0)

    def _search(self, job: Search) -> Found | Failed:
        """Run a search in its process."""
        try:
            process = self._process(job)
        except OSError as error:
            _LOG.error("the process of a search cannot be started: %s", error)
            return Failed("failed", "the process of the search cannot be started")
        timer = threading.Timer(
            self.limits.seconds,
            process.stop,
            [Failed("timeout", f"the search was stopped after {self.limits.seconds:g} s")],
        )
        timer.start()
        try:
            query, limits = job.query, self.limits
            if query is None:  # cancelled
                return _CANCELLED

            def report(phase: str, fraction: float) -> None:
                job.phase, job.fraction = phase, fraction

            return process.run(
                Job(
                    query=query, root=str(self.root), temporary=str(process.temporary), limit=job.limit,
                    threads=limits.threads, max_residues=limits.structure_residues, memory_bytes=limits.memory_bytes,
                    processor_seconds=int(limits.seconds * (limits.threads + 1)) + 5,
                    temporary_bytes=limits.temporary_bytes,
                ),
                report,
            )  # fmt: skip
        finally:
            timer.cancel()
            process.close()

    def _process(self, job: Search) -> SearchProcess:
        """Return a process that waits, or a new one, and start the next that waits."""
        warm = job.kind != "sequence"
        with self._lock:
            process = self._spares.pop(warm, None)
            if not self._closing:
                self._spares[warm] = SearchProcess(warm=warm)
        if process is not None and not process.is_alive:
            process.close()
            process = None
        process = process or SearchProcess(warm=warm)
        with self._lock:
            if job.ended is None and not self._closing:
                job.process = process
            else:
                process.stop(_CANCELLED)
        return process

    def _described(self, result: Found | Failed) -> list[bytes]:
        if not isinstance(result, Found):
            return []
        with self._current.use() as served:
            return encoded(described(served, result.hits))
