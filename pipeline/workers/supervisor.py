"""The parent's side of the process that owns the device: starts it, sends it batches, and ends it if it hangs."""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import stopping
from foldatlas.pipeline.workers.messages import (
    Answer,
    DoesNotFit,
    Done,
    NotFinite,
    NotReady,
    Ready,
    Request,
    Unexpected,
)
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError, OutOfMemory, WorkerDied, WorkerTimeout
from foldatlas.schemas.records import Settings

CHILD: Final = (
    "-P",
    "-m",
    "foldatlas.pipeline.workers.child",
)  # arguments of the Python that the worker itself runs in
# Threads that wait for each other by spinning lose whole time slices as soon as another program runs on the machine: a
# 150-residue protein took 9.8 s instead of 0.7 s on two busy cores (docs/log.md).
CHILD_ENVIRONMENT: Final = {"OMP_WAIT_POLICY": "passive"}
LOAD_SECONDS: Final = 1800.0  # for reading weights, perhaps over a slow network
_POLL_SECONDS: Final = 0.2  # between two looks at the clock and at the stop flag, while waiting for an answer
STALL_SECONDS: Final = 20.0  # the child hangs if a message stops halfway, in either direction, for so long
END_SECONDS: Final = 60.0  # a killed process that has not ended after that is blocked in a device driver

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


class Child:
    """The child process of one WorkerSpec, started when first needed and again after it ended.

    Some engines give one worker several shards at once; their batches take turns, since there is one device.
    `busy_seconds` is the time spent on batches that were answered: without loading, hangs and crashes.
    """

    def __init__(self, spec: WorkerSpec):
        self.busy_seconds = 0.0
        self._answered = 0  # batches that the current process computed
        self._spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._mflop_per_second: float | None = None
        self._turn = threading.Lock()

    def compute(self, sequences: list[str], cost: int, **arguments: Any) -> list[Any]:
        """Return the child's result for each sequence of one batch, whose predicted cost is `cost` MFLOP.

        `arguments` are keyword arguments of the child's function (Predictor.fold_batch, or LanguagePredictor.embed).
        Raise OutOfMemory and BatchError with the child alive; WorkerDied and WorkerTimeout with the child ended;
        Interrupted when the run is to stop; ModelError when the model cannot be loaded. On a GPU an unexpected error
        counts as a crash (WorkerDied).
        """
        with self._turn:
            return self._compute(sequences, cost, arguments)

    def _compute(self, sequences: list[str], cost: int, arguments: dict[str, Any]) -> list[Any]:
        connection = self._ensure_started()
        assumed = self._spec.mflop_per_second or SLOWEST_MFLOP_PER_SECOND[device_kind(self._spec.device)]
        rate = self._mflop_per_second or assumed
        started = time.monotonic()
        try:
            connection.send(Request(sequences, arguments))
        except BlockingIOError:
            self.kill()
            raise WorkerTimeout(f"it accepted no work for {STALL_SECONDS:.0f} s") from None
        except OSError:
            raise self._death() from None
        answer: Answer = self._wait(self._spec.min_deadline_seconds + DEADLINE_FACTOR * cost / rate)
        seconds = time.monotonic() - started
        self.busy_seconds += seconds
        match answer:
            case Done(results):
                measured = cost / max(seconds, 1e-3)
                self._mflop_per_second = min(measured, self._mflop_per_second or measured)
                self._answered += 1
                return results
            case DoesNotFit(reason):
                raise OutOfMemory(reason)
            case Unexpected(reason) if self._spec.device.startswith("cuda"):
                # After an illegal address, or a memory error that cannot be corrected, CUDA refuses every further call
                # of the process: all proteins that follow would be blamed.
                raise self._death(reason)
            case NotFinite(reason) | Unexpected(reason):
                raise BatchError(reason)

    def renew(self) -> bool:
        """End the process if it has computed a batch, so that the next batch has a fresh process.

        Return False if it has computed none, and so is fresh already.
        """
        with self._turn:
            if not self._answered:
                return False
            events.emit("child_renewed", level=events.WARNING, child=self.pid, batches=self._answered)
            self.kill()
            return True

    def _ensure_started(self) -> Connection:
        if self._connection is not None and self._process is not None and self._process.poll() is None:
            return self._connection
        try:
            try:
                connection, answer = self._start_and_listen()
            except WorkerDied:  # perhaps killed from outside: try again once
                connection, answer = self._start_and_listen()
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
        return connection

    def _start_and_listen(self) -> tuple[Connection, Ready | NotReady]:
        """Start a child and wait for its first message. Return the connection and the message."""
        self.kill()
        began = time.monotonic()
        ours, theirs = socket.socketpair()
        # without a timeout, a child that is stopped in the middle of a message would block its parent for ever
        for direction in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            ours.setsockopt(socket.SOL_SOCKET, direction, struct.pack("ll", *divmod(round(STALL_SECONDS * 1e6), 10**6)))
        with theirs:
            self._process = _start(self._spec, theirs.fileno())
        self._connection = Connection(ours.detach())
        answer: Ready | NotReady = self._wait(LOAD_SECONDS)
        seconds = round(time.monotonic() - began, 3)
        device, ready = self._spec.device, isinstance(answer, Ready)
        events.emit("child_started", child=self.pid, device=device, ready=ready, seconds=seconds)
        return self._connection, answer

    def _wait(self, seconds: float) -> Any:
        """Return the child's next message. Kill the child and raise if none comes within `seconds` (WorkerTimeout), if
        it ended (WorkerDied), or if the run is to stop (Interrupted)."""
        assert self._connection is not None
        end = time.monotonic() + seconds
        try:
            while not self._connection.poll(_POLL_SECONDS):
                if stopping():
                    self.kill()
                    raise Interrupted
                if time.monotonic() > end:
                    events.emit("child_overdue", level=events.WARNING, child=self.pid, deadline_seconds=seconds)
                    self.kill()
                    raise WorkerTimeout(f"no answer within {seconds:.0f} s")
            return self._connection.recv()
        except BlockingIOError:
            events.emit("child_overdue", level=events.WARNING, child=self.pid, deadline_seconds=STALL_SECONDS)
            self.kill()
            raise WorkerTimeout(f"its answer stopped halfway for {STALL_SECONDS:.0f} s") from None
        except (EOFError, OSError):
            raise self._death() from None

    @property
    def pid(self) -> int | None:
        """The process id of the child, or None if there is no child."""
        return None if self._process is None else self._process.pid

    def _death(self, reason: str = "") -> WorkerDied:
        """Clean up after a child that ended, or that cannot be used any more (`reason`). Return the error to raise."""
        pid = self.pid
        reason = reason or self._how_it_ended()
        self.kill()
        events.emit("child_died", level=events.WARNING, child=pid, reason=reason)
        return WorkerDied(reason)

    def _how_it_ended(self) -> str:
        code: int | None = None
        if self._process is not None:
            try:
                code = self._process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                code = None  # it closed its end and still runs
        if code is not None and code < 0:
            return f"the child process was killed by {signal.Signals(-code).name}"
        return f"the child process ended with exit code {code}"

    def kill(self) -> None:
        """Kill the child and wait until the kernel has freed its memory and locks.

        Raise FoldAtlasError if it does not end: its device hangs, and no batch could be folded there.
        """
        process, connection = self._process, self._connection
        self._process = self._connection = None
        self._answered = 0
        if connection is not None:
            connection.close()
        if process is None:
            return
        process.kill()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            raise FoldAtlasError(
                f"the child process {process.pid} was killed and has not ended within {END_SECONDS:.0f} s: the "
                f"driver of {self._spec.device} hangs; restart the machine, and run the same command again"
            ) from None


def _start(spec: WorkerSpec, descriptor: int) -> subprocess.Popen[bytes]:
    """Start a child of `spec`, with the inherited `descriptor`."""
    settings = spec.settings
    command = [*(spec.command or (sys.executable, *CHILD)), str(descriptor), str(os.getpid())]
    command += [spec.model, str(settings.recycles), settings.precision, spec.device, spec.weights_dir or ""]
    return start_child(command, descriptor)


def start_child(command: list[str], descriptor: int) -> subprocess.Popen[bytes]:
    """Start a child, which inherits `descriptor`, from a thread that runs as long as the child.

    The kernel kills the child when the *thread* that forked it ends, and threads of Beam's pools are short-lived:
    children forked by them ended with them.
    """
    started = threading.Event()
    result: list[subprocess.Popen[bytes] | Exception] = []

    def keep() -> None:
        try:
            process = subprocess.Popen(
                command,
                pass_fds=[descriptor],
                stdin=subprocess.DEVNULL,
                stdout=2,  # native code may print, which must not get into a command's results
                env={**CHILD_ENVIRONMENT, **os.environ},
            )
        except Exception as error:
            result.append(error)
            started.set()
            return
        result.append(process)
        started.set()
        process.wait()

    threading.Thread(target=keep, name="foldatlas-keeper", daemon=True).start()
    started.wait()
    if isinstance(result[0], Exception):
        raise FoldAtlasError(f"the child process could not be started: {result[0]}") from result[0]
    return result[0]


_children: dict[WorkerSpec, Child] = {}
_lock = threading.Lock()


def child_of_this_process(spec: WorkerSpec) -> Child:
    """Return this process's child for `spec`, which is kept from one shard and Beam bundle to the next."""
    with _lock:
        return _children.setdefault(spec, Child(spec))


def end_children() -> None:
    """End every child of this process, at the end of a run."""
    with _lock:
        for child in _children.values():
            child.kill()
        _children.clear()
