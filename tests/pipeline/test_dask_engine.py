"""A graph on Dask: its order, the cost of a failure, messages to the driver, and a missing cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from foldatlas.pipeline import progress
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.schemas.errors import FoldAtlasError, UsageError

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from dask_cluster import until  # noqa: E402


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """A cluster of one worker in this process, as a user's cluster."""
    with dask.config.set({"distributed.worker.daemon": False}):
        cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0", memory_limit=0
        )
    yield Engine("DaskRunner", 0, (f"--dask_client_address={cluster.scheduler_address}",))
    cluster.close()


def test_the_first_descriptor_is_begun_first(engine: Engine, tmp_path: Path) -> None:
    """By a real scheduler, which begins in an order of its own: in_order undoes it. 123: one to three digits.

    As they come in, the scheduler gives each worker that is idle two tasks, whichever; all others wait in order.
    """
    log = tmp_path / "log"

    def write(number: int) -> None:
        with log.open("a") as file:
            file.write(f"{number}\n")

    dispatch.run("order", range(123), write, engine)
    begun = [int(line) for line in log.read_text().split()]
    assert begun[2:] == [number for number in range(123) if number not in begun[:2]]
    assert sorted(begun) == list(range(123))


def test_work_that_fails_costs_no_other(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail_at_three(number: int) -> None:
        if number == 3:
            raise FoldAtlasError("three is too much")
        (tmp_path / str(number)).touch()

    dispatch.run("fold", range(6), fail_at_three, engine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "4", "5"]
    assert "fold: three is too much" in caplog.text


def test_driver_receives_progress_once(engine: Engine, tmp_path: Path) -> None:
    """Also if a worker runs in the driver's process, where it could receive the driver's events."""
    received: list[progress.Event] = []

    def receive(event: progress.Event) -> None:
        received.append(event)
        (tmp_path / f"{len(received)} received").touch()

    def work(number: int) -> None:
        before = len(list(tmp_path.glob("begun *")))
        (tmp_path / f"begun {number}").touch()
        heard_before = tmp_path / f"{2 * before} received" if before else tmp_path
        until(heard_before.exists, "what the driver received")  # while this worker listens
        progress.report(progress.BatchDone(number, 10 * number))
        progress.report(progress.ShardDone(1, 0))

    with dispatch.opened(engine), progress.listening(receive):
        dispatch.run("fold", [1, 2, 3], work, engine)
        until((tmp_path / "6 received").exists, "all six were received")
    batches = sorted(event for event in received if isinstance(event, progress.BatchDone))
    assert batches == [progress.BatchDone(number, 10 * number) for number in (1, 2, 3)]
    assert received.count(progress.ShardDone(1, 0)) == 3


def test_missing_cluster_is_reported() -> None:
    engine = Engine("DaskRunner", 0, ("--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=1"))
    with pytest.raises(UsageError, match=r"the Dask cluster at tcp://127\.0\.0\.1:9 does not answer"):
        dispatch.run("fold", [1], print, engine)


def test_missing_scheduler_file_is_reported_at_once(tmp_path: Path) -> None:
    engine = Engine("DaskRunner", 0, (f"--dask_scheduler_file={tmp_path / 'none.json'}",))
    with pytest.raises(UsageError, match=r"none\.json: no such file; start the scheduler first"):
        dispatch.run("fold", [1], print, engine)
