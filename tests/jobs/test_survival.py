"""SIGKILL in the middle of a fold, with the real model: nothing is lost, nothing folds twice but what was in flight."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from paused import Paused

from foldatlas.atlas.folder import AtlasFolder

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc"),
    pytest.mark.usefixtures("one_child"),
]


def children_of(process: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Paused]]:
    """Start `foldatlas fold` of a file into an atlas, which pauses before the commits that are given."""
    runs: list[Paused] = []

    def begin(fasta: str, atlas: Path, *pauses: int) -> Paused:
        runs.append(Paused(tmp_path / "pauses", pauses, "fold", fasta, atlas, "--model", "nano"))
        return runs[-1]

    yield begin
    for run in runs:
        run.end()


def runs_of(atlas: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in AtlasFolder(atlas).entries().values():
        counts[entry.run.run_id] = counts.get(entry.run.run_id, 0) + 1
    return counts


@pytest.mark.slow
def test_killed_child_and_killed_driver_change_nothing(
    tmp_path: Path, short_proteins: str, whole: Path, run: Callable[..., subprocess.CompletedProcess[str]],
    tables: Callable[[Path], dict[str, object]], start: Callable[..., Paused],
) -> None:  # fmt: skip
    broken = tmp_path / "broken"
    driver = start(short_proteins, broken, 2, 4)
    driver.wait_before(2)
    (child,) = children_of(driver.process.pid)
    os.kill(child, signal.SIGKILL)  # a killed child alone does not stop the run
    driver.go_on(2)
    driver.wait_before(4)
    (child,) = children_of(driver.process.pid)
    driver.process.kill()
    driver.process.wait()
    committed = len(AtlasFolder(broken).entries())
    assert committed == 3
    wait_until(lambda: not is_running(child))

    # what is visible is whole: an index of the unfinished atlas, and no file that no entry lists but hidden ones
    half = run("index", broken)
    assert half.returncode == 0 and "still to fold" in half.stdout
    assert run("verify", broken).returncode == 0

    again = run("fold", short_proteins, broken, "--model", "nano")
    assert again.returncode == 0, again.stderr
    assert again.stdout == "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"
    assert tables(broken) == tables(whole)
    assert run("verify", broken).returncode == 0
    # the second run folded what was not committed, and nothing else; nothing is left of the attempt that was cut
    shards = len(AtlasFolder(broken).entries())
    assert sorted(runs_of(broken).values()) == sorted([committed, shards - committed])
    listed = {file.path for entry in AtlasFolder(broken).entries().values() for file in entry.files.values()}
    for table in ("structures", "scores", "failures"):
        assert {str(path.relative_to(broken)) for path in (broken / table).iterdir()} <= listed


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_polite_request_ends_the_run_without_a_traceback(
    tmp_path: Path, short_proteins: str, run: Callable[..., subprocess.CompletedProcess[str]],
    start: Callable[..., Paused], number: int, code: int,
) -> None:  # fmt: skip
    driver = start(short_proteins, tmp_path / "atlas", 3)
    driver.wait_before(3)
    (child,) = children_of(driver.process.pid)
    driver.process.send_signal(number)
    _, errors = driver.process.communicate(timeout=300)
    assert driver.process.returncode == code, errors
    assert "Traceback" not in errors
    assert "run the same command again" in errors
    wait_until(lambda: not is_running(child))
    again = run("fold", short_proteins, tmp_path / "atlas", "--model", "nano")
    assert again.stdout == "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"
