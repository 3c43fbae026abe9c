"""The flag that ends a run between batches: set by Ctrl-C and SIGTERM, and by errors that every shard would meet."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

from foldatlas.atlas.storage.retries import stop_waiting_when
from foldatlas.schemas.errors import FoldAtlasError, Interrupted, StoreError

# SIGTERM announces that a machine is taken away (Slurm and Kubernetes then wait 30 s, spot machines 30 to 120 s). The
# current batch is abandoned at once, which takes a second or two. If a device or a file system hangs, the process exits
# this long after the signal. Nothing that was committed depends on how it ends.
GRACE_SECONDS: Final = 10.0

_stop = threading.Event()
_signals: list[int] = []
_fatal: list[Exception] = []


def stopping() -> bool:
    """Return whether the run is to stop."""
    return _stop.is_set()


def raise_if_stopping() -> None:
    """Raise Interrupted if the run is to stop."""
    if stopping():
        raise Interrupted


stop_waiting_when(stopping)


def give_up(error: Exception) -> None:
    """End this process's run with `error`, for example a model that cannot be loaded or a full disk."""
    _fatal.append(error)
    _stop.set()


def given_up() -> Exception | None:
    """Return the error that ended this process's run (`give_up`), or None."""
    return _fatal[0] if _fatal else None


def request_stop() -> None:
    """Set the flag, in a process that works for a driver in another one."""
    _stop.set()


def reset() -> None:
    """Clear the flag and the error of an earlier run, in a process that works for several runs."""
    _fatal.clear()
    _stop.clear()


@contextlib.contextmanager
def giving_up_if_unwritable(what: str) -> Iterator[None]:
    """Give up the run if the block cannot write into the atlas (a full disk, no hard links): all other work would fail
    too. Raise FoldAtlasError that names `what` could not be written."""
    try:
        yield
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        failure = FoldAtlasError(
            f"{what} could not be written: {error.strerror or error}{where}; correct that and run the "
            "same command again"
        )
        give_up(failure)
        raise failure from error
    except FoldAtlasError as error:
        if type(error) is FoldAtlasError or isinstance(error, StoreError):
            give_up(error)
        raise


@contextlib.contextmanager
def interruptible(next_step: str = "run the same command again to resume") -> Iterator[None]:
    """Within the block, let a first SIGINT or SIGTERM set the flag.

    A second signal has its usual effect: Ctrl-C raises KeyboardInterrupt, SIGTERM ends the process. If the block does
    not end within GRACE_SECONDS of a SIGTERM, the process exits. When a stopped block ends, raise Interrupted with exit
    code 130 or 143 and `next_step` in its message, or the error of `give_up`. In a thread other than the main one,
    where Python delivers no signals, only the latter applies.
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
    # started here, since a thread started by a signal handler can deadlock on a lock of the interrupted thread
    arguments = (terminated, left, next_step)
    grace = threading.Thread(target=_end_in_time, args=arguments, name="foldatlas-grace", daemon=True)
    grace.start()
    ended_hard = False
    try:
        try:
            yield
        except Exception:
            if not _stop.is_set():
                raise  # otherwise the exception is a result of the stop
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
        grace.join(1.0)  # with a running thread at the end of the interpreter DuckDB prints 40 lines about leaks
        if not ended_hard:  # otherwise the flag ends the work of other threads, for which the process waits
            _stop.clear()


def _end_in_time(terminated: threading.Event, left: threading.Event, next_step: str) -> None:
    """Exit if the block has not ended within GRACE_SECONDS of a SIGTERM."""
    terminated.wait()
    if not left.wait(GRACE_SECONDS):
        with contextlib.suppress(OSError):
            os.write(2, f"foldatlas: stopped on request, without waiting for work that hangs: {next_step}\n".encode())
        os._exit(128 + signal.SIGTERM)
