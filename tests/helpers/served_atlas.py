"""`foldatlas serve` as a user starts it, in a process of its own."""

import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def served(atlas: Path, *options: str, temporary: Path | None = None) -> Iterator[str]:
    """The URL of a server of `atlas`. Raise AssertionError if it does not end when it is asked to."""
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "serve", str(atlas), "--port", "0", *options]
    environment = dict(os.environ) if temporary is None else {**os.environ, "TMPDIR": str(temporary)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    lines: list[str] = []
    urls = (line.split()[-1] for line in process.stderr if not lines.append(line) and line.startswith("serving "))
    url = next(urls, None)
    assert url is not None, "".join(lines)
    reading = threading.Thread(target=lambda: lines.extend(process.stderr or []), daemon=True)
    reading.start()
    try:
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143, "".join(lines)
        reading.join(60)
        process.stderr.close()


def wait_for_explorer(url: str) -> None:
    """Return when the explorer of a server answers: before, a browser's console has its answers 503."""
    while True:
        try:
            with urllib.request.urlopen(f"{url}/v1/explore/columns"):
                return
        except urllib.error.HTTPError as error:
            assert error.code == 503, error
            time.sleep(0.1)
