"""Beam's DaskRunner on a Dask cluster: one started for the run on this machine, or the user's.

Dask gives a shard to each worker that comes free, and runs the shards of a dead worker again on others. Its faults, and
what is done about them here, are listed in docs/decisions/0016-engines.md.
"""

import contextlib
import logging
import os
import secrets
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from foldatlas.pipeline import progress
from foldatlas.pipeline.engines import graph
from foldatlas.pipeline.engines.beam import PipelineOptions, beam
from foldatlas.pipeline.engines.dask import worker as dask_worker
from foldatlas.pipeline.engines.dask.local import LocalCluster, share_of_cores, start_cluster
from foldatlas.pipeline.engines.dask.messages import (
    BatchesFolded,
    Report,
    RunFailed,
    ShardCommitted,
    TaskFailed,
    WorkerUnfit,
    decode,
)
from foldatlas.pipeline.engines.dask.pool import WorkerPool, inspect_workers, warn_if_open
from foldatlas.pipeline.engines.dask.preload import quiet_dask
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.engines.options import dask_options, values_of
from foldatlas.pipeline.interruption import give_up, stopping
from foldatlas.pipeline.workers.devices import choose_device, hardware_of
from foldatlas.schemas.errors import FoldAtlasError, ModelError, UsageError
from foldatlas.schemas.version import program_version

Client = Any  # distributed.Client, whose methods have no types
POLL_SECONDS: Final = 0.1  # between two looks at the futures and at the stop flag
STOP_SECONDS: Final = 10.0  # how long workers of a shared cluster may take to abandon their batches
LOST_SECONDS: Final = 60.0  # without a scheduler
Descriptor = TypeVar("Descriptor")
_log = logging.getLogger(__name__)


class Session:
    """One command's use of a cluster: the cluster, if it is started for the command, and a client connected to it."""

    def __init__(self, engine: Engine, device: str):
        dask_options()  # raises if Dask is not installed
        self.name = secrets.token_hex(6)
        self._engine, self._device = engine, device
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._pool: WorkerPool | None = None
        self._removed: set[str] = set()
        self._was_reached = False
        self.settings: dict[str, Any] = {}

    @property
    def is_own(self) -> bool:
        """Whether the cluster is started by this command, on this machine, and ends with it."""
        return self._engine.workers > 0

    def connected(self) -> Client:
        """Return a client of the cluster; start the cluster first if it is our own.

        Raise UsageError if it cannot be reached, FoldAtlasError if it could be reached before.
        """
        if self._client is not None and self._client.status == "running" and self._is_alive():
            return self._client
        import dask

        self._disconnect()
        if self.is_own:
            self._cluster = start_cluster(self._engine.workers, self._device)
            self.settings = self._cluster.settings
        address = self._address()
        with dask.config.set(self.settings):
            quiet_dask()
            try:
                self._client = _client(address)
            except Exception as error:  # of the network, of TLS, of a missing file
                if self._was_reached:
                    raise FoldAtlasError(
                        f"the Dask cluster {self.location()} stopped responding ({type(error).__name__}: "
                        f"{error}): start its scheduler again if it ended, and run the same command again to resume"
                    ) from error
                raise UsageError(
                    f"the Dask cluster {self.location()} does not answer ({type(error).__name__}: {error}): check that "
                    "its scheduler is running, and that address and certificates are those that it was started with"
                ) from error
        self._was_reached = True
        if not self.is_own:
            warn_if_open(self._client.scheduler.address)
        self._client.subscribe_topic(dask_worker.topic(self.name), self._receive)
        return self._client

    def _is_alive(self) -> bool:
        return self._cluster is None or self._cluster.is_alive

    def location(self) -> str:
        """Return where the cluster is, for messages."""
        return "on this machine" if self.is_own else f"at {next(iter(self._address().values()))}"

    def _address(self) -> dict[str, Any]:
        """Return how to reach the cluster, as arguments of distributed.Client."""
        if self._cluster is not None:
            return {"address": self._cluster.address}
        values = values_of("DaskRunner", self._engine.options)
        found = {name: values[name] for name in ("address", "scheduler_file", "timeout") if values[name] is not None}
        file = found.get("scheduler_file")
        if file is not None and not Path(file).is_file():  # Dask would wait for it without a message
            raise UsageError(
                f"--dask_scheduler_file={file}: no such file; start the scheduler first (dask scheduler "
                f"--scheduler-file {file}), or check the path"
            )
        return found

    def beam_options(self) -> list[str]:
        """Return the options by which Beam's runner finds the cluster."""
        own = [] if self._cluster is None else [f"--dask_client_address={self._cluster.address}"]
        others = [option for option in self._engine.options if not option.startswith("--dask_partition_size")]
        return [*own, *others, "--dask_partition_size=1"]

    def device(self) -> str:
        """Return the workers' device. A cluster of our own is not started for that."""
        return self._device if self.is_own else self.pool().device

    def device_name(self) -> str:
        """Return the model of the workers' device; "" where the workers differ."""
        if not self.is_own:
            return self.pool().name
        shared = not self._device.startswith("cuda") and "OMP_NUM_THREADS" not in os.environ
        return hardware_of(self._device, share_of_cores(self._engine.workers) if shared else None).name

    def pool(self) -> WorkerPool:
        """Return the workers, after waiting for the first. Raise UsageError for workers that cannot be used."""
        if self._pool is None:
            self._pool = inspect_workers(self.connected(), self._device)
        return self._pool

    def _receive(self, event: Any) -> None:
        """Handle a message of a worker. Dask calls this in the client's own thread with (time, message)."""
        report = decode(event[1])
        match report.message:
            case BatchesFolded(residues, cost):
                progress.report(progress.BatchDone(residues, cost))
            case ShardCommitted(folded, failed):
                progress.report(progress.ShardDone(folded, failed))
            case TaskFailed(reason):
                if not stopping():
                    _log.error("%s: %s", report.sender, reason)
            case RunFailed(reason):
                give_up(FoldAtlasError(reason))
            case WorkerUnfit(reason) if self.is_own:
                give_up(ModelError(reason))
            case WorkerUnfit(reason):
                self._remove(report, reason)

    def _remove(self, report: Report, reason: str) -> None:
        """Remove a worker from the cluster. If it was the last, the run is over."""
        if report.address in self._removed:
            return
        self._removed.add(report.address)
        _log.error("worker %s on %s cannot run tasks and was removed: %s", report.address, report.sender, reason)
        assert self._client is not None
        client = self._client

        async def retire() -> None:
            with contextlib.suppress(Exception):  # a lost scheduler is reported elsewhere
                await client.scheduler.retire_workers(workers=[report.address], close_workers=True)
                workers = (await client.scheduler.identity(n_workers=-1))["workers"]
                if not set(workers) - self._removed:
                    give_up(ModelError(f"no worker of the cluster can fold: {reason}"))

        client.loop.add_callback(retire)  # this is the client's own thread, which must not wait

    def stop_workers(self) -> None:
        """Make every worker abandon its batch: an own cluster ends, on a shared one this run's tasks do."""
        if self.is_own:
            self._disconnect()
            return
        with contextlib.suppress(Exception):  # a cluster that does not answer does no work either
            client = self.connected()
            end = time.monotonic() + STOP_SECONDS
            self._call_in_workers(client, dask_worker.stop)
            while time.monotonic() < end and any(client.processing().values()):
                time.sleep(POLL_SECONDS)

    def close(self) -> None:
        """End the run: an own cluster ends; on a shared one the workers release their devices."""
        if not self.is_own and self._client is not None and self._client.status == "running":
            with contextlib.suppress(Exception):
                self._call_in_workers(self._client, dask_worker.finish)
        self._disconnect()

    def _call_in_workers(self, client: Client, function: Callable[[str], None]) -> None:
        """Call `function` with the run's name in every worker. Give up waiting after a time: one may be frozen."""
        with contextlib.suppress(TimeoutError):
            client.run(function, self.name, on_error="ignore", callback_timeout=STOP_SECONDS)

    def _disconnect(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close()
        self._client, self._cluster = None, None


def _client(address: dict[str, Any]) -> Client:
    """Return a client of the scheduler at `address`. Raise errors of the network, of TLS or of the file system."""
    import distributed

    class QuietClient(distributed.Client):
        def __del__(self) -> None:
            # a client that never connected would wait for its own end, and then print a traceback
            if self.status == "running":
                super().__del__()  # type: ignore[no-untyped-call]

    make: Any = QuietClient
    return make(**address, set_as_default=False)


_sessions: dict[Engine, Session] = {}


@contextlib.contextmanager
def opened(engine: Engine, device: str = "auto") -> Iterator[Session]:
    """Give the session of an engine, which the outermost block starts and ends. `device` is what its workers use, or
    "auto"."""
    if engine in _sessions:
        yield _sessions[engine]
        return
    session = _sessions[engine] = Session(engine, choose_device(device) if engine.workers else device)
    try:
        yield session
    finally:
        del _sessions[engine]
        session.close()


def run(label: str, descriptors: Sequence[Any], work: Callable[[Any], None], engine: Engine) -> None:
    """Run as dispatch.run does, on Dask.

    A cluster that is lost meanwhile is logged, not raised: the driver submits the missing shards again. Raise
    UsageError if it cannot be reached at all, FoldAtlasError if it cannot be reached any more.
    """
    with opened(engine) as session:
        session.connected()
        session.pool()
        task = dask_worker.DaskTask(session.name, label, work, program_version())
        _submit(session, label, in_order(descriptors), task)


class Dask:
    """A Backend on a Dask cluster."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def run(self, label: str, descriptors: Sequence[Any], work: Callable[[Any], None]) -> None:
        run(label, descriptors, work, self._engine)

    @contextlib.contextmanager
    def opened(self, device: str) -> Iterator[str]:
        with opened(self._engine, device) as session:
            yield session.device()

    def device_name(self, device: str) -> str:
        with opened(self._engine, device) as session:
            return session.device_name()

    def device_memory(self, device: str) -> int | None:
        with opened(self._engine, device) as session:
            return session.pool().memory


def in_order(descriptors: Sequence[Descriptor]) -> list[Descriptor]:
    """Return `descriptors` in an order in which Dask begins with the first of them.

    Dask breaks ties between tasks by their names as text, in reverse (dask.order), and a task's name ends with the
    index of its descriptor: 99, 98, ... 9, 89, ... 0. Only the first two tasks of each worker are assigned at once, in
    any order.
    """
    indices = sorted(range(len(descriptors)), key=str, reverse=True)
    by_index = dict(zip(indices, descriptors, strict=True))
    return [by_index[index] for index in range(len(descriptors))]


def _submit(session: Session, label: str, descriptors: Sequence[Any], work: Callable[[Any], None]) -> None:
    import dask
    from apache_beam.runners.dask.dask_runner import DaskRunner

    with dask.config.set(session.settings), warnings.catch_warnings():
        quiet_dask()
        pipeline = beam.Pipeline(runner=DaskRunner(), options=PipelineOptions(session.beam_options()))
        graph.build(pipeline, label, descriptors, work)
        try:
            result: Any = pipeline.run()
        except OSError as error:
            raise UsageError(f"the Dask cluster {session.location()} does not answer ({error})") from error
        try:
            loss = _wait(result)
            if stopping():
                result.client.cancel(result.futures, force=True)
                session.stop_workers()
            elif loss:
                _log.error("%s: %s; what is missing is submitted again if the cluster answers", label, loss)
        finally:
            with contextlib.suppress(Exception):  # the connection may be lost
                result.client.close(timeout=2)


def _wait(result: Any) -> str:
    """Wait until all tasks are done, the cluster is lost, or the run is to stop. Return why it was lost, or ""."""
    lost_since: float | None = None
    while not all(future.done() for future in result.futures):
        if stopping():
            return ""
        if result.client.status == "running":
            lost_since = None
        else:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > LOST_SECONDS:
                return "the Dask scheduler has ended"
        time.sleep(POLL_SECONDS)
    for future in result.futures:
        if future.status == "error":
            with contextlib.suppress(Exception):
                return _reason(future.exception(timeout=10))
            return "a task of Dask failed"
        if future.status != "finished":
            return f"the Dask scheduler dropped the work ({future.status}): it ended, or lost its connection"
    return ""


def _reason(error: BaseException) -> str:
    """Return an error of Dask's in words for users."""
    if type(error).__name__ == "KilledWorker":
        worker = getattr(error, "last_worker", None)
        return f"several workers died on the same task, the last one: {getattr(worker, 'address', worker)}"
    return f"Dask failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
