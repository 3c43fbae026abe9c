"""The one Beam graph that everything runs in: descriptors, shuffled, each worked on by a plain function.

Engines differ in what they get wrong; this shape, with one output that nobody reads, no side input and no state, is
right on all that were tried (docs/decisions/0003-one-graph.md). What was done is told by the files that the function
commits, never by the collection that comes out.
"""

import contextlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

from foldatlas.folding import host_memory
from foldatlas.pipeline.devices import choose_device, device_bytes, hardware_of
from foldatlas.pipeline.engine import EMBEDDED, Engine
from foldatlas.pipeline.interruption import stopping
from foldatlas.schemas.errors import FoldAtlasError

logging.disable(logging.WARNING)  # on import Beam warns, on the root logger, of Google libraries that nobody asked for
import apache_beam as beam  # noqa: E402
from apache_beam.options.pipeline_options import PipelineOptions as PipelineOptions  # noqa: E402

from foldatlas.pipeline.beam_pipeline import without_folder  # noqa: E402
from foldatlas.pipeline.graph_rules import check_graph  # noqa: E402

logging.disable(logging.NOTSET)

Descriptor = TypeVar("Descriptor")

LOCAL_OPTIONS: Final = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")


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
    """Adds the graph to `pipeline`, and sees that it has the one shape."""
    _ = (
        pipeline
        | f"{label}: descriptors" >> beam.Create(list(descriptors), reshuffle=False)
        | f"{label}: spread" >> beam.Reshuffle()
        | f"{label}: work" >> beam.ParDo(Work(label, work))
    )
    check_graph(pipeline)


def run(label: str, descriptors: Iterable[Descriptor], work: Callable[[Any], None], engine: Engine = EMBEDDED) -> None:
    """Runs `work` on every descriptor, the first ones first as far as the engine allows, and returns when it says that
    it is done or that it is lost: what was done is told by the files, and what is missing may be submitted again.

    Raises UsageError for an engine that cannot be reached or used.
    """
    pending = list(descriptors)
    if not pending:
        return
    with quiet_beam(), without_folder():
        if engine.is_embedded:
            with beam.Pipeline(options=PipelineOptions([*LOCAL_OPTIONS, *engine.options])) as pipeline:
                build(pipeline, label, pending, work)
        elif engine.runner == "DaskRunner":
            from foldatlas.pipeline import dask_engine

            dask_engine.run(label, pending, work, engine)
        else:
            from foldatlas.pipeline import portable_engine

            portable_engine.run(label, pending, work, engine)


@contextlib.contextmanager
def opened(engine: Engine, device: str = "auto") -> Iterator[str]:
    """Within the block what an engine starts for itself (a cluster on this machine) is kept from one `run` to the next;
    it ends with the outermost block. Gives the workers' device: `device` itself, or "cpu" or "cuda" for "auto".

    Raises UsageError where `device` is not there, on this machine or on a worker.
    """
    if engine.runner == "DaskRunner":
        from foldatlas.pipeline import dask_engine

        with dask_engine.opened(engine, device) as session:
            yield session.device()
    elif engine.is_embedded or device == "auto":
        yield choose_device(device)
    else:
        yield device  # the workers' own: a driver of a cluster may have no GPU


def device_of(engine: Engine, device: str) -> str:
    """The device of an engine's workers, as `opened` gives it."""
    with opened(engine, device) as found:
        return found


def device_name(engine: Engine, device: str) -> str:
    """The make of the workers' device, as it will stand in the manifest; "" where they differ or it is not known."""
    if engine.runner == "DaskRunner":
        from foldatlas.pipeline import dask_engine

        with dask_engine.opened(engine, device) as session:
            return session.device_name()
    return hardware_of(device).name if engine.is_embedded else ""


def device_memory(engine: Engine, device: str) -> int | None:
    """Bytes of memory that the device of each worker has, at least: a worker's share of it if that is a CPU's. None
    where it does not say."""
    if engine.runner == "DaskRunner":
        from foldatlas.pipeline import dask_engine

        with dask_engine.opened(engine, device) as session:
            return session.fleet().memory
    return device_bytes(device) if device.startswith("cuda") else host_memory.total_bytes()


@contextlib.contextmanager
def quiet_import() -> Iterator[None]:
    """Around imports of more of Beam: it warns on the root logger, which also changes how all else is written."""
    root, handler = logging.getLogger(), logging.NullHandler()
    root.addHandler(handler)
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        root.removeHandler(handler)


@contextlib.contextmanager
def quiet_beam() -> Iterator[None]:
    """Keeps Beam's notes about its own set-up off the terminal; its errors still come through."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
