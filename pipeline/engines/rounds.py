"""Runs work on tasks in rounds: what is not done after an engine says that it is, is submitted again.

Truth is what was committed, which `left` reads. A task that kills its workers ends a round of Dask's early, so rounds
that did something do not count against the limit.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from foldatlas.pipeline import events
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.interruption import stopping

ROUNDS: Final = 3  # that may pass without any task done
Task = TypeVar("Task")


def run_in_rounds(
    label: str, tasks: Sequence[Task], work: Callable[[Any], None], engine: Engine, left: Callable[[], list[Task]]
) -> list[Task]:
    """Run `work` on each of `tasks`, and again on what `left()` gives, until that is nothing, the run is to stop, or
    ROUNDS rounds did nothing. Return what is left then."""
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
