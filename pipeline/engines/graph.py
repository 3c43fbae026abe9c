"""The one Beam graph that everything runs in: descriptors, shuffled, each worked on by a plain function.

Engines differ in what they get wrong; this shape, with one output that nobody reads, no side input and no state, is
right on all that were tried (docs/decisions/0003-one-graph.md). What was done is told by the files that the function
commits, never by the collection that comes out. dispatch.py runs it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

from foldatlas.pipeline.engines.beam import beam
from foldatlas.pipeline.interruption import stopping
from foldatlas.schemas.errors import FoldAtlasError

Descriptor = TypeVar("Descriptor")


class Work(beam.DoFn):
    """Calls `function` on each descriptor and gives out whether it returned. Never raises: an exception that leaves
    `process` fails the whole job on every engine, and here one bad shard must not cost the others."""

    def __init__(self, label: str, function: Callable[[Any], None]):
        self._label = label
        self._function = function

    def process(self, descriptor: Any) -> Iterator[bool]:
        try:
            self._function(descriptor)
        except FoldAtlasError as error:
            if not stopping():  # else the driver says it, once
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
