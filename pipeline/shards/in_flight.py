"""Batches of a shard on a device that is never idle: one is computed while the next waits in the device's process.

Results come in the order of the batches. A batch that fails is tried again, and halved (bisection.py), while no other
is in flight, so that its error can have no other cause:

- Batches behind it are answered first, and keep their results, or their own errors.
- If the process ended, the batches behind it were lost with it and are sent again as if for the first time. It ended
  while it computed the batch that failed, or when that was computed and its results not yet sent. In the second case
  the crash is another batch's, and the second try, alone, succeeds.

A batch that does not fit into the memory of a fresh process shows how much fits: later batches that are predicted to
need as much are halved before they are sent.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.shards.bisection import fold_with_bisection
from foldatlas.pipeline.workers.supervisor import MAX_IN_FLIGHT, BatchError
from foldatlas.schemas.errors import OutOfMemory, WorkerDied, WorkerTimeout

# Errors of a batch; all others end the run.
_BATCH_ERRORS: Final = (WorkerDied, WorkerTimeout, OutOfMemory, BatchError)


class Device(Protocol):
    """What is needed of the process that owns the device: `workers.supervisor.Session` describes it."""

    too_large_bytes: float

    @property
    def in_flight(self) -> int: ...
    @property
    def is_fresh(self) -> bool: ...
    def submit(self, sequences: list[str], cost: int, **arguments: Any) -> None: ...
    def answer(self) -> list[Any]: ...
    def renew(self) -> bool: ...


@dataclass(frozen=True)
class Work:
    """What the batches of a shard have in common.

    cost: the predicted MFLOP of a batch.
    memory: the predicted bytes of its activations.
    arguments: keyword arguments of the child's function.
    """

    cost: Callable[[Sequence[str]], int]
    memory: Callable[[Sequence[str]], int]
    arguments: Mapping[str, Any]


def compute_in_order(device: Device, batches: Iterable[list[str]], work: Work) -> Iterator[tuple[list[str], list[Any]]]:
    """Yield each batch and its results: for each protein that of the device, or Failed.

    Raise Interrupted when the run is to stop, and ModelError for a model that cannot be loaded.
    """
    remaining = iter(batches)
    lost: deque[list[str]] = deque()  # to be sent again, before the remaining ones
    sent: deque[list[str]] = deque()
    answered: tuple[list[str], list[Any]] | None = None
    while True:
        raise_if_stopping()
        error: Exception | None = None
        # 1. Keep the device's process supplied, and only then pass on what it answered.
        try:
            while len(sent) < MAX_IN_FLIGHT:
                batch = lost.popleft() if lost else next(remaining, None)
                if batch is None:
                    break
                first, *rest = _parts(batch, device, work)
                lost.extendleft(reversed(rest))
                sent.append(first)
                device.submit(first, work.cost(first), **work.arguments)
        except _BATCH_ERRORS as raised:
            error = raised
        if answered is not None:
            yield answered
            answered = None
        if not sent:
            return
        # 2. Wait for the batch that was sent first.
        if error is None:
            try:
                answered = sent[0], device.answer()
            except _BATCH_ERRORS as raised:
                error = raised
        batch = sent.popleft()
        if error is None:
            continue
        # 3. It failed. Wait for the others, unless they were lost with the process; then find the protein at fault.
        others = list(_settled(device, sent))
        yield batch, _bisected(device, batch, error, work)
        for other, outcome in others:
            yield other, outcome if isinstance(outcome, list) else _bisected(device, other, outcome, work)
        lost.extendleft(reversed(sent))
        sent.clear()


def _settled(device: Device, sent: deque[list[str]]) -> Iterator[tuple[list[str], list[Any] | Exception]]:
    """Yield the batches of `sent` that are in flight, with their results or errors, and remove them from it."""
    while device.in_flight:
        outcome: list[Any] | Exception
        try:
            outcome = device.answer()
        except _BATCH_ERRORS as error:
            outcome = error
        yield sent.popleft(), outcome


def _parts(batch: list[str], device: Device, work: Work) -> list[list[str]]:
    """Return `batch`, halved until each part is predicted to fit, or has one protein."""
    if len(batch) == 1 or work.memory(batch) < device.too_large_bytes:
        return [batch]
    middle = len(batch) // 2
    return [part for half in (batch[:middle], batch[middle:]) for part in _parts(half, device, work)]


def _bisected(device: Device, batch: list[str], error: Exception, work: Work) -> list[Any]:
    """Return the results of a batch that failed with `error` when it was in flight with others."""
    alone = _Alone(device, work, batch, error)
    return fold_with_bisection(alone.compute, batch, renew=alone.renew)


class _Alone:
    """Tries of a batch and its halves with nothing else in flight; `error` is that of the first try, made before."""

    def __init__(self, device: Device, work: Work, batch: list[str], error: Exception):
        self._device, self._work = device, work
        self._part, self._first_error = batch, [error]

    def compute(self, part: list[str]) -> list[Any]:
        self._part, was_fresh = part, self._device.is_fresh
        try:
            if self._first_error:
                raise self._first_error.pop()
            raise_if_stopping()
            self._device.submit(part, self._work.cost(part), **self._work.arguments)
            return self._device.answer()
        except OutOfMemory:
            if was_fresh and len(part) > 1:
                needed = self._work.memory(part)
                self._device.too_large_bytes = min(self._device.too_large_bytes, needed)
            raise

    def renew(self) -> bool:
        """End a process that may hold memory of earlier batches, unless as much did not fit into a fresh one either."""
        return len(_parts(self._part, self._device, self._work)) == 1 and self._device.renew()
