"""Halving a batch that fails down to the guilty protein, so that one bad protein costs no other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from foldatlas.pipeline import events
from foldatlas.pipeline.workers.supervisor import BatchError
from foldatlas.schemas.errors import OutOfMemory, WorkerDied, WorkerTimeout

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """A protein that could not be folded, or embedded: the reason, and how often it was tried."""

    sequence: str
    error: str
    attempts: int


def fold_with_bisection(
    fold: Callable[[list[str]], list[Result]],
    batch: list[str],
    attempts: int = 0,
    renew: Callable[[], bool] | None = None,
) -> list[Result | Failed]:
    """Folds a batch so that one bad protein costs no other: halves it down to the guilty one, which becomes Failed.
    `fold` gives a result for each protein, a prediction or an embedding.

    A process that died may have been killed from outside, so a death is held against a batch only when it is the
    second: a whole batch is tried once more before it is halved, and a protein alone once more before it is given up.
    The halves between have one try a level: if nothing is wrong with them, their parts fold. Nobody makes a process
    hang from outside, and finding out takes a deadline each time, so a protein that hangs alone has one try below the
    whole batch. A batch that does not fit into memory is tried once more if `renew` ends its process, so that the next
    try has a fresh one (False: it is fresh already): an old one may hold memory of earlier batches. After that, and
    where numbers are not finite, it would fail again: it is halved at once. `attempts`: how often these proteins were
    tried before.
    """
    error: Exception
    whole, alone = attempts == 0, len(batch) == 1
    for first_try in (True, False):
        attempts += 1
        try:
            return list(fold(batch))
        except (WorkerDied, WorkerTimeout) as death:
            error = death
            if not (first_try and (whole or (alone and isinstance(death, WorkerDied)))):
                break
        except OutOfMemory as refusal:
            error = refusal
            if not (first_try and renew is not None and renew()):
                break
        except BatchError as refusal:
            error = refusal
            break
    if len(batch) == 1:
        return [Failed(batch[0], str(error), attempts)]
    events.emit(
        "batch_halved",
        level=events.WARNING,
        proteins=len(batch),
        longest=max(map(len, batch)),
        attempts=attempts,
        reason=str(error),
    )
    middle = len(batch) // 2
    halves = batch[:middle], batch[middle:]
    return [result for half in halves for result in fold_with_bisection(fold, half, attempts, renew)]
