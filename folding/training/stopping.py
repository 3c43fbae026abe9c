"""Ctrl-C and SIGTERM stop a training run between two steps, after a checkpoint is saved."""

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Any, Final

_EXIT_CODES: Final[dict[int, int]] = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Stop:
    """True once a stop was requested; `exit_code` is then the exit code of the program."""

    exit_code: int | None = None

    def __bool__(self) -> bool:
        return self.exit_code is not None


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Within the block, record the first SIGINT or SIGTERM; a second one has its usual effect. Main thread only."""
    stop = Stop()
    previous: dict[int, Any] = {}

    def record(number: int, frame: FrameType | None) -> None:
        stop.exit_code = _EXIT_CODES[number]
        for name, handler in previous.items():
            signal.signal(name, handler)

    for name in _EXIT_CODES:
        previous[name] = signal.signal(name, record)
    try:
        yield stop
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
