"""The main job on Dask: on workers of our own, and on a cluster that a user started, whose workers come and go.

Real processes and real certificates; the atlas is held against the one that a single process makes.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from paused import pausing_environment

from foldatlas.atlas.folder import AtlasFolder

distributed = pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

from dask_cluster import (  # noqa: E402
    PATIENCE,
    Cluster,
    command_of,
    committed,
    descendants,
    is_folding,
    running,
    runs_of,
    until,
    worker_process,
)

COMMAND = [sys.executable, "-m", "foldatlas.jobs.cli"]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    with running(tmp_path / "cluster") as made:
        yield made


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
    cluster: Cluster, short_proteins: str, whole: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    atlas = tmp_path / "atlas"
    workers = [cluster.add_worker() for _ in range(3)]
    options = ["--runner", "DaskRunner", "--", f"--dask_client_address={cluster.address}"]
    driver = subprocess.Popen(
        [*COMMAND, "fold", short_proteins, atlas.name, "--model", "nano", *options],
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
    assert (driver.returncode, out) == (0, "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"), errors
    assert "Traceback" not in errors
    check_committed_once(atlas)
    assert tables(atlas) == tables(whole)
    runs = {entry.run.run_id for entry in AtlasFolder(atlas).entries().values()}
    assert len(runs) == 1
    # the dead worker's child died with it, and at the end every worker's child gave its device back
    assert [child for child in folding if child.is_running() and child.status() != psutil.STATUS_ZOMBIE] == []
    until(lambda: not any(map(is_folding, cluster.members())), "the end of children")


def test_a_scheduler_file_a_stop_and_a_stranger(
    cluster: Cluster, short_proteins: str, whole: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    """SIGTERM on a shared cluster: workers abandon their shards and live on; the next run, by the scheduler's file,
    ends equal. A client without the certificate is refused."""
    atlas = tmp_path / "atlas"
    options = ["--runner", "DaskRunner", "--", "--dask_scheduler_file", str(cluster.file)]
    command = [*COMMAND, "fold", short_proteins, str(atlas), "--model", "nano", *options]
    worker = cluster.add_pausing_worker()
    driver = subprocess.Popen(command, env=cluster.environment, stderr=subprocess.PIPE, text=True)
    cluster.wait_for_pause(driver)
    driver.send_signal(signal.SIGTERM)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 143, errors
    assert "Traceback" not in errors and "run the same command again" in errors
    (stopped,) = runs_of(atlas)
    cluster.end_pauses()

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
    assert tables(atlas) == tables(whole)
    of_each = runs_of(atlas)
    assert len(of_each) == 2 and of_each[stopped] <= 2  # the stopped run ended with the commit in hand


@pytest.mark.slow
def test_workers_of_our_own(short_proteins: str, whole: Path, tables: Callable[[Path], Any], tmp_path: Path) -> None:
    """Ctrl-C to the whole group, as a terminal sends it; then resumed to the same end. No process is left."""
    atlas = tmp_path / "atlas"
    command = [*COMMAND, "fold", short_proteins, str(atlas), "--model", "nano", "--workers", "2"]
    pauses = tmp_path / "pauses"
    pausing = pausing_environment(pauses, "spawn_main")  # a worker, before its second commit
    driver = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, start_new_session=True, env={**os.environ, **pausing}
    )
    until(lambda: any(pauses.iterdir()) or driver.poll() is not None, "a worker pauses")
    family = descendants(driver.pid)
    assert any(map(is_folding, family))
    os.killpg(driver.pid, signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 130, errors
    assert "Traceback" not in errors and len(errors.splitlines()) < 8, errors
    until(lambda: not any(map(command_of, family)), "the end of all processes")
    assert list(atlas.rglob("*.part")) == []

    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    check_committed_once(atlas)
    assert tables(atlas) == tables(whole)
    hosts = {path.name.split("_")[-2] for path in (atlas / "structures").iterdir()}
    assert len(hosts) > 1  # several processes wrote
