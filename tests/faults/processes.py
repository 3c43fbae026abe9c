"""Runs of the command in the background: started, watched, killed, and nothing of them left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

HERE = Path(__file__).parent
COMMANDS = {
    "fake": [sys.executable, "-P", str(HERE / "driver.py")],
    "nano": [sys.executable, "-m", "foldatlas.jobs.cli"],
}
MARK = "FOLDATLAS_FAULTS"  # in the environment of every process of a harness
LOOK_SECONDS = 0.0005
PATIENCE_SECONDS = 300.0


class Driver:
    """One run of `foldatlas fold`, with its messages in a file."""

    def __init__(
        self,
        network: str,
        arguments: list[str],
        log: Path,
        environment: Mapping[str, str],
        before: Callable[[], None] | None = None,
    ):
        self._log = log.open("ab")
        self._start = self._log.tell()
        self.log = log
        self.process = subprocess.Popen(
            [*COMMANDS[network], *arguments],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            env={**os.environ, **environment},
            preexec_fn=before,
        )

    def wait(self) -> int:
        """Its exit code, when it has ended by itself."""
        try:
            return self.process.wait(PATIENCE_SECONDS)
        finally:
            self.process.kill()
            self.process.wait()
            self._log.close()

    def wait_until(self, condition: Callable[[], bool]) -> bool:
        """Whether `condition` came true while it ran."""
        end = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < end:
            if condition():
                return True
            time.sleep(LOOK_SECONDS)
        return False

    def kill(self) -> bool:
        """SIGKILL; whether it was running."""
        self.process.kill()
        return self.wait() == -signal.SIGKILL

    def said(self) -> str:
        return self.log.read_bytes()[self._start :].decode()


def children_of(process: int) -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*") if _field(path, 1) == str(process) and _lives(path)]


def _field(path: Path, number: int) -> str:
    """A field of /proc/N/stat, counted from the state, which is 0."""
    try:
        return (path / "stat").read_text().rpartition(")")[2].split()[number]
    except (OSError, IndexError):
        return ""


def _lives(path: Path) -> bool:
    return _field(path, 0) not in ("", "Z", "X")


def left_over(mark: str, seconds: float = 120.0) -> list[str]:
    """Processes of this harness that still run after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            try:
                environment = (path / "environ").read_bytes()
            except OSError:
                continue
            if f"{MARK}={mark}".encode() in environment.split(b"\0") and _lives(path) and path.name != str(os.getpid()):
                found.append(f"process {path.name} is left")
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.05)
