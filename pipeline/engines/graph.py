"""The one Beam graph of all work: descriptors are shuffled, and a plain function processes each.

Engines have different faults. This shape, with one output that is not read, no side input and no state, was right on
all that were tested (docs/decisions/0003-one-graph.md). What was done is read from the files that the function commits,
never from the output collection. dispatch.py runs the graph.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from foldatlas.pipeline.engines.beam import beam
from foldatlas.pipeline.interruption import stopping
from foldatlas.schemas.errors import FoldAtlasError

Descriptor = TypeVar("Descriptor")


class Work(beam.DoFn):
    """Calls `function` on each descriptor and yields whether it returned. Never raises: an exception from `process`
    fails the whole job on every engine, and one bad shard must not stop the others."""

    def __init__(self, label: str, function: Callable[[Any], None]):
        self._label = label
        self._function = function

    def process(self, descriptor: Any) -> Iterator[bool]:
        try:
            self._function(descriptor)
        except FoldAtlasError as error:
            if not stopping():  # otherwise the driver reports it, once
                logging.getLogger(__name__).error("%s: %s", self._label, error)
            yield False
        except Exception:
            beam.metrics.Metrics.counter("foldatlas", f"{self._label}_raised").inc()
            logging.getLogger(__name__).exception("%s: %r", self._label, descriptor)
            yield False
        else:
            beam.metrics.Metrics.counter("foldatlas", f"{self._label}_returned").inc()
            yield True


def build(pipeline: beam.Pipeline, label: str, descriptors: Sequence[Descriptor], work: Callable[[Any], None]) -> None:
    """Add the graph to `pipeline`: `Create | Reshuffle | ParDo`, one output each."""
    _ = (
        pipeline
        | f"{label}: descriptors" >> beam.Create(list(descriptors), reshuffle=False)
        | f"{label}: spread" >> beam.Reshuffle()
        | f"{label}: work" >> beam.ParDo(Work(label, work))
    )
