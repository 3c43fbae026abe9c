"""A Dask cluster as a user would start it: `dask scheduler`, `dask worker`s, TLS from files and the environment.

Linux and macOS. Processes are looked at with psutil, which Dask brings.
"""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import paused
import psutil

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.engines.dask.keys import make_keys

PATIENCE = 240.0  # seconds, for what takes a few on a machine that has nothing else to do


def until(condition: Callable[[], Any], what: str) -> Any:
    """What `condition` gives as soon as it is true. Raises AssertionError after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"not within {PATIENCE:.0f} s: {what}")


class Cluster:
    """A scheduler, and as many workers as are added. `environment` is what a client of it needs, too."""

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None):
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pauses = folder / "pauses"
        self.pauses.mkdir()
        self.environment = {**os.environ, **make_keys(folder), "PAUSES": str(self.pauses), **(settings or {})}
        self.file = folder / "scheduler.json"
        self.start_scheduler()

    def start_scheduler(self, port: str = "0") -> None:
        """Starts a scheduler; a second one takes the first one's place in the file."""
        self.file.unlink(missing_ok=True)
        options = ["--host", "127.0.0.1", "--port", port, "--no-dashboard", "--scheduler-file", str(self.file)]
        self.scheduler = self.start("scheduler", "--protocol", "tls", *options)
        self.address = until(self._address, "the scheduler's file")
        assert self.address.startswith("tls://")

    def _address(self) -> str:
        try:
            return str(json.loads(self.file.read_text())["address"])
        except (OSError, ValueError):
            return ""

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """`dask` with these arguments, in a folder where a path that is not absolute would show."""
        with (self.folder / f"log{len(self.processes)}").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        self.processes.append(process)
        return process

    def add_worker(self, *options: str) -> subprocess.Popen[bytes]:
        """A worker's nanny."""
        common = ["--scheduler-file", str(self.file), "--nthreads", "1", "--host", "127.0.0.1", "--no-dashboard"]
        return self.start("worker", *common, *options)

    def add_pausing_worker(self) -> subprocess.Popen[bytes]:
        """A worker's nanny. The worker pauses before its second commit (`wait_for_pause`, `end_pauses`)."""
        return self.add_worker("--preload", paused.__file__)

    def wait_for_pause(self, driver: "subprocess.Popen[str]") -> None:
        """Return when a worker pauses. Raise AssertionError if the driver has ended."""
        until(lambda: any(self.pauses.iterdir()) or driver.poll() is not None, "a worker pauses")
        assert driver.poll() is None, "it ended before the test could interfere"

    def end_pauses(self) -> None:
        shutil.rmtree(self.pauses)

    def wait_without_clients(self) -> None:
        """Return when the scheduler has noticed that every driver has ended, and has dropped their tasks."""
        import dask
        import distributed

        def is_alone(dask_scheduler: Any) -> bool:
            return len(dask_scheduler.clients) == 2 and not dask_scheduler.tasks  # this one, and a constant entry

        settings = {
            name.removeprefix("DASK_").lower().replace("__", "."): value
            for name, value in self.environment.items()
            if name.startswith("DASK_")
        }
        with (
            dask.config.set(settings),
            distributed.Client(self.address, set_as_default=False) as client,
        ):
            until(lambda: client.run_on_scheduler(is_alone), "the scheduler drops the tasks")

    def members(self) -> list[Any]:
        """The processes below those that were started: workers, and what folds."""
        return [child for process in self.processes for child in descendants(process.pid)]

    def end(self) -> None:
        family = self.members()
        for process in self.processes:
            process.kill()
        for child in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        for process in self.processes:
            process.wait()


@contextlib.contextmanager
def running(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A cluster in a new folder, which ends with the block. `settings` are of the environment of all its processes."""
    folder.mkdir()
    made = Cluster(folder, settings)
    try:
        yield made
    finally:
        made.end()


def write_proteins(path: Path, number: int, letters: str, seed: int) -> Path:
    """A FASTA file of `number` random proteins of 30 to 60 residues: enough for 8 shards."""
    chosen = random.Random(seed)
    texts = ["M" + "".join(chosen.choices(letters, k=chosen.randint(29, 59))) for _ in range(number)]
    path.write_text("".join(f">p{number}\n{text}\n" for number, text in enumerate(texts)))
    return path


def folded_alone(command: Sequence[str], fasta: Path, atlas: Path) -> Path:
    """The atlas of `fasta`, made by one process: what a cluster's is held against. `command` starts foldatlas."""
    done = subprocess.run(
        [*command, "fold", str(fasta), str(atlas), "--model", "nano"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    return atlas


def committed(atlas: Path) -> int:
    """How many entries there are."""
    return len(list((atlas / "manifest").glob("[!.]*.json")))


def runs_of(atlas: Path) -> Counter[str]:
    """How many shards each run has committed, by run id."""
    return Counter(entry.run.run_id for entry in AtlasFolder(atlas).entries().values())


def descendants(pid: int) -> list[Any]:
    """Processes below `pid`, as psutil's."""
    try:
        return list(psutil.Process(pid).children(recursive=True))
    except psutil.Error:
        return []


def worker_process(nanny: subprocess.Popen[bytes]) -> Any:
    """The worker process below its nanny, the parent of the process that folds; None while there is none."""
    return next((child for child in descendants(nanny.pid) if is_worker(child)), None)


def is_worker(process: Any) -> bool:
    return "spawn_main" in command_of(process)


def is_folding(process: Any) -> bool:
    """Whether it is the process that owns a device."""
    text = command_of(process)
    return "foldatlas.pipeline.workers.child" in text or "fake_child.py" in text


def command_of(process: Any) -> str:
    """Its command line; "" if it has ended."""
    try:
        return "" if process.status() == psutil.STATUS_ZOMBIE else " ".join(process.cmdline())
    except psutil.Error:
        return ""
