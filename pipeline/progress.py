"""Progress of a run: events of the work, shown as a bar on a terminal or as lines in a log."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from tqdm import tqdm

_LOG_SECONDS: Final = 30.0  # between two lines where standard error is not a terminal


class BatchDone(NamedTuple):
    """A batch is finished: its residues (of another stage, its items), and its predicted cost (of folding, in
    MFLOP)."""

    residues: int
    cost: int


class ShardDone(NamedTuple):
    """A shard was committed: proteins folded and failed."""

    folded: int
    failed: int


Event = BatchDone | ShardDone
_listeners: list[Callable[[Event], None]] = []
_diverted = threading.local()


def report(event: Event) -> None:
    """Pass `event` to the listeners of this process, or to the one that this thread's events are diverted to."""
    for listener in getattr(_diverted, "listeners", _listeners):
        with suppress(OSError):  # a closed terminal must not end the work
            listener(event)


@contextmanager
def listening(listener: Callable[[Event], None]) -> Iterator[None]:
    """Within the block, call `listener` with each event of this process."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def diverted(listener: Callable[[Event], None]) -> Iterator[None]:
    """Within the block, call `listener` alone with each event of this thread.

    For a worker that sends its events to a driver: where both are in one process, each event must be counted once.
    """
    _diverted.listeners = [listener]
    try:
        yield
    finally:
        del _diverted.listeners


class Progress:
    """Counts events and shows them on stderr. The bar measures predicted cost, so that the time left is right although
    long proteins cost far more per residue than short ones."""

    def __init__(self, shards: int, cost: int, *, show: bool = True, doing: str = "folding", unit: str = "residues"):
        self._shards = shards
        self._doing, self._unit = doing, unit
        self._shards_done = self._residues = self._failed = 0
        self._started = self._logged = time.monotonic()
        self._show = show
        self._bar = tqdm(
            total=cost,
            disable=not (show and _has_width()),
            desc=doing,
            bar_format="{desc} {percentage:3.0f}%|{bar}| [{elapsed}, {remaining} left]",
            leave=False,
        )

    def __call__(self, event: Event) -> None:
        if isinstance(event, ShardDone):
            self._shards_done += 1
            self._failed += event.failed
        else:
            self._residues += event.residues
            self._bar.update(event.cost)
        self._bar.set_description_str(f"{self._doing}: {self._text()}")
        if self._show and self._bar.disable and time.monotonic() - self._logged > _LOG_SECONDS:
            self._logged = time.monotonic()
            print(f"{self._doing}: {self._text()}", file=sys.stderr, flush=True)

    def _text(self) -> str:
        rate = self._residues / max(time.monotonic() - self._started, 1e-3)
        failed = f", {self._failed:,} failed" if self._failed else ""
        return (
            f"shard {self._shards_done:,}/{self._shards:,}{failed}, {rate:,.{0 if rate >= 10 else 1}f} {self._unit}/s"
        )

    def close(self) -> None:
        self._bar.close()


def _has_width() -> bool:
    """Return whether messages go to a terminal that can show a bar."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):
        return False


@contextmanager
def shown(
    shards: int, cost: int, *, show: bool = True, doing: str = "folding", unit: str = "residues"
) -> Iterator[None]:
    """Within the block, show the events of this process: what is being done, and how many units of what."""
    progress = Progress(shards, cost, show=show, doing=doing, unit=unit)
    try:
        with listening(progress):
            yield
    finally:
        progress.close()
