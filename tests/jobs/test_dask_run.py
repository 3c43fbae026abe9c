"""The main job on Dask: on workers of our own, and on a cluster that a user started, whose workers come and go.

Real processes and real certificates; the atlas is held against the one that a single process makes.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.schemas.records import STANDARD_RESIDUES

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

COMMAND = [sys.executable, "-m", "foldatlas.jobs.cli"]
PATIENCE = 120.0  # seconds, for what takes a few on a machine that has nothing else to do


def until(condition: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


def committed(atlas: Path) -> int:
    return len(list((atlas / "manifest").glob("[!.]*.json")))


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """16 proteins of 30 to 60 residues, in 8 shards or more."""
    letters = random.Random(5)
    path = tmp_path_factory.mktemp("fasta") / "short.fasta"
    texts = ["M" + "".join(letters.choices(STANDARD_RESIDUES, k=letters.randint(29, 59))) for _ in range(16)]
    path.write_text("".join(f">p{number}\n{text}\n" for number, text in enumerate(texts)))
    return str(path)


@pytest.fixture(scope="module")
def embedded(fasta: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of `fasta`, made by one process."""
    atlas = tmp_path_factory.mktemp("embedded") / "atlas"
    done = subprocess.run([*COMMAND, "fold", fasta, str(atlas), "--model", "nano"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return atlas


class Cluster:
    """`dask scheduler` and `dask worker`s as a user would start them, with TLS from files and the environment."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        security = distributed.Security.temporary()
        names = {
            "ca.pem": security.tls_ca_file,
            "cert.pem": security.tls_client_cert,
            "key.pem": security.tls_client_key,
        }
        for name, text in names.items():
            (folder / name).write_text(text)
        prefix = "DASK_DISTRIBUTED__COMM__"
        self.environment = {**os.environ, f"{prefix}REQUIRE_ENCRYPTION": "True"}
        self.environment[f"{prefix}TLS__CA_FILE"] = str(folder / "ca.pem")
        for role in ("SCHEDULER", "WORKER", "CLIENT"):
            self.environment[f"{prefix}TLS__{role}__CERT"] = str(folder / "cert.pem")
            self.environment[f"{prefix}TLS__{role}__KEY"] = str(folder / "key.pem")
        self.file = folder / "scheduler.json"
        options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)]
        self.start("scheduler", "--protocol", "tls", *options)
        self.address = until(self._address, "the scheduler's file")
        assert self.address.startswith("tls://")

    def _address(self) -> str:
        try:
            return str(json.loads(self.file.read_text())["address"])
        except (OSError, ValueError):
            return ""

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with (self.folder / f"log{len(self.processes)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,  # so that a path that is not absolute would show
            )
        self.processes.append(process)
        return process

    def add_worker(self) -> subprocess.Popen[bytes]:
        return self.start(
            "worker", "--scheduler-file", str(self.file), "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard"
        )

    def end(self) -> None:
        family = [child for process in self.processes for child in _descendants(process.pid)]
        for process in self.processes:
            process.kill()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for process in self.processes:
            process.wait()


def _descendants(pid: int) -> list[Any]:
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def worker_process(nanny: subprocess.Popen[bytes]) -> Any:
    """The worker itself, which its nanny started, of which what folds is a child."""
    found = [child for child in psutil.Process(nanny.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    return found[0] if found else None


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    folder = tmp_path / "cluster"
    folder.mkdir()
    made = Cluster(folder)
    yield made
    made.end()


def check_committed_once(atlas: Path) -> None:
    """Each shard has one entry, of generation 0, and no file is there that no entry lists."""
    folder = AtlasFolder(atlas)
    (plan,) = folder.plans()
    assert {name: [entry.generation for entry in found] for name, found in folder.histories().items()} == {
        shard.name: [0] for shard in plan.shards
    }
    listed = {file.path for entry in folder.entries().values() for file in entry.files.values()}
    listed |= {file.path for file in (*plan.records, *plan.sequences)}
    there = {path.relative_to(atlas).as_posix() for path in atlas.rglob("*.parquet")}
    assert there == listed
    assert [path for path in atlas.rglob(".*") if not path.name.startswith(".index")] == []


def test_three_workers_one_killed_and_one_added(
    cluster: Cluster, fasta: str, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    atlas = tmp_path / "atlas"
    workers = [cluster.add_worker() for _ in range(3)]
    options = ["--runner", "DaskRunner", "--", f"--dask_client_address={cluster.address}"]
    driver = subprocess.Popen(
        [*COMMAND, "fold", fasta, atlas.name, "--model", "nano", *options],
        env=cluster.environment,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: committed(atlas) or driver.poll() is not None, "a first shard")
    victim = until(lambda: worker_process(workers[0]), "the worker's process")
    folding = victim.children()
    victim.kill()
    cluster.add_worker()
    out, errors = driver.communicate(timeout=PATIENCE)
    assert (driver.returncode, out) == (0, "16 records: 16 folded, 0 repeated, 0 refused, 0 failed\n"), errors
    assert "Traceback" not in errors
    check_committed_once(atlas)
    assert tables(atlas) == tables(embedded)
    runs = {entry.run.run_id for entry in AtlasFolder(atlas).entries().values()}
    assert len(runs) == 1
    # the dead worker's child died with it, and at the end every worker's child gave its device back
    assert [child for child in folding if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    mine = [process for nanny in cluster.processes for process in _descendants(nanny.pid)]
    until(lambda: not any("foldatlas.pipeline.child" in _command(process) for process in mine), "the end of children")


def _command(process: Any) -> str:
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_a_scheduler_file_a_stop_and_a_stranger(
    cluster: Cluster, fasta: str, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    """SIGTERM on a shared cluster: workers abandon their shards and live on; the next run, by the scheduler's file,
    ends equal. A client without the certificate is refused."""
    atlas = tmp_path / "atlas"
    options = ["--runner", "DaskRunner", "--", "--dask_scheduler_file", str(cluster.file)]
    command = [*COMMAND, "fold", fasta, str(atlas), "--model", "nano", *options]
    worker = cluster.add_worker()
    driver = subprocess.Popen(command, env=cluster.environment, stderr=subprocess.PIPE, text=True)
    until(lambda: committed(atlas) or driver.poll() is not None, "a first shard")
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 143, errors
    assert "Traceback" not in errors and "run the same command again" in errors
    before = committed(atlas)
    time.sleep(1)
    assert committed(atlas) == before  # nothing goes on
    assert list(atlas.rglob("*.part")) == []

    stranger = {name: value for name, value in cluster.environment.items() if not name.startswith("DASK_")}
    done = subprocess.run(
        [*command, "--dask_connection_timeout=2"], env=stranger, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "does not answer" in done.stderr and "certificates" in done.stderr

    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert worker.poll() is None
    check_committed_once(atlas)
    assert tables(atlas) == tables(embedded)


def test_workers_of_our_own(fasta: str, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path) -> None:
    """Ctrl-C to the whole group, as a terminal sends it; then resumed to the same end. No process is left."""
    atlas = tmp_path / "atlas"
    command = [*COMMAND, "fold", fasta, str(atlas), "--model", "nano", "--workers", "2"]
    driver = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: committed(atlas) or driver.poll() is not None, "a first shard")
    family = _descendants(driver.pid)
    assert any("foldatlas.pipeline.child" in _command(process) for process in family)
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, errors
    assert "Traceback" not in errors and len(errors.splitlines()) < 8, errors
    until(lambda: not any(map(_command, family)), "the end of all processes")
    assert list(atlas.rglob("*.part")) == []

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    check_committed_once(atlas)
    assert tables(atlas) == tables(embedded)
    hosts = {path.name.split("_")[-2] for path in (atlas / "structures").iterdir()}
    assert len(hosts) > 1  # several processes wrote
