"""Beam's DaskRunner on a Dask cluster: one of our own on this machine, or the user's.

Dask hands out shards as workers come free, and runs again elsewhere what a dead worker had. What it does wrong, and
what is done about it here, is in docs/decisions/0016-engines.md.
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
from foldatlas.pipeline.engines.dask.pool import Fleet, look_at_workers, warn_if_open
from foldatlas.pipeline.engines.dask.preload import quiet_dask
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.engines.options import dask_options, values_of
from foldatlas.pipeline.interruption import give_up, stopping
from foldatlas.pipeline.workers.devices import choose_device, hardware_of
from foldatlas.schemas.errors import FoldAtlasError, ModelError, UsageError
from foldatlas.schemas.version import program_version

Client = Any  # distributed.Client, whose methods have no types
LOOK_SECONDS: Final = 0.1  # how often the wait looks at the futures and at the stop flag
STOP_SECONDS: Final = 10.0  # how long workers of a shared cluster may take to abandon their batches
LOST_SECONDS: Final = 60.0  # without a scheduler
Descriptor = TypeVar("Descriptor")
_log = logging.getLogger(__name__)


class Session:
    """One command's use of a cluster: the cluster if it is our own, and a connection to it."""

    def __init__(self, engine: Engine, device: str):
        dask_options()  # refuses if there is no Dask
        self.name = secrets.token_hex(6)
        self._engine, self._device = engine, device
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._fleet: Fleet | None = None
        self._sent_away: set[str] = set()
        self._was_reached = False
        self.settings: dict[str, Any] = {}

    @property
    def is_own(self) -> bool:
        """Whether the cluster was started by us, on this machine, for this run alone."""
        return self._engine.workers > 0

    def connected(self) -> Client:
        """A client of the cluster, which is started if it is our own. Raises UsageError if it cannot be reached,
        FoldAtlasError if it could before."""
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
            except Exception as error:  # of the network, of TLS, of a file that is not there
                if self._was_reached:
                    raise FoldAtlasError(
                        f"the Dask cluster {self.place()} does not answer any more ({type(error).__name__}: {error}): "
                        "start its scheduler again if it ended, and run the same command again to go on"
                    ) from error
                raise UsageError(
                    f"the Dask cluster {self.place()} does not answer ({type(error).__name__}: {error}): is its "
                    "scheduler running, and are address and certificates the ones that it was started with?"
                ) from error
        self._was_reached = True
        if not self.is_own:
            warn_if_open(self._client.scheduler.address)
        self._client.subscribe_topic(dask_worker.topic(self.name), self._hear)
        return self._client

    def _is_alive(self) -> bool:
        return self._cluster is None or self._cluster.is_alive

    def place(self) -> str:
        """The cluster, for messages."""
        return "on this machine" if self.is_own else f"at {next(iter(self._address().values()))}"

    def _address(self) -> dict[str, Any]:
        """How to reach the cluster, as arguments of distributed.Client."""
        if self._cluster is not None:
            return {"address": self._cluster.address}
        values = values_of("DaskRunner", self._engine.options)
        found = {name: values[name] for name in ("address", "scheduler_file", "timeout") if values[name] is not None}
        file = found.get("scheduler_file")
        if file is not None and not Path(file).is_file():  # Dask would wait for it, and say nothing
            raise UsageError(
                f"--dask_scheduler_file={file} is no file: start the scheduler first (dask scheduler "
                f"--scheduler-file {file}), or check the path"
            )
        return found

    def beam_options(self) -> list[str]:
        """The options with which Beam's runner finds the cluster."""
        own = [] if self._cluster is None else [f"--dask_client_address={self._cluster.address}"]
        others = [option for option in self._engine.options if not option.startswith("--dask_partition_size")]
        return [*own, *others, "--dask_partition_size=1"]

    def device(self) -> str:
        """The workers' device. An own cluster is not started only to know it."""
        return self._device if self.is_own else self.fleet().device

    def device_name(self) -> str:
        """Its make; "" where the workers differ."""
        if not self.is_own:
            return self.fleet().name
        shared = not self._device.startswith("cuda") and "OMP_NUM_THREADS" not in os.environ
        return hardware_of(self._device, share_of_cores(self._engine.workers) if shared else None).name

    def fleet(self) -> Fleet:
        """What the workers are. Waits for the first of them; raises UsageError for workers that cannot be used."""
        if self._fleet is None:
            self._fleet = look_at_workers(self.connected(), self._device)
        return self._fleet

    def _hear(self, event: Any) -> None:
        """A message of a worker (dask_worker.tell)."""
        kind, address, host, *what = event[1]
        if kind == "batch":
            progress.report(progress.BatchDone(*what))
        elif kind == "shard":
            progress.report(progress.ShardDone(*what))
        elif kind == "error":
            if not stopping():
                _log.error("%s: %s", host, what[0])
        elif kind == "fatal":
            give_up(FoldAtlasError(what[0]))
        elif self.is_own:
            give_up(ModelError(what[0]))
        elif address not in self._sent_away:
            self._sent_away.add(address)
            _log.error("worker %s on %s is of no use and was sent away: %s", address, host, what[0])
            self._send_away(address, what[0])

    def _send_away(self, address: str, reason: str) -> None:
        """Takes a worker out of the cluster; if it was the last, the run is over."""
        assert self._client is not None
        client = self._client

        async def retire() -> None:
            with contextlib.suppress(Exception):  # the scheduler may be gone, which others notice
                await client.scheduler.retire_workers(workers=[address], close_workers=True)
                workers = (await client.scheduler.identity(n_workers=-1))["workers"]
                if not set(workers) - self._sent_away:
                    give_up(ModelError(f"no worker of the cluster can fold: {reason}"))

        client.loop.add_callback(retire)  # this is the client's own thread, which must not wait

    def stop_workers(self) -> None:
        """Has every worker abandon its batch: an own cluster ends, on a shared one our tasks do."""
        if self.is_own:
            self._disconnect()
            return
        with contextlib.suppress(Exception):  # whatever does not answer does not work either
            client = self.connected()
            end = time.monotonic() + STOP_SECONDS
            self._tell_all(client, dask_worker.stop)
            while time.monotonic() < end and any(client.processing().values()):
                time.sleep(LOOK_SECONDS)

    def close(self) -> None:
        """Ends the run: an own cluster ends; on a shared one devices are given back."""
        if not self.is_own and self._client is not None and self._client.status == "running":
            with contextlib.suppress(Exception):
                self._tell_all(self._client, dask_worker.finish)
        self._disconnect()

    def _tell_all(self, client: Client, what: Callable[[str], None]) -> None:
        """Calls `what` in every worker, and waits for it, but not for ever: one may be frozen."""
        with contextlib.suppress(TimeoutError):
            client.run(what, self.name, on_error="ignore", callback_timeout=STOP_SECONDS)

    def _disconnect(self) -> None:
        if self._client is not None:
            with contextlib.suppress(Exception):
                self._client.close(timeout=2)
        if self._cluster is not None:
            self._cluster.close()
        self._client, self._cluster = None, None


def _client(address: dict[str, Any]) -> Client:
    """A client of the scheduler at `address`. Raises what the network, TLS or the file system say."""
    import distributed

    class QuietClient(distributed.Client):
        def __del__(self) -> None:
            # one that never was connected waits for its own end, and then prints a traceback
            if self.status == "running":
                super().__del__()  # type: ignore[no-untyped-call]

    make: Any = QuietClient
    return make(**address, set_as_default=False)


_sessions: dict[Engine, Session] = {}


@contextlib.contextmanager
def opened(engine: Engine, device: str = "auto") -> Iterator[Session]:
    """The session of an engine, begun by the outermost block and ended with it. `device` is what its workers use, or
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
    """dispatch.run on Dask. A cluster that is lost while it runs is said, not raised: the driver submits again what is
    missing. Raises UsageError if it cannot be reached at all, FoldAtlasError if it cannot be reached any more."""
    with opened(engine) as session:
        session.connected()
        session.fleet()
        task = dask_worker.OnWorker(session.name, label, work, program_version())
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
            return session.fleet().memory


def in_order(descriptors: Sequence[Descriptor]) -> list[Descriptor]:
    """`descriptors` put so that Dask begins with the first.

    Dask breaks ties between tasks by their names as text, in reverse (dask.order), and a task's name ends with the
    place of its descriptor: 99, 98, ... 9, 89, ... 0. Two tasks a worker, given out as they come in, are any.
    """
    places = sorted(range(len(descriptors)), key=str, reverse=True)
    placed = dict(zip(places, descriptors, strict=True))
    return [placed[place] for place in range(len(descriptors))]


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
            raise UsageError(f"the Dask cluster {session.place()} does not answer ({error})") from error
        try:
            loss = _wait(result)
            if stopping():
                result.client.cancel(result.futures, force=True)
                session.stop_workers()
            elif loss:
                _log.error("%s: %s; the run goes on with what is missing, if it can", label, loss)
        finally:
            with contextlib.suppress(Exception):  # it may be lost
                result.client.close(timeout=2)


def _wait(result: Any) -> str:
    """Waits until everything is done, or lost, or the run is to stop. Gives what was lost, or ""."""
    lost_since: float | None = None
    while not all(future.done() for future in result.futures):
        if stopping():
            return ""
        if result.client.status == "running":
            lost_since = None
        else:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > LOST_SECONDS:
                return "the Dask scheduler is gone"
        time.sleep(LOOK_SECONDS)
    for future in result.futures:
        if future.status == "error":
            with contextlib.suppress(Exception):
                return _said(future.exception(timeout=10))
            return "a task of Dask failed"
        if future.status != "finished":
            return f"the Dask scheduler dropped the work ({future.status}): it ended, or lost its connection"
    return ""


def _said(error: BaseException) -> str:
    """An error of Dask's for people."""
    if type(error).__name__ == "KilledWorker":
        worker = getattr(error, "last_worker", None)
        return f"Dask gave up after workers had died with the same task, lastly {getattr(worker, 'address', worker)}"
    return f"Dask failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
