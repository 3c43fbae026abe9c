"""The server's side of the program that runs one search."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from foldatlas.atlas.serve.cage.processes import KEPT_VARIABLES, ONE_THREAD
from foldatlas.atlas.serve.search import requests
from foldatlas.atlas.serve.search.requests import Failed, Found, Job, Message, Progress

# Beside KEPT_VARIABLES: MMseqs2, and where numba keeps compiled kernels.
_KEPT: Final = ("MMSEQS2_PATH", "XDG_CACHE_HOME", "TMPDIR")
_DELETIONS: Final = 20
_PAUSE: Final = 0.05  # seconds between two of them
_WORKER: Final = "foldatlas.atlas.serve.search.worker"
_ENDED: Final = Failed("killed", "the process of the search was killed: it needed too much memory or processor time")


class SearchProcess:
    """A process that waits for one search. It is started early, because importing what it needs takes a second.

    `warm`: make it ready for structures and embeddings, which takes minutes where numba has not compiled its kernels.
    """

    def __init__(self, *, warm: bool = True):
        self.temporary = Path(tempfile.mkdtemp(prefix="foldatlas-search-"))
        self._lock = threading.Lock()
        self._closed = False
        self._stopped: Failed | None = None
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", _WORKER, *((str(self.temporary),) if warm else ())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,  # tracebacks may show what was searched for
                env={name: os.environ[name] for name in (*KEPT_VARIABLES, *_KEPT) if name in os.environ} | ONE_THREAD,
                start_new_session=True,  # Ctrl-C is for the server; MMseqs2 is killed with the process
            )
        except BaseException:
            shutil.rmtree(self.temporary, ignore_errors=True)
            raise

    @property
    def is_alive(self) -> bool:
        """Whether the process still waits or runs."""
        with self._lock:
            return self._process.poll() is None

    def run(self, job: Job, on_progress: Callable[[str, float], None]) -> Found | Failed:
        """Run the search and return its result, or why there is none; then end the process and delete its files."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        try:
            requests.write(process.stdin, job)
            while True:
                message = requests.read(process.stdout, Message)  # type: ignore[arg-type]  # a union
                if isinstance(message, Progress):
                    on_progress(message.phase, message.fraction)
                elif isinstance(message, Found | Failed):
                    return message
                else:
                    return self._stopped or _ENDED
        except (BrokenPipeError, ValueError):  # it died; or it wrote no message of ours
            return self._stopped or _ENDED
        finally:
            self.close()

    def stop(self, reason: Failed) -> None:
        """Kill the process: `run` returns `reason`. Any thread may do this."""
        with self._lock:
            if not self._closed:
                self._stopped = reason
                self._kill()

    def close(self) -> None:
        """Kill the process, with MMseqs2 if it runs, and delete its files. Does nothing the second time."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        for _ in range(_DELETIONS):  # MMseqs2 dies after the process that is waited for, and may still write
            shutil.rmtree(self.temporary, ignore_errors=True)
            if not self.temporary.exists():
                break
            time.sleep(_PAUSE)

    def _kill(self) -> None:
        """Kill the process and its children. It leads a group, whose number is free only after it was waited for."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
