"""Beam's program `prism`, started for one job.

Beam can start it too, but then Beam handles Ctrl-C, prints its steps, and leaves the program running when the driver is
killed.
"""

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from foldatlas.schemas.errors import EngineError, UsageError

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 5.0
# The program is not ours, so that it ends with its parent is arranged before exec, which prctl survives. It has a
# session of its own, so that Ctrl-C on a terminal reaches only the driver.
_LAUNCH: Final = (
    "import ctypes,os,signal,sys\n"
    "if sys.platform == 'linux': ctypes.CDLL(None).prctl(1, signal.SIGKILL)\n"
    "if os.getppid() != int(sys.argv[1]): os._exit(1)\n"
    "os.execv(sys.argv[2], sys.argv[2:])\n"
)


@contextlib.contextmanager
def prism(program: str, *, log_level: str = "error") -> Iterator[str]:
    """Within the block, run `program`. Give the address of its job service. It ends with the block, and with the thread
    that entered the block.

    Raise UsageError if it cannot be executed, EngineError if it ends or does not answer.
    """
    path = Path(program).resolve()
    if not os.access(path, os.X_OK):
        raise UsageError(f"--prism_location={program} cannot be executed: chmod +x {program}")
    port = _free_port()
    options = [f"--job_port={port}", f"--log_level={log_level}", "--log_kind=text", "--serve_http=false"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", _LAUNCH, str(os.getpid()), str(path), *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            _wait_until_it_answers(process, port, log)
            yield f"localhost:{port}"
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(address: str, seconds: float) -> bool:
    """Return whether `address` (HOST:PORT) accepts a connection within `seconds`."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=seconds):
            return True
    except (OSError, ValueError, OverflowError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int, log: IO[bytes]) -> None:
    end = time.monotonic() + START_SECONDS
    while not answers(f"localhost:{port}", 1):
        if process.poll() is not None:
            log.seek(0)
            lines = log.read().decode(errors="replace").strip().splitlines()
            reason = f": {lines[-1][:300]}" if lines else ""
            raise EngineError(f"prism ended with exit code {process.returncode} before it accepted a job{reason}")
        if time.monotonic() > end:
            raise EngineError(f"prism accepted no connection within {START_SECONDS:.0f} s")
        time.sleep(0.05)
