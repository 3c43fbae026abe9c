"""The parent's side of the process that owns the device: starts it, sends it batches, and ends it if it hangs.

The child computes batches in the order in which they were sent. A second batch may be sent before the first is
answered, so that the device goes on without waiting for the parent.
"""

import contextlib
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.workers.link import POLL_SECONDS, Link
from foldatlas.pipeline.workers.messages import (
    Answer,
    DoesNotFit,
    Done,
    Message,
    NotFinite,
    NotReady,
    Ready,
    Request,
    Unexpected,
)
from foldatlas.pipeline.workers.results import Result, unpack
from foldatlas.pipeline.workers.wire import Arrays
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError, OutOfMemory, WorkerDied, WorkerTimeout
from foldatlas.schemas.records import Settings

# Arguments of the Python that the worker itself runs in.
CHILD: Final = ("-P", "-m", "foldatlas.pipeline.workers.child")
LOAD_SECONDS: Final = 1800.0  # for reading weights, perhaps over a slow network
MAX_IN_FLIGHT: Final = 2  # batches: one that the device computes, and one that waits for it

# A batch may take DEADLINE_FACTOR times what its cost predicts, plus a minute. Before anything was measured, here or on
# another device of the kind (WorkerSpec.mflop_per_second), the device is assumed to be slower than any in use.
MIN_DEADLINE_SECONDS: Final = 60.0
DEADLINE_FACTOR: Final = 10.0
SLOWEST_MFLOP_PER_SECOND: Final = {"cpu": 500.0, "cuda": 1_000_000.0}


class BatchError(FoldAtlasError):
    """The model could not compute a batch; the process that owns the device can go on."""


@dataclass(frozen=True)
class WorkerSpec:
    """What a child is started with.

    model: its name, or an absolute path.
    weights_dir: absolute path of the folder that is searched for the model first.
    command: the program and its first arguments, before those of child.py. Empty for CHILD with the worker's own
        Python, which may differ from the driver's.
    mflop_per_second: a speed that the device certainly reaches, if known: it decides the deadline of the first batches.
    """

    model: str
    settings: Settings
    device: str
    weights_dir: str | None = None
    command: tuple[str, ...] = ()
    min_deadline_seconds: float = MIN_DEADLINE_SECONDS
    mflop_per_second: float | None = None


@dataclass
class _Sent:
    """A batch that the child has and did not answer yet. Its results are not wanted once it is abandoned."""

    number: int
    sequences: list[str]
    cost: int
    time: float
    is_abandoned: bool = False


class Child:
    """The child process of one WorkerSpec, started when first needed and again after it ended.

    One user at a time sends it batches: with `compute` one batch, with `session` several.
    `busy_seconds` is the time that the device spent on batches that were answered: without loading, hangs and crashes.
    """

    def __init__(self, spec: WorkerSpec):
        self.busy_seconds = 0.0
        self.too_large_bytes = math.inf  # see Session
        self._answered = 0  # batches that the current process computed
        self._spec = spec
        self._link: Link | None = None
        self._mflop_per_second: float | None = None
        self._turn = threading.Lock()
        self._sent: deque[_Sent] = deque()  # to the current process
        self._numbers = 0
        self._last_answer = 0.0  # time of the current process's last message

    def compute(self, sequences: list[str], cost: int, **arguments: Any) -> list[Any]:
        """Return the child's result for each sequence of one batch, whose predicted cost is `cost` MFLOP.

        `arguments` are keyword arguments of the child's function. Raise as `Session.answer`.
        """
        with self.session() as session:
            session.submit(sequences, cost, **arguments)
            return session.answer()

    @contextlib.contextmanager
    def session(self) -> Iterator["Session"]:
        """Within the block, send batches to the child, of which the block is the only user.

        Some engines give one worker several shards at once: they take turns. Batches that are not answered at the end
        of the block are abandoned: the child computes them, and their results are dropped. Raise Interrupted if the run
        is to stop before it is this user's turn.
        """
        while not self._turn.acquire(timeout=POLL_SECONDS):
            raise_if_stopping()
        try:
            yield Session(self)
        finally:
            for sent in self._sent:
                sent.is_abandoned = True
            self._turn.release()

    def _submit(self, sequences: list[str], cost: int, arguments: dict[str, Any]) -> None:
        # A process that ended with batches in flight may have answered some of them: their answers are read first.
        link = self._link if self._in_flight() else None
        link = link or self._ensure_started()
        self._numbers += 1
        self._sent.append(_Sent(self._numbers, sequences, cost, time.monotonic()))
        with self._ended_by_errors():
            link.send(Request(self._numbers, sequences, arguments))

    def _in_flight(self) -> int:
        return sum(not sent.is_abandoned for sent in self._sent)

    def _answer(self) -> list[Result]:
        """Return the answer to the first batch that is not abandoned."""
        while self._sent[0].is_abandoned:
            self._next_answer()
        sent = self._sent[0]
        answer, arrays = self._next_answer()
        match answer:
            case Done(_, seconds):
                try:
                    results = unpack(sent.sequences, arrays)
                except (KeyError, ValueError) as error:
                    raise self._useless(f"its results cannot be read: {error}") from error
                measured = sent.cost / max(seconds, 1e-3)
                self._mflop_per_second = min(measured, self._mflop_per_second or measured)
                return results
            case DoesNotFit(reason=reason):
                raise OutOfMemory(reason)
            case NotFinite(reason=reason) | Unexpected(reason=reason):
                raise BatchError(reason)

    def _next_answer(self) -> tuple[Answer, Arrays]:
        """Return the answer to the batch that was sent first. The child has computed it since it was sent, or since the
        one before it was answered."""
        sent = self._sent[0]
        assumed = self._spec.mflop_per_second or SLOWEST_MFLOP_PER_SECOND[device_kind(self._spec.device)]
        allowed = self._spec.min_deadline_seconds + DEADLINE_FACTOR * sent.cost / (self._mflop_per_second or assumed)
        answer, arrays = self._receive(allowed, since=max(sent.time, self._last_answer))
        self._last_answer = time.monotonic()
        if not isinstance(answer, Answer) or answer.number != sent.number:
            raise self._useless(f"it did not answer batch {sent.number}, but sent {answer!r:.100}")
        self._sent.popleft()
        self.busy_seconds += answer.seconds
        self._answered += isinstance(answer, Done)
        if isinstance(answer, Unexpected) and self._spec.device.startswith("cuda"):
            # After an illegal address, or a memory error that cannot be corrected, CUDA refuses every further call of
            # the process: all proteins that follow would be blamed.
            raise self._useless(answer.reason)
        return answer, arrays

    def renew(self) -> bool:
        """End the process if it has computed a batch, so that the next batch has a fresh process.

        Return False if it has computed none, and so is fresh already.
        """
        with self.session() as session:
            return session.renew()

    def _renew(self) -> bool:
        if not self._answered:
            return False
        events.emit("child_renewed", level=events.WARNING, child=self.pid, batches=self._answered)
        self.kill()
        return True

    def _ensure_started(self) -> Link:
        if self._link is not None and self._link.is_running:
            return self._link
        try:
            try:
                link, answer = self._start()
            except WorkerDied:  # perhaps killed from outside: try again once
                link, answer = self._start()
        except (WorkerDied, WorkerTimeout) as error:
            # an error of the process, so no protein may be marked as failed
            raise ModelError(
                f"the process that owns the device did not start on {self._spec.device} ({error}; see also the lines "
                "above): correct that and run the same command again"
            ) from error
        match answer:
            case NotReady(reason):
                self.kill()
                raise ModelError(f"model {self._spec.model!r} could not be loaded on {self._spec.device}: {reason}")
            case Ready(settings) if settings != self._spec.settings:
                self.kill()
                raise ModelError(
                    f"the worker loaded {settings}, but the plan has {self._spec.settings}: install the same version"
                )
        return link

    def _start(self) -> tuple[Link, Ready | NotReady]:
        """Start a child and wait for its first message. Return both."""
        self.kill()
        began = time.monotonic()
        self._link = link = Link.started(self._command)
        answer, _ = self._receive(LOAD_SECONDS, since=began)
        if not isinstance(answer, Ready | NotReady):
            raise self._useless(f"it did not start with {Ready.__name__}, but with {answer!r:.100}")
        seconds = round(time.monotonic() - began, 3)
        device, ready = self._spec.device, isinstance(answer, Ready)
        events.emit("child_started", child=link.pid, device=device, ready=ready, seconds=seconds)
        return link, answer

    def _command(self, descriptor: int) -> list[str]:
        """Return the command line of a child that inherits `descriptor`."""
        spec, settings = self._spec, self._spec.settings
        command = [*(spec.command or (sys.executable, *CHILD)), str(descriptor), str(os.getpid())]
        tolerance = "" if settings.recycle_tolerance is None else repr(settings.recycle_tolerance)
        model = [spec.model, str(settings.recycles), tolerance, settings.precision]
        return [*command, *model, spec.device, spec.weights_dir or ""]

    def _receive(self, seconds: float, since: float) -> tuple[Message, Arrays]:
        """Return the next message, as `Link.receive`. The child is ended if that raises."""
        assert self._link is not None
        with self._ended_by_errors():
            return self._link.receive(seconds, since)

    @contextlib.contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """End the child if the block raises an error after which it cannot be used."""
        try:
            yield
        except (WorkerDied, WorkerTimeout, Interrupted):
            self.kill()
            raise

    def _useless(self, reason: str) -> WorkerDied:
        """End a child that cannot be used any more. Return the error to raise."""
        assert self._link is not None
        error = self._link.died(reason)
        self.kill()
        return error

    @property
    def pid(self) -> int | None:
        """The process id of the child, or None if there is no child."""
        return None if self._link is None else self._link.pid

    def kill_unless_used(self) -> None:
        """Kill the child, except within a session of another thread."""
        if self._turn.acquire(blocking=False):
            try:
                self.kill()
            finally:
                self._turn.release()

    def kill(self) -> None:
        """Kill the child and wait until the kernel has freed its memory and locks. Raise as `Link.kill`."""
        link, self._link = self._link, None
        self._answered = 0
        self._sent.clear()
        if link is not None:
            link.kill(self._spec.device)


class Session:
    """The use of a child by one user (`Child.session`): up to MAX_IN_FLIGHT batches at a time."""

    def __init__(self, child: Child):
        self._child = child

    @property
    def in_flight(self) -> int:
        """How many batches were sent and not answered."""
        return self._child._in_flight()

    @property
    def is_fresh(self) -> bool:
        """Whether the child's process has computed nothing yet, or is not started."""
        return not self._child._answered

    @property
    def too_large_bytes(self) -> float:
        """The least predicted memory, in bytes, of a batch that did not fit into a fresh process of this child."""
        return self._child.too_large_bytes

    @too_large_bytes.setter
    def too_large_bytes(self, value: float) -> None:
        self._child.too_large_bytes = value

    def submit(self, sequences: list[str], cost: int, **arguments: Any) -> None:
        """Send a batch, whose predicted cost is `cost` MFLOP. Start the child if there is none.

        `arguments` are keyword arguments of the child's function (FoldingStages.prepare, or LanguagePredictor.embed).
        Raise ModelError when the model cannot be loaded. If the child has ended, or accepts nothing, raise WorkerDied
        or WorkerTimeout: then nothing is in flight.
        """
        assert self.in_flight < MAX_IN_FLIGHT
        self._child._submit(sequences, cost, arguments)

    def answer(self) -> list[Any]:
        """Return the child's result for each sequence of the batch that was sent first.

        Raise OutOfMemory and BatchError with the child alive; WorkerDied and WorkerTimeout with the child ended, and
        nothing in flight; Interrupted when the run is to stop. On a GPU an unexpected error counts as a crash
        (WorkerDied).
        """
        return self._child._answer()

    def renew(self) -> bool:
        """As `Child.renew`; to be called while nothing is in flight."""
        assert not self.in_flight
        return self._child._renew()


_children: dict[WorkerSpec, Child] = {}
_lock = threading.Lock()


def child_of_this_process(spec: WorkerSpec) -> Child:
    """Return this process's child for `spec`, which is kept from one shard and Beam bundle to the next.

    Children of other specs, which an earlier run may have left, hold the device: they end if they are not in use.
    """
    with _lock:
        for other, child in _children.items():
            if other != spec:
                child.kill_unless_used()
        return _children.setdefault(spec, Child(spec))


def end_children() -> None:
    """End every child of this process, at the end of a run."""
    with _lock:
        for child in _children.values():
            child.kill()
        _children.clear()
