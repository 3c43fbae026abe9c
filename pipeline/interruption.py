"""The flag that ends a run between batches: set by Ctrl-C and SIGTERM, and by errors that no other shard can escape."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

from foldatlas.atlas.storage.retries import stop_waiting_when
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, StoreError

# SIGTERM comes before a machine is taken away (Slurm and Kubernetes then wait 30 s, spot machines 30 to 120 s). The
# batch in hand is abandoned at once, which takes a second or two; whatever hangs then, a device or a file system, this
# long after the signal the process is gone. Nothing that was committed depends on how it ends.
GRACE_SECONDS: Final = 10.0

_stop = threading.Event()
_signals: list[int] = []
_fatal: list[Exception] = []


def stopping() -> bool:
    """Whether the run is to stop."""
    return _stop.is_set()


def raise_if_stopping() -> None:
    """Raise Interrupted if the run is to stop."""
    if stopping():
        raise Interrupted


stop_waiting_when(stopping)


def give_up(error: Exception) -> None:
    """Ends the run of this process with `error`: the model cannot be loaded, the disk is full."""
    _fatal.append(error)
    _stop.set()


def given_up() -> Exception | None:
    """The error that this process's run was given up for, or None."""
    return _fatal[0] if _fatal else None


def ask_to_stop() -> None:
    """Sets the flag in a process that serves a driver elsewhere."""
    _stop.set()


def begin_afresh() -> None:
    """Takes back what an earlier run left in a process that serves many."""
    _fatal.clear()
    _stop.clear()


@contextlib.contextmanager
def giving_up_if_unwritable(what: str) -> Iterator[None]:
    """Around work that writes into the atlas: what hinders it (a full disk, no hard links) would hinder all other work
    too, so the run is given up, with an error that says `what` could not be written."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        failure = FoldAtlasError(
            f"{what} could not be written: {error.strerror or error}{where}; run the same command again when that is "
            "mended"
        )
        give_up(failure)
        raise failure from error
    except FoldAtlasError as error:
        if type(error) is FoldAtlasError or isinstance(error, StoreError):
            give_up(error)
        raise


@contextlib.contextmanager
def interruptible(next_step: str = "run the same command again to go on") -> Iterator[None]:
    """Within the block a first SIGINT or SIGTERM sets the flag; a second one acts as it always does: Ctrl-C raises
    KeyboardInterrupt, SIGTERM ends the process. A block that SIGTERM does not end within GRACE_SECONDS is ended with
    its process.

    At the end of a block that was asked to stop raises Interrupted, with exit code 130 or 143, or the error that it was
    given up for. In a thread other than the main one, where Python has no signals, only the latter.
    """
    terminated, left = threading.Event(), threading.Event()

    def ask(number: int, _frame: FrameType | None) -> None:
        _signals.append(number)
        _stop.set()
        if number == signal.SIGTERM:
            terminated.set()
        for name, handler in previous.items():
            signal.signal(name, handler)

    _stop.clear()
    _signals.clear()
    _fatal.clear()
    is_main = threading.current_thread() is threading.main_thread()
    previous = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)} if is_main else {}
    # begun here: a thread that a signal handler begins can meet a lock of its own thread
    arguments = (terminated, left, next_step)
    grace = threading.Thread(target=_end_in_time, args=arguments, name="foldatlas-grace", daemon=True)
    grace.start()
    ended_hard = False
    try:
        try:
            yield
        except Exception:
            if not _stop.is_set():
                raise  # else it is only how the work took the request
        except BaseException:
            ended_hard = True
            _stop.set()
            raise
        if _fatal:
            raise _fatal[0]
        if _stop.is_set():
            raise Interrupted(f"stopped on request: {next_step}", exit_code=128 + _signals[0])
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
        left.set()
        terminated.set()
        grace.join(1.0)  # a thread that the end of the interpreter meets makes DuckDB print 40 lines on what it leaked
        if not ended_hard:  # else the flag ends what other threads still do: the process waits for them
            _stop.clear()


def _end_in_time(terminated: threading.Event, left: threading.Event, next_step: str) -> None:
    """Ends the process when SIGTERM came and the block is not left within the grace."""
    terminated.wait()
    if not left.wait(GRACE_SECONDS):
        with contextlib.suppress(OSError):
            os.write(2, f"foldatlas: stopped on request, without waiting for what hangs: {next_step}\n".encode())
        os._exit(128 + signal.SIGTERM)
