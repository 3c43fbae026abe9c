"""Ctrl-C and SIGTERM end a run between two steps, so that what was learnt is saved."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

_EXIT_CODES: Final[dict[int, int]] = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """Whether the run was asked to stop, and with which exit code it then ends."""

    exit_code: int | None = None

    def __bool__(self) -> bool:
        return self.exit_code is not None


@contextlib.contextmanager
def stoppable() -> Iterator[Stop]:
    """Within the block the first SIGINT or SIGTERM is noted; the next acts as it always does. Main thread alone."""
    stop = Stop()
    previous: dict[int, Any] = {}

    def note(number: int, frame: FrameType | None) -> None:
        stop.exit_code = _EXIT_CODES[number]
        for name, handler in previous.items():
            signal.signal(name, handler)

    for name in _EXIT_CODES:
        previous[name] = signal.signal(name, note)
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
