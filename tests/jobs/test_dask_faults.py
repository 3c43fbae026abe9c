"""A user's Dask cluster of which parts end: the scheduler, the driver, and worker after worker by the same protein.

As the table in docs/operations.md says. What folds is the fake child, as with the harness (tests/faults/driver.py), so
that a protein can kill its worker; all else is real.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder

pytest.importorskip("distributed")
psutil = pytest.importorskip("psutil")

from dask_cluster import (  # noqa: E402
    PATIENCE,
    Cluster,
    command_of,
    committed,
    folded_alone,
    is_folding,
    running,
    runs_of,
    until,
    worker_process,
    write_proteins,
)

TESTS = Path(__file__).parents[1]
DRIVER = [sys.executable, "-P", str(TESTS / "faults" / "driver.py")]
HARMLESS = "ARQEGHILKMPSTWYC"  # no word of the fake child
KILLS_WORKERS = "MARQEGHILKPARENTMPSTWYCARQEG"
DONE = "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_proteins(tmp_path_factory.mktemp("fasta") / "short.fasta", 24, HARMLESS, seed=8)


@pytest.fixture(scope="module")
def embedded(fasta: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folded_alone(DRIVER, fasta, tmp_path_factory.mktemp("embedded") / "atlas")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    settings = {"FAKE_CHILD_SECONDS": "0.3", "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0"}
    with running(tmp_path / "cluster", settings) as made:
        yield made


def fold(cluster: Cluster, fasta: Path, atlas: Path, *options: str) -> "subprocess.Popen[str]":
    dask = ["--runner", "DaskRunner", "--", "--dask_scheduler_file", str(cluster.file), *options]
    return subprocess.Popen(
        [*DRIVER, "fold", str(fasta), str(atlas), "--model", "nano", *dask],
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def after_a_commit(atlas: Path, driver: "subprocess.Popen[str]") -> None:
    def has_committed() -> bool:
        assert driver.poll() is None, "it ended before the test could interfere"
        return committed(atlas) > 0

    until(has_committed, "a first shard")


def finish(driver: "subprocess.Popen[str]") -> tuple[int, str, str]:
    out, errors = driver.communicate(timeout=PATIENCE)
    assert "Traceback" not in errors, errors
    return driver.returncode, out, errors


@pytest.mark.slow
def test_the_scheduler_ends(
    cluster: Cluster, fasta: Path, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    """The run ends too, in one line; with another scheduler in its place the same command goes on."""
    atlas = tmp_path / "atlas"
    cluster.add_pausing_worker()
    driver = fold(cluster, fasta, atlas, "--dask_connection_timeout=2")
    cluster.wait_for_pause(driver)
    cluster.scheduler.kill()
    cluster.end_pauses()
    code, out, errors = finish(driver)
    assert (code, out) == (1, "")
    assert "stopped responding" in errors.splitlines()[-1] and "run the same command again" in errors, errors
    assert errors.count("error: ") == 1  # that this round's work was dropped

    cluster.start_scheduler()
    cluster.add_worker()
    assert finish(fold(cluster, fasta, atlas))[:2] == (0, DONE)
    assert tables(atlas) == tables(embedded)


@pytest.mark.slow
def test_a_protein_that_kills_worker_after_worker(cluster: Cluster, fasta: Path, tmp_path: Path) -> None:
    """All other shards are folded; its own is named, and nothing is said of proteins that did nothing."""
    poisoned, atlas = tmp_path / "poisoned.fasta", tmp_path / "atlas"
    poisoned.write_text(fasta.read_text() + f">deadly\n{KILLS_WORKERS}\n")
    for _ in range(2):
        cluster.add_worker()
    code, out, errors = finish(fold(cluster, poisoned, atlas))
    print(errors)
    folder = AtlasFolder(atlas)
    (plan,) = folder.plans()
    missing = {shard.name for shard in plan.shards} - folder.entries().keys()
    assert (code, out, len(missing)) == (3, "", 1), errors
    last = errors.splitlines()[-1]
    assert f"1 of {len(plan.shards)} shards are not done ({missing.pop()})" in last
    assert "several workers died on the same task" in errors
    assert list(atlas.rglob("*.duckdb")) == []


@pytest.mark.slow
def test_the_driver_is_killed(
    cluster: Cluster, fasta: Path, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    """Workers end what they have in hand, drop the rest and live on for the next run."""
    atlas = tmp_path / "atlas"
    nannies = [cluster.add_pausing_worker() for _ in range(2)]
    driver = fold(cluster, fasta, atlas)
    cluster.wait_for_pause(driver)
    workers = [until(lambda nanny=nanny: worker_process(nanny), "a worker") for nanny in nannies]
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    cluster.wait_without_clients()
    (killed,) = runs_of(atlas)
    cluster.end_pauses()
    assert finish(fold(cluster, fasta, atlas))[:2] == (0, DONE)
    assert tables(atlas) == tables(embedded)
    of_each = runs_of(atlas)
    assert len(of_each) == 2 and of_each[killed] <= 2 * len(nannies)  # each worker's first and the one in hand
    assert all(worker.is_running() for worker in workers)


def test_workers_as_the_documents_start_them(
    cluster: Cluster, fasta: Path, embedded: Path, tables: Callable[[Path], Any], tmp_path: Path
) -> None:
    """The lines of docs/operations.md as they stand there. Ctrl-C in the worker's terminal is not for the worker."""
    text = (TESTS.parent / "docs" / "operations.md").read_text()
    block = next(block for block in text.split("```") if "\ndask scheduler " in block)
    lines = block.replace("\\\n", " ").splitlines()
    worker = next(line for line in lines if "dask worker" in line).partition("#")[0]
    assert "--preload" in worker
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "scheduler.json").write_text(cluster.file.read_text())
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**cluster.environment, "PATH": path}
    with (tmp_path / "log").open("wb") as log:
        nanny = subprocess.Popen(
            ["bash", "-c", f"exec env {worker}"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
    cluster.processes.append(nanny)
    atlas = tmp_path / "atlas"
    driver = fold(cluster, fasta, atlas)
    after_a_commit(atlas, driver)
    process = until(lambda: worker_process(nanny), "the worker")
    process.send_signal(signal.SIGINT)
    next(child for child in process.children() if is_folding(child)).send_signal(signal.SIGINT)
    assert finish(driver)[:2] == (0, DONE)
    assert tables(atlas) == tables(embedded)
    assert process.is_running() and command_of(process)
    assert shlex.split(worker)[0].startswith("CUDA_VISIBLE_DEVICES=")
