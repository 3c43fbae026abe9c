"""Ctrl-C and SIGTERM as a flag that work looks at, so that a run ends between batches and without a traceback."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from foldatlas.schemas.errors import Interrupted

_stop = threading.Event()
_signals: list[int] = []


def stopping() -> bool:
    """Whether the run is to stop."""
    return _stop.is_set()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within the block a first SIGINT or SIGTERM sets the flag; a second one acts as it always does.

    At the end of a block that was asked to stop raises Interrupted, with exit code 130 or 143. In a thread other than
    the main one, where Python has no signals, the block runs as it is.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: FrameType | None) -> None:
        _signals.append(number)
        _stop.set()
        for name, handler in previous.items():
            signal.signal(name, handler)

    _stop.clear()
    _signals.clear()
    previous = {name: signal.signal(name, ask) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        try:
            yield
        except Exception:
            if not _stop.is_set():
                raise  # else it is only how the work took the request
        if _stop.is_set():
            raise Interrupted("stopped on request: run the same command again to go on", exit_code=128 + _signals[0])
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
        _stop.clear()
