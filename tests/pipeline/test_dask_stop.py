"""A shared Dask cluster of worker processes: stopping a run, and removing workers that cannot run tasks."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from foldatlas.pipeline import interruption
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.dask import engine as dask_engine
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.schemas.errors import Interrupted, ModelError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from dask_cluster import until  # noqa: E402


@contextlib.contextmanager
def worker_processes(number: int) -> Iterator[Engine]:
    """A user's cluster, whose workers are processes. Dask searches only briefly for a removed one."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
        distributed.LocalCluster(
            n_workers=number, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
    ):
        yield Engine("DaskRunner", 0, (f"--dask_client_address={cluster.scheduler_address}",))


def test_a_stop_reaches_the_workers_of_a_shared_cluster(tmp_path: Path) -> None:
    """What is in hand is abandoned: the driver has its prompt back, and no worker folds on for half an hour."""

    def work(_: int) -> None:
        (tmp_path / "begun").touch()
        end = time.monotonic() + 300
        while time.monotonic() < end and not interruption.stopping():
            time.sleep(0.02)
        (tmp_path / ("stopped" if interruption.stopping() else "not heard")).touch()

    def stop() -> None:
        until((tmp_path / "begun").exists, "the work began")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with worker_processes(1) as engine:
        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(Interrupted), dispatch.opened(engine), interruption.interruptible():
            dispatch.run("fold", [1], work, engine)
        stopper.join()
        until((tmp_path / "stopped").exists, "the worker was stopped")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "stopped"]


def test_a_stop_does_not_wait_for_a_worker_that_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "STOP_SECONDS", 0.5)
    with worker_processes(1) as engine, dispatch.opened(engine), dask_engine.opened(engine) as session:
        (pid,) = session.connected().run(os.getpid).values()
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            session.stop_workers()
            session.close()
            assert time.monotonic() - began < 240  # Dask itself gives it up after five minutes
        finally:
            os.kill(pid, signal.SIGCONT)


def test_unfit_worker_is_removed_and_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two worker processes, of which the first to get a task cannot load the model; in the end neither can."""
    bad, all_bad = tmp_path / "bad", tmp_path / "all bad"

    def work(number: int) -> None:
        with contextlib.suppress(FileExistsError):
            bad.symlink_to(str(os.getpid()))
        if os.readlink(bad) == str(os.getpid()) or all_bad.exists():
            error = ModelError("no weights here")
            interruption.give_up(error)
            raise error
        (tmp_path / str(number)).touch()

    def missing() -> list[int]:
        return [number for number in range(8) if not (tmp_path / str(number)).exists()]

    with worker_processes(2) as engine:
        with dispatch.opened(engine), interruption.interruptible():
            for _ in range(3):
                dispatch.run("fold", missing(), work, engine)
            assert missing() == []
            assert caplog.text.count("was removed: no weights here") == 1
        all_bad.touch()
        with (
            pytest.raises(ModelError, match="no worker of the cluster can fold: no weights here"),
            dispatch.opened(engine),
            interruption.interruptible(),
        ):
            dispatch.run("fold", range(8), work, engine)
