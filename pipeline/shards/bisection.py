"""Halve a batch that fails until the protein at fault is found, so that no other protein is lost with it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from foldatlas.pipeline import events
from foldatlas.pipeline.workers.supervisor import BatchError
from foldatlas.schemas.errors import OutOfMemory, WorkerDied, WorkerTimeout

Result = TypeVar("Result")


@dataclass(frozen=True)
class Failed:
    """A protein that could not be folded or embedded: the reason, and the number of tries."""

    sequence: str
    error: str
    attempts: int


def fold_with_bisection(
    fold: Callable[[list[str]], list[Result]],
    batch: list[str],
    attempts: int = 0,
    renew: Callable[[], bool] | None = None,
) -> list[Result | Failed]:
    """Fold a batch; halve it if it fails, down to the protein at fault, which becomes Failed.

    fold: returns a result (a prediction or an embedding) for each protein of a batch.
    attempts: how often these proteins were tried before.
    renew: ends the process that computes, so that the next try has a fresh one. Returns False if it is fresh already.

    Return a result for each protein, in order. How often a batch is tried depends on its error:

    WorkerDied      The process may have been killed from outside, so only a second crash counts: the whole batch is
                    tried again before it is halved, and a single protein before it fails. Halves in between have one
                    try, since their parts are tried anyway.
    WorkerTimeout   A hang has no cause outside, and each one costs a deadline: as WorkerDied, but a single protein of a
                    larger batch has one try.
    OutOfMemory     The process may hold memory of earlier batches: tried again if `renew` ends it.
    BatchError      It would fail again: halved at once.
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
