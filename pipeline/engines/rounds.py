"""Run work on tasks in rounds: submit again the tasks that are not done when the engine reports success.

Only what was committed counts, which `left` reads. A task that kills its workers ends a round of Dask's early, so
rounds that made progress do not count against the limit.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from foldatlas.pipeline import events
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.interruption import stopping
from foldatlas.schemas.errors import IncompleteError

ROUNDS: Final = 3  # without progress
_LISTED: Final = 5  # tasks that an error names
Task = TypeVar("Task")


def run_in_rounds(
    label: str, tasks: Sequence[Task], work: Callable[[Any], None], engine: Engine, left: Callable[[], list[Task]]
) -> list[Task]:
    """Run `work` on each of `tasks`, then on what `left()` returns, until nothing is left, the run is to stop, or
    ROUNDS rounds made no progress. Return the tasks that are left."""
    todo = list(tasks)
    rounds = fruitless = 0
    while todo and not stopping() and fruitless < ROUNDS:
        rounds += 1
        if rounds > 1:
            events.emit("round_submitted", level=events.WARNING, round=rounds, shards=len(todo))
        dispatch.run(label, todo, work, engine)
        submitted = len(todo)
        todo = left()
        fruitless += len(todo) == submitted
    return todo


def refuse_incomplete(left: Sequence[str], total: int, what: str = "shards") -> None:
    """Raise IncompleteError if tasks are `left` of `total`; it lists the first of their names."""
    if left:
        listed = ", ".join(left[:_LISTED]) + (", ..." if len(left) > _LISTED else "")
        raise IncompleteError(
            f"{len(left)} of {total} {what} are not done ({listed}): see the messages above, and run again"
        )
