"""What happens in a Dask worker: one descriptor at a time, with messages to the driver.

A worker process lives longer than a run, and on a shared cluster it also works for other users. So a run resets what an
earlier one left, a stop is for one run, and the child process ends with its run. Nothing here imports Dask outside a
Dask worker.
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from foldatlas.folding.planning import host_memory
from foldatlas.pipeline import interruption, progress
from foldatlas.pipeline.engines.dask.messages import (
    BatchesFolded,
    Message,
    Report,
    RunFailed,
    ShardCommitted,
    TaskFailed,
    WorkerUnfit,
    encode,
)
from foldatlas.pipeline.workers.devices import choose_device, device_bytes, hardware_of
from foldatlas.pipeline.workers.supervisor import end_children
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError
from foldatlas.schemas.version import program_version

PROGRESS_SECONDS: Final = 1.0  # between two messages of one worker about its progress
UNFIT_SECONDS: Final = 30.0  # how long a worker that cannot run tasks holds a task, for the driver to remove the worker
_POLL_SECONDS: Final = 0.2

_one_at_a_time = threading.Lock()  # a worker with several threads still has one child
_session = ""  # the run that this process works for
_stopped = False  # whether the driver stopped that run


@dataclass(frozen=True)
class WorkerInfo:
    """A worker's host, versions and device.

    device: the device that was asked for, or found for "auto" ("cpu", "cuda").
    memory: its bytes, None where unknown; workers of one machine share a CPU's.
    threads: tasks that Dask gives the worker at once.
    error: why the device cannot be used; "" if it can.
    name: the device's model.
    """

    host: str
    version: str
    torch: str
    device: str
    memory: int | None
    threads: int
    error: str = ""
    name: str = ""


def inspect(device: str, dask_worker: Any = None) -> WorkerInfo:
    """Return the info of this worker. Called in every worker before a run; Dask passes the worker itself."""
    memory, error, name = None, "", ""
    try:
        device = choose_device(device)
        memory = device_bytes(device) if device.startswith("cuda") else host_memory.total_bytes()
        name = hardware_of(device).name
    except FoldAtlasError as refusal:
        error = str(refusal)
    threads = dask_worker.state.nthreads if dask_worker is not None else 1
    return WorkerInfo(socket.gethostname(), program_version(), version("torch"), device, memory, threads, error, name)


@dataclass(frozen=True)
class DaskTask:
    """A callable that does `work` on one descriptor in a Dask worker.

    session: the run, by the name that its driver gave it.
    label: what the work is called in messages.
    version: the driver's version of this program; a worker of another version does nothing.
    """

    session: str
    label: str
    work: Callable[[Any], None]
    version: str

    def __call__(self, descriptor: Any) -> None:
        with _one_at_a_time:
            _begin(self.session)
            if program_version() != self.version:
                self._refuse(
                    f"it has FoldAtlas {program_version()}, the driver has {self.version}: install the same version"
                )
            if interruption.given_up() is not None:
                self._wait_for_removal()
            sender = _ProgressSender(self.session)
            try:
                with progress.diverted(sender):
                    self.work(descriptor)
            except Interrupted:
                raise
            except Exception as error:
                send(self.session, self._message_of(error))
                raise
            finally:
                sender.flush()

    def _refuse(self, reason: str) -> None:
        send(self.session, WorkerUnfit(reason))
        self._wait_for_removal()

    def _message_of(self, error: Exception) -> Message:
        text = str(error) if isinstance(error, FoldAtlasError) else f"{type(error).__name__}: {error}"
        fatal = interruption.given_up()
        if fatal is None:
            return TaskFailed(f"{self.label}: {text}")
        return WorkerUnfit(str(fatal)) if isinstance(fatal, ModelError) else RunFailed(str(fatal))

    def _wait_for_removal(self) -> None:
        """Hold the task, or this worker would take every task that is left and do none."""
        end = time.monotonic() + UNFIT_SECONDS
        while time.monotonic() < end and _session == self.session and not _stopped:
            time.sleep(_POLL_SECONDS)
        raise Interrupted("this worker cannot run tasks")


def _begin(session: str) -> None:
    """Reset what an earlier run left in this process: that it was stopped, or given up."""
    global _session, _stopped
    if session != _session:
        _session, _stopped = session, False
        interruption.reset()


def stop(session: str) -> None:
    """Abandon the current batch. Called in every worker when the driver was asked to stop."""
    global _stopped
    if session == _session:
        _stopped = True
        interruption.request_stop()


def finish(session: str) -> None:
    """End the child, which releases the device. Called in every worker at the end of a run."""
    if session == _session and _one_at_a_time.acquire(timeout=1.0):
        try:
            end_children()
        finally:
            _one_at_a_time.release()


class _ProgressSender:
    """Sends a shard's progress to the driver, one message a second at most."""

    def __init__(self, session: str):
        self._session = session
        self._residues = self._cost = 0
        self._sent = time.monotonic()

    def __call__(self, event: progress.Event) -> None:
        match event:
            case progress.ShardDone(folded, failed):
                send(self._session, ShardCommitted(folded, failed))
            case progress.BatchDone(residues, cost):
                self._residues += residues
                self._cost += cost
                if time.monotonic() - self._sent > PROGRESS_SECONDS:
                    self.flush()

    def flush(self) -> None:
        if self._residues:
            send(self._session, BatchesFolded(self._residues, self._cost))
        self._residues = self._cost = 0
        self._sent = time.monotonic()


def topic(session: str) -> str:
    """Return the name of the Dask topic that carries a run's messages."""
    return f"foldatlas-{session}"


def send(session: str, message: Message) -> None:
    """Send a message to the driver through the scheduler."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not in a task of a worker: there is no driver
        return
    report = Report(worker.address, f"{socket.gethostname()} ({os.getpid()})", message)
    worker.log_event(topic(session), encode(report))
