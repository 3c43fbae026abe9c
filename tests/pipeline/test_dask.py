"""Dask as it is used here: the order in which it begins, what its workers are told, and a cluster of our own."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foldatlas.pipeline import dask_worker, devices, graphs, interruption, progress
from foldatlas.pipeline.engine import Engine
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, ModelError, UsageError
from foldatlas.schemas.version import program_version

dask = pytest.importorskip("dask")
distributed = pytest.importorskip("distributed")

from foldatlas.pipeline import dask_engine, dask_fleet, dask_local  # noqa: E402


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What a worker tells its driver, in place of a driver."""
    messages: list[tuple[Any, ...]] = []
    monkeypatch.setattr(dask_worker, "tell", lambda session, kind, *what: messages.append((session, kind, *what)))
    monkeypatch.setattr(dask_worker, "UNFIT_SECONDS", 0.1)
    return messages


def on_worker(work: Any, session: str, version: str = program_version()) -> dask_worker.OnWorker:
    return dask_worker.OnWorker(session, "fold", work, version)


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

    graphs.run("order", range(123), write, engine)
    begun = [int(line) for line in log.read_text().split()]
    assert begun[2:] == [number for number in range(123) if number not in begun[:2]]
    assert sorted(begun) == list(range(123))


def test_work_that_fails_costs_no_other(engine: Engine, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail_at_three(number: int) -> None:
        if number == 3:
            raise FoldAtlasError("three is too much")
        (tmp_path / str(number)).touch()

    graphs.run("fold", range(6), fail_at_three, engine)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1", "2", "4", "5"]
    assert "fold: three is too much" in caplog.text


def test_the_driver_hears_of_progress_once(engine: Engine, tmp_path: Path) -> None:
    """Also where a worker is in the driver's process, and could hear the driver hearing."""
    heard: list[progress.Event] = []

    def hear(event: progress.Event) -> None:
        heard.append(event)
        (tmp_path / f"{len(heard)} heard").touch()

    def work(number: int) -> None:
        before = len(list(tmp_path.glob("begun *")))
        (tmp_path / f"begun {number}").touch()
        wait_for(tmp_path / f"{2 * before} heard" if before else tmp_path)  # while this worker listens
        progress.report(progress.BatchDone(number, 10 * number))
        progress.report(progress.ShardDone(1, 0))

    with graphs.opened(engine), progress.listening(hear):
        graphs.run("fold", [1, 2, 3], work, engine)
        wait_for(tmp_path / "6 heard")
    batches = sorted(event for event in heard if isinstance(event, progress.BatchDone))
    assert batches == [progress.BatchDone(number, 10 * number) for number in (1, 2, 3)]
    assert heard.count(progress.ShardDone(1, 0)) == 3


def wait_for(path: Path) -> None:
    """Until it is there, or a minute has gone."""
    end = time.monotonic() + 60
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.01)


def test_a_worker_that_cannot_go_on_is_told_once_and_holds_its_tasks(told: list[tuple[Any, ...]]) -> None:
    def give_up(_: int) -> None:
        error = ModelError("no weights here")
        interruption.give_up(error)
        raise error

    done: list[int] = []
    with pytest.raises(ModelError):
        on_worker(give_up, "one")(1)
    assert told == [("one", "unfit", "no weights here")]
    for number in (2, 3):
        started = time.monotonic()
        with pytest.raises(Interrupted):
            on_worker(done.append, "one")(number)
        assert time.monotonic() - started > 0.1  # else it would be through with the whole run at once
    on_worker(done.append, "two")(4)  # another run begins afresh
    assert done == [4]


def test_a_full_disk_ends_the_run_everywhere(told: list[tuple[Any, ...]]) -> None:
    def full(_: int) -> None:
        with interruption.giving_up_if_unwritable("shard x"):
            raise OSError(28, "No space left on device", "/atlas")

    with pytest.raises(FoldAtlasError):
        on_worker(full, "full")(1)
    assert [(kind, text[:31]) for _, kind, text in told] == [("fatal", "shard x could not be written: N")]
    on_worker(lambda _: None, "after")(1)


def test_a_worker_of_another_version_does_nothing(told: list[tuple[Any, ...]]) -> None:
    done: list[int] = []
    with pytest.raises(Interrupted):
        on_worker(done.append, "versions", "0.0.1")(1)
    assert done == []
    ((_, kind, text),) = told
    assert kind == "unfit" and f"it has FoldAtlas {program_version()}, the driver 0.0.1" in text


def test_a_stop_reaches_its_own_run_alone(told: list[tuple[Any, ...]]) -> None:
    seen: list[bool] = []
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(1)
    dask_worker.stop("of somebody else")
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(2)
    dask_worker.stop("mine")
    on_worker(lambda _: seen.append(interruption.stopping()), "mine")(3)
    on_worker(lambda _: seen.append(interruption.stopping()), "next")(4)
    assert seen == [False, False, True, False]


def test_threads_of_one_worker_take_turns(told: list[tuple[Any, ...]]) -> None:
    inside, most = [0], [0]

    def work(_: int) -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        time.sleep(0.02)
        inside[0] -= 1

    threads = [threading.Thread(target=on_worker(work, "turns"), args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1]


def test_a_stop_reaches_the_workers_of_a_shared_cluster(tmp_path: Path) -> None:
    """What is in hand is abandoned: the driver has its prompt back, and no worker folds on for half an hour."""

    def work(_: int) -> None:
        (tmp_path / "begun").touch()
        end = time.monotonic() + 300
        while time.monotonic() < end and not interruption.stopping():
            time.sleep(0.02)
        (tmp_path / ("stopped" if interruption.stopping() else "not heard")).touch()

    def stop() -> None:
        wait_for(tmp_path / "begun")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with worker_processes(1) as engine:
        stopper = threading.Thread(target=stop)
        stopper.start()
        with pytest.raises(Interrupted), graphs.opened(engine), interruption.interruptible():
            graphs.run("fold", [1], work, engine)
        stopper.join()
        wait_for(tmp_path / "stopped")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "stopped"]


def test_a_stop_does_not_wait_for_a_worker_that_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_engine, "STOP_SECONDS", 0.5)
    with worker_processes(1) as engine, graphs.opened(engine), dask_engine.opened(engine) as session:
        (pid,) = session.connected().run(os.getpid).values()
        os.kill(pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            session.stop_workers()
            session.close()
            assert time.monotonic() - began < 60  # Dask itself gives it up after five minutes
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_worker_of_no_use_is_sent_away_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
        with graphs.opened(engine), interruption.interruptible():
            for _ in range(3):
                graphs.run("fold", missing(), work, engine)
            assert missing() == []
            assert caplog.text.count("was sent away: no weights here") == 1
        all_bad.touch()
        with (
            pytest.raises(ModelError, match="no worker of the cluster can fold: no weights here"),
            graphs.opened(engine),
            interruption.interruptible(),
        ):
            graphs.run("fold", range(8), work, engine)


@contextlib.contextmanager
def worker_processes(number: int) -> Iterator[Engine]:
    """A user's cluster, whose workers are processes. Nobody looks long for one that has just been sent away."""
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
        distributed.LocalCluster(
            n_workers=number, threads_per_worker=1, dashboard_address="127.0.0.1:0", memory_limit=0
        ) as cluster,
    ):
        yield Engine("DaskRunner", 0, (f"--dask_client_address={cluster.scheduler_address}",))


def machine(**changes: Any) -> dask_worker.Machine:
    mine = dask_worker.inspect("cpu")
    return dask_worker.Machine(**{**{name: getattr(mine, name) for name in mine.__dataclass_fields__}, **changes})


def test_the_least_memory_counts_and_neighbours_share_it() -> None:
    machines = [machine(host="a", memory=100), machine(host="a", memory=100), machine(host="b", memory=70)]
    assert dask_fleet.judge(machines) == dask_fleet.Fleet(3, "cpu", 35, machines[0].name)
    gpus = [machine(device="cuda", memory=memory, name="H100") for memory in (80, 40)]
    assert dask_fleet.judge(gpus) == dask_fleet.Fleet(2, "cuda", 40, "H100")
    assert dask_fleet.judge([*gpus, machine(device="cuda", memory=40, name="T4")]).name == ""
    assert dask_fleet.judge([*gpus, machine(device="cuda", memory=None)]).memory is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"version": "9.9"}, f"worker on b has FoldAtlas 9.9, this is {program_version()}"),
        ({"error": "device cuda: nvidia-smi does not answer"}, "worker on b: device cuda"),
        ({"device": "cuda"}, "cpu on a, cuda on b"),
    ],
)
def test_workers_that_cannot_be_used_are_refused_with_their_host(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        dask_fleet.judge([machine(host="a"), machine(host="b", **changes)])


@pytest.mark.parametrize(
    ("changes", "reason"), [({"torch": "1.0"}, "on b has PyTorch 1.0"), ({"threads": 4}, "on b has 4 threads")]
)
def test_workers_that_deserve_a_look_are_warned_of(changes: dict[str, Any], reason: str) -> None:
    with pytest.warns(dask_fleet.EngineWarning, match=reason):
        assert dask_fleet.judge([machine(host="b", **changes)]).workers == 1


def test_an_open_scheduler_is_warned_of() -> None:
    with pytest.warns(dask_fleet.EngineWarning, match="can run programs as you"):
        dask_fleet.warn_if_open("tcp://192.0.2.7:8786")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for address in ("tls://192.0.2.7:8786", "tcp://127.0.0.1:8786", "tcp://[::1]:8786", "tcp://localhost:1", None):
            dask_fleet.warn_if_open(address)


def test_each_worker_has_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-7")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert devices.visible_gpus() == ["3", "GPU-7"]
    found = dask_local.worker_environments(2, "cuda")
    assert found == [{"CUDA_VISIBLE_DEVICES": gpu, "OMP_NUM_THREADS": "5"} for gpu in ("3", "GPU-7")]
    with pytest.raises(UsageError, match="this machine shows 2 GPUs"):
        dask_local.worker_environments(3, "cuda")


def test_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert dask_local.worker_environments(3, "cpu") == [{"OMP_NUM_THREADS": "2"}] * 3
    assert dask_local.worker_environments(20, "cpu") == [{"OMP_NUM_THREADS": "1"}] * 20
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert [each["OMP_NUM_THREADS"] for each in dask_local.worker_environments(2, "cuda")] == ["4", "4"]


def test_a_cluster_that_is_not_there_is_said() -> None:
    engine = Engine("DaskRunner", 0, ("--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=1"))
    with pytest.raises(UsageError, match=r"the Dask cluster at tcp://127\.0\.0\.1:9 does not answer"):
        graphs.run("fold", [1], print, engine)


def test_a_scheduler_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    engine = Engine("DaskRunner", 0, (f"--dask_scheduler_file={tmp_path / 'none.json'}",))
    with pytest.raises(UsageError, match=r"none\.json is no file: start the scheduler first"):
        graphs.run("fold", [1], print, engine)


def test_a_cluster_of_our_own_is_closed_to_others_and_leaves_nothing() -> None:
    """TLS, loopback, workers' environments; and its processes end with it."""
    import psutil

    cluster = dask_local.start_cluster(2, "cpu")
    try:
        assert cluster.address.startswith("tls://127.0.0.1:")
        with dask.config.set(cluster.settings), distributed.Client(cluster.address, set_as_default=False) as client:
            assert set(client.run(os.getenv, "OMP_NUM_THREADS").values()) == {os.environ["OMP_NUM_THREADS"]}
            assert set(client.run(signal.getsignal, signal.SIGINT).values()) == {signal.SIG_IGN}
            assert set(client.nthreads().values()) == {1}
        knock = textwrap.dedent("""
            import sys, distributed
            for security in (None, distributed.Security.temporary()):  # without the certificate, and with another
                try:
                    distributed.Client(sys.argv[1], security=security, timeout=60)
                except Exception as refusal:
                    print(refusal)
        """)
        stranger = subprocess.run(
            [sys.executable, "-c", knock, cluster.address], capture_output=True, text=True, timeout=180
        )
        refusals = stranger.stdout.splitlines()
        assert len(refusals) == 2 and all("TLS" in refusal for refusal in refusals), stranger
        helper = psutil.Process(cluster._process.pid)
        processes = [helper, *helper.children(recursive=True)]
        assert len(processes) >= 3
        sockets = [socket for process in processes for socket in process.net_connections("tcp")]
        listening = {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
    finally:
        cluster.close()
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
