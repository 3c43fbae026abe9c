"""What happens in a Dask worker: one descriptor at a time, and what is told to the driver.

A worker process outlives runs, and on a shared cluster other people's too. So each run begins afresh in it, is asked to
stop in it, and takes its child away at its end. Nothing here imports Dask before it is in a Dask worker.
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
from foldatlas.pipeline.workers.devices import choose_device, device_bytes, hardware_of
from foldatlas.pipeline.workers.supervisor import end_children
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError
from foldatlas.schemas.version import program_version

TELL_SECONDS: Final = 1.0  # between two messages of one worker about its progress
UNFIT_SECONDS: Final = 30.0  # how long a worker that can do nothing holds a task, for the driver to send it away

_one_at_a_time = threading.Lock()  # a worker with several threads has one child all the same
_session = ""  # the run that this process works for


@dataclass(frozen=True)
class Machine:
    """What a worker says of itself. `device` is what was asked for, or found if "auto" was; `memory` its bytes (None
    where unknown; workers of one machine share a CPU's); `name` its make; `error` why the device cannot be used."""

    host: str
    version: str
    torch: str
    device: str
    memory: int | None
    threads: int
    error: str = ""
    name: str = ""


def inspect(device: str, dask_worker: Any = None) -> Machine:
    """Called in every worker before a run: what is there?"""
    memory, error, name = None, "", ""
    try:
        device = choose_device(device)
        memory = device_bytes(device) if device.startswith("cuda") else host_memory.total_bytes()
        name = hardware_of(device).name
    except FoldAtlasError as refusal:
        error = str(refusal)
    threads = dask_worker.state.nthreads if dask_worker is not None else 1
    return Machine(socket.gethostname(), program_version(), version("torch"), device, memory, threads, error, name)


@dataclass(frozen=True)
class OnWorker:
    """Work as it is done in a Dask worker: `work` on one descriptor, for the run called `session` of a driver of this
    `version`. Told to the driver: progress, errors, and that this worker is of no use."""

    session: str
    label: str
    work: Callable[[Any], None]
    version: str

    def __call__(self, descriptor: Any) -> None:
        with _one_at_a_time:
            _begin(self.session)
            if program_version() != self.version:
                self._refuse(f"it has FoldAtlas {program_version()}, the driver {self.version}: install one version")
            if interruption.given_up() is not None:
                self._wait_to_be_sent_away()
            teller = _Teller(self.session)
            try:
                with progress.diverted(teller):
                    self.work(descriptor)
            except Interrupted:
                raise
            except Exception as error:
                self._tell_error(error)
                raise
            finally:
                teller.flush()

    def _refuse(self, reason: str) -> None:
        tell(self.session, "unfit", reason)
        self._wait_to_be_sent_away()

    def _tell_error(self, error: Exception) -> None:
        text = str(error) if isinstance(error, FoldAtlasError) else f"{type(error).__name__}: {error}"
        fatal = interruption.given_up()
        if fatal is None:
            tell(self.session, "error", f"{self.label}: {text}")
        else:
            tell(self.session, "unfit" if isinstance(fatal, ModelError) else "fatal", str(fatal))

    def _wait_to_be_sent_away(self) -> None:
        """Else this worker would be through with every task that is left, and have done none."""
        end = time.monotonic() + UNFIT_SECONDS
        while time.monotonic() < end and _session == self.session and not _stopped:
            time.sleep(0.2)
        raise Interrupted("this worker can do nothing")


_stopped = False


def _begin(session: str) -> None:
    """Forgets what an earlier run left in this process: its wish to stop, or that it gave up."""
    global _session, _stopped
    if session != _session:
        _session, _stopped = session, False
        interruption.begin_afresh()


def stop(session: str) -> None:
    """Called in every worker when the driver was asked to stop: the batch in hand is abandoned."""
    global _stopped
    if session == _session:
        _stopped = True
        interruption.ask_to_stop()


def finish(session: str) -> None:
    """Called in every worker at the end of a run: its child gives the device back."""
    if session == _session and _one_at_a_time.acquire(timeout=1.0):
        try:
            end_children()
        finally:
            _one_at_a_time.release()


class _Teller:
    """Sends what a shard's batches did to the driver, a message a second at most."""

    def __init__(self, session: str):
        self._session = session
        self._residues = self._cost = 0
        self._told = time.monotonic()

    def __call__(self, event: progress.Event) -> None:
        if isinstance(event, progress.ShardDone):
            tell(self._session, "shard", event.folded, event.failed)
            return
        self._residues += event.residues
        self._cost += event.cost
        if time.monotonic() - self._told > TELL_SECONDS:
            self.flush()

    def flush(self) -> None:
        if self._residues:
            tell(self._session, "batch", self._residues, self._cost)
        self._residues = self._cost = 0
        self._told = time.monotonic()


def topic(session: str) -> str:
    """The name under which a run's messages go through the scheduler."""
    return f"foldatlas-{session}"


def tell(session: str, kind: str, *what: str | int) -> None:
    """Sends a message to the driver: its kind, this worker's address and host, and what there is to say."""
    from distributed import get_worker

    try:
        worker = get_worker()
    except ValueError:  # not in a worker's task: nobody to tell
        return
    worker.log_event(topic(session), [kind, worker.address, f"{socket.gethostname()} ({os.getpid()})", *what])
