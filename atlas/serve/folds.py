"""Folding on demand: a bounded queue, one protein at a time, and results that expire.

What is folded belongs to the person who asked: jobs are known by random names alone and are not listed, sequences and
structures are neither logged nor stored in a file, and nothing enters the atlas. Equal sequences are folded once.
"""

import queue
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Literal, Protocol, Self

from foldatlas.atlas.writers.chains import Structure
from foldatlas.atlas.writers.structure_files import structure_writer
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.records import structure_id

_NAME_BYTES: Final = 24  # of randomness in the name of a job
_END: Final = None  # in the queue: the thread ends
_STOP_SECONDS: Final = 10.0


class FoldedStructure(Structure, Protocol):
    """What folding returns."""

    @property
    def ptm(self) -> float: ...
    @property
    def mean_plddt(self) -> float: ...


class CannotFold(FoldAtlasError):
    """The model gives no structure for this sequence, now and later."""


class FoldingFailed(FoldAtlasError):
    """The process that folds ended, or cannot be started."""


class QueueFull(FoldAtlasError):
    """Too many sequences wait."""


@dataclass(frozen=True)
class FoldLimits:
    """Limits of folding on demand.

    `length` in residues; `waiting` sequences in the queue, `per_client` of them of one address; results are kept for
    `keep_seconds`, and no more than `keep_bytes` of positions and pLDDT; `jobs` are known at a time.
    """

    length: int = 400
    waiting: int = 20
    per_client: int = 5
    keep_seconds: float = 3_600
    keep_bytes: int = 64 << 20
    jobs: int = 2_000


@dataclass(eq=False)
class Work:
    """One sequence that is folded, for all jobs that ask for it."""

    sequence: str
    client: str
    result: "Future[FoldedStructure]" = field(default_factory=Future)
    wanted_by: int = 0
    ended: float | None = None

    @property
    def bytes(self) -> int:
        """Memory of the result."""
        if not self.result.done() or self.result.cancelled() or self.result.exception() is not None:
            return 0
        structure = self.result.result()
        return int(structure.positions.nbytes + structure.plddt.nbytes)


@dataclass(frozen=True, eq=False)
class FoldJob:
    """A request to fold. Without `work` the structure is in the atlas already."""

    name: str
    structure_id: bytes
    length: int
    created: float
    work: Work | None

    @property
    def state(self) -> Literal["waiting", "running", "done", "failed", "cancelled"]:
        if self.work is None:
            return "done"
        result = self.work.result
        if result.cancelled():
            return "cancelled"
        if result.done():
            return "failed" if result.exception() is not None else "done"
        return "running" if result.running() else "waiting"


class Folds:
    """Folds sequences one after another in a thread. Use it as a context manager.

    `fold` returns the structure of a sequence, or raises CannotFold or FoldingFailed; `stop` ends it from another
    thread. `model` is named in files.
    """

    def __init__(
        self,
        fold: Callable[[str], FoldedStructure],
        model: str,
        limits: FoldLimits | None = None,
        stop: Callable[[], None] = lambda: None,
    ):
        self.model = model
        self.limits = limits if limits is not None else FoldLimits()
        self._fold = fold
        self._stop = stop
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Work | None] = queue.SimpleQueue()
        self._works: OrderedDict[bytes, Work] = OrderedDict()  # by structure_id, the one used last at the end
        self._jobs: OrderedDict[str, FoldJob] = OrderedDict()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="foldatlas-folds", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._lock:
            self._closed = True
            for work in self._works.values():
                work.result.cancel()
        self._queue.put(_END)
        self._stop()
        self._thread.join(_STOP_SECONDS)
        self._stop()  # what was started meanwhile

    def submit(self, sequence: str, client: str, is_in_atlas: bool = False) -> FoldJob:
        """Return a new job for a sequence of upper-case residue codes. Raise QueueFull."""
        with self._lock:
            self._expire()
            identity = structure_id(sequence)
            work = None if is_in_atlas else self._work(identity, sequence, client)
            job = FoldJob(secrets.token_urlsafe(_NAME_BYTES), identity, len(sequence), time.monotonic(), work)
            self._jobs[job.name] = job
            return job

    def get(self, name: str) -> FoldJob | None:
        """Return a job, or None if there is none of this name or it expired."""
        with self._lock:
            self._expire()
            return self._jobs.get(name)

    def position(self, job: FoldJob) -> int:
        """Return how many sequences are folded before that of a waiting job."""
        with self._lock:
            unfinished = [work for work in self._works.values() if not work.result.done()]
            return unfinished.index(job.work) if job.work in unfinished else 0

    def cancel(self, job: FoldJob) -> None:
        """Forget a job. Its sequence is taken off the queue if no other job wants it."""
        with self._lock:
            if self._jobs.pop(job.name, None) is not None and job.work is not None:
                job.work.wanted_by -= 1
                if not job.work.wanted_by:
                    job.work.result.cancel()  # has no effect on one that runs
                    self._expire()

    def file(self, structure: FoldedStructure, format: str) -> bytes:
        """Return a structure as a file in a format of `contents.FORMATS`."""
        with structure_writer(format) as write:
            return write(
                structure, name="folded on demand", model=self.model, mean_plddt=structure.mean_plddt, ptm=structure.ptm
            )

    def _work(self, identity: bytes, sequence: str, client: str) -> Work:
        """Return the work on a sequence: one that exists, or a new one in the queue."""
        found = self._works.get(identity)
        if found is None:
            waiting = [work for work in self._works.values() if not work.result.done() and not work.result.running()]
            if self._closed or len(waiting) >= self.limits.waiting:
                raise QueueFull("too many sequences wait to be folded")
            if sum(work.client == client for work in waiting) >= self.limits.per_client:
                raise QueueFull(f"{self.limits.per_client} sequences of this address wait to be folded")
            found = self._works[identity] = Work(sequence, client)
            self._queue.put(found)
        elif found.result.done():
            self._works.move_to_end(identity)
        found.wanted_by += 1
        return found

    def _expire(self) -> None:
        """Forget old results, failures and cancelled work, and the oldest results beyond the limit of bytes."""
        now = time.monotonic()
        for identity, work in list(self._works.items()):
            is_useless = work.result.cancelled() or (work.result.done() and work.result.exception() is not None)
            is_old = work.ended is not None and now - work.ended > self.limits.keep_seconds
            if is_useless or is_old:
                del self._works[identity]
        kept = sum(work.bytes for work in self._works.values())
        for identity, work in list(self._works.items()):
            if kept <= self.limits.keep_bytes:
                break
            if size := work.bytes:
                kept -= size
                del self._works[identity]
        known = set(map(id, self._works.values()))
        for name, job in list(self._jobs.items()):
            is_gone = job.work is not None and job.state == "done" and id(job.work) not in known
            is_surplus = len(self._jobs) > self.limits.jobs
            if is_gone or is_surplus or now - job.created > 2 * self.limits.keep_seconds:
                del self._jobs[name]

    def _run(self) -> None:
        while (work := self._queue.get()) is not _END:
            if not work.result.set_running_or_notify_cancel():
                continue
            try:
                structure = self._fold(work.sequence)
            except FoldAtlasError as error:
                work.result.set_exception(error)
            except Exception as error:  # the thread goes on with the next
                work.result.set_exception(FoldingFailed(type(error).__name__))
            else:
                work.result.set_result(structure)
            work.ended = time.monotonic()
