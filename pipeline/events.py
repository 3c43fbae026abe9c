"""A run's log for programs: JSON lines, one object per event, appended to one file by all processes that can open it.

Each line is one `write` to a file opened for appending, so lines of several processes do not mix (on a local disk; over
NFS a line may be lost when two write at once). Where the file cannot be opened, as on a machine without access to the
folder, lines go to standard error instead. Only the manifest says what is done, not this log: a process that is killed
between a commit and its line has committed. `docs/operations.md` lists the events.
"""

import contextlib
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from foldatlas.atlas.folder import now
from foldatlas.schemas.errors import Interrupted, UsageError

STANDARD_ERROR: Final = "-"
INFO, WARNING, ERROR = "info", "warning", "error"


@dataclass(frozen=True)
class Log:
    """Where events go (an absolute path, or "-" for standard error), and the id of their run."""

    path: str
    run_id: str


_lock = threading.Lock()
_current: Log | None = None
_descriptor: int | None = None  # None: standard error


def new_run_id() -> str:
    """Return an id of a run: its time in UTC and six random digits."""
    return f"{now()[:19].replace(':', '')}-{secrets.token_hex(3)}"


def absolute(path: str | None) -> str | None:
    """Return `path` in a form that is valid in every process. Raise UsageError if it cannot be appended to."""
    if path is None or path == STANDARD_ERROR:
        return path
    whole = str(Path(path).absolute())
    try:
        os.close(_open(whole))
    except OSError as error:
        raise UsageError(f"--log {path} cannot be written: {error.strerror or error}") from error
    return whole


def begin(log: Log | None) -> None:
    """Send this process's events to `log` from now on (None: nowhere). Cheap if `log` has not changed."""
    global _current, _descriptor
    with _lock:
        if log == _current:
            return
        if _descriptor is not None:
            os.close(_descriptor)
        _current, _descriptor = log, None
        if log is not None and log.path != STANDARD_ERROR:
            with contextlib.suppress(OSError):  # a machine without access to the folder
                _descriptor = _open(log.path)


def emit(event: str, *, level: str = INFO, **fields: Any) -> None:
    """Write one event: time, level, event, run_id, host, pid, and `fields` (values that JSON has). A log that cannot be
    written raises nothing, since the work must not stop for it."""
    with _lock:
        if _current is None:
            return
        record = {
            "time": now(),
            "level": level,
            "event": event,
            "run_id": _current.run_id,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            **fields,
        }
        line = json.dumps(record, default=str).encode() + b"\n"
        with contextlib.suppress(OSError, ValueError):
            os.write(sys.stderr.fileno() if _descriptor is None else _descriptor, line)


@contextlib.contextmanager
def end_logged(event: str, **fields: Any) -> Iterator[dict[str, Any]]:
    """Emit `event` when the block ends, then stop logging in this process.

    The event has `fields`, the outcome ("complete", "interrupted" or "failed") with its reason, the content of the
    dictionary that the block is given, and the block's seconds.
    """
    began = time.monotonic()
    ended: dict[str, Any] = {}
    outcome, level, reason = "complete", INFO, {}
    try:
        yield ended
    except (Interrupted, KeyboardInterrupt) as stop:
        outcome, level, reason = "interrupted", WARNING, {"reason": str(stop) or "stopped at once"}
        raise
    except BaseException as error:
        outcome, level, reason = "failed", ERROR, {"reason": str(error)}
        raise
    finally:
        seconds = round(time.monotonic() - began, 3)
        emit(event, level=level, **{**fields, "outcome": outcome, **reason, **ended, "seconds": seconds})
        begin(None)


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
