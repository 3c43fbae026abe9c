"""Events and errors of the work on one shard, the same for folding, imports and derived stages."""

import contextlib
from collections.abc import Iterator

from foldatlas.pipeline import events
from foldatlas.pipeline.interruption import giving_up_if_unwritable
from foldatlas.schemas.errors import Interrupted


@contextlib.contextmanager
def shard_work(log: events.Log | None, what: str, event: str = "shard", **described: object) -> Iterator[None]:
    """Within the block, write the events of a shard into `log`, and log how the block ends if it raises.

    `{event}_abandoned` is emitted for Interrupted, `{event}_failed` for other errors, both with `described`. A disk
    that cannot be written ends the run, since every other shard would meet it; `what` names the shard in that error.
    """
    events.begin(log)
    try:
        with giving_up_if_unwritable(what):
            yield
    except Interrupted:
        events.emit(f"{event}_abandoned", level=events.WARNING, **described)
        raise
    except Exception as error:
        events.emit(f"{event}_failed", level=events.ERROR, **described, reason=str(error))
        raise
