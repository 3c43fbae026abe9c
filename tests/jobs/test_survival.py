"""SIGKILL in the middle of a fold, with the real model: nothing is lost, nothing folds twice but what was in flight."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")


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


def wait_until(condition: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


class Driver:
    """`foldatlas fold` running in the background."""

    def __init__(self, fasta: str, atlas: Path):
        command = [sys.executable, "-m", "foldatlas.jobs.cli", "fold", fasta, str(atlas), "--model", "nano"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.atlas = atlas

    def committed(self) -> int:
        return len(list((self.atlas / "manifest").glob("[!.]*.json")))

    def wait_for_shards(self, number: int) -> None:
        wait_until(lambda: self.committed() >= number or self.process.poll() is not None)
        assert self.process.poll() is None, "it ended before the test could interfere"


@pytest.fixture
def start() -> Iterator[Callable[[str, Path], Driver]]:
    drivers: list[Driver] = []

    def begin(fasta: str, atlas: Path) -> Driver:
        drivers.append(Driver(fasta, atlas))
        return drivers[-1]

    yield begin
    for driver in drivers:
        driver.process.kill()
        driver.process.communicate()


def runs_of(atlas: Path) -> dict[str, int]:
    counts: dict[str, int] = {}
    for entry in AtlasFolder(atlas).entries().values():
        counts[entry.run.run_id] = counts.get(entry.run.run_id, 0) + 1
    return counts


def test_killed_child_and_killed_driver_change_nothing(
    tmp_path: Path, short_proteins: str, whole: Path, run: Callable[..., subprocess.CompletedProcess[str]],
    tables: Callable[[Path], dict[str, object]], start: Callable[[str, Path], Driver],
) -> None:  # fmt: skip
    broken = tmp_path / "broken"
    driver = start(short_proteins, broken)
    driver.wait_for_shards(1)
    (child,) = children_of(driver.process.pid)
    os.kill(child, signal.SIGKILL)  # a killed child alone does not stop the run
    driver.wait_for_shards(3)
    (child,) = children_of(driver.process.pid)
    driver.process.kill()
    driver.process.wait()
    committed = driver.committed()
    wait_until(lambda: not is_running(child), 10)

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
    start: Callable[[str, Path], Driver], number: int, code: int,
) -> None:  # fmt: skip
    driver = start(short_proteins, tmp_path / "atlas")
    driver.wait_for_shards(2)
    (child,) = children_of(driver.process.pid)
    driver.process.send_signal(number)
    _, errors = driver.process.communicate(timeout=30)
    assert driver.process.returncode == code, errors
    assert "Traceback" not in errors
    assert "run the same command again" in errors
    assert not is_running(child)
    again = run("fold", short_proteins, tmp_path / "atlas", "--model", "nano")
    assert again.stdout == "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"
