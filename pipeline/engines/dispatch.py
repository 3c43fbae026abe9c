"""Run the graph on the chosen engine, through its Backend."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from foldatlas.pipeline.engines.backend import Backend
from foldatlas.pipeline.engines.beam import quiet_beam
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.engines.temporary_folder import without_folder

Descriptor = TypeVar("Descriptor")


def backend_of(engine: Engine) -> Backend:
    """Return the backend of `engine`. Raise UsageError where a library that it needs is not installed."""
    if engine.is_embedded:
        from foldatlas.pipeline.engines.embedded import Embedded

        return Embedded(engine)
    if engine.runner == "DaskRunner":
        from foldatlas.pipeline.engines.dask.engine import Dask

        return Dask(engine)
    from foldatlas.pipeline.engines.portable.engine import Portable

    return Portable(engine)


def run(label: str, descriptors: Iterable[Descriptor], work: Callable[[Any], None], engine: Engine = EMBEDDED) -> None:
    """Run `work` on every descriptor, in order as far as the engine allows.

    Return when the engine reports success or is lost. The files show what was done, and the caller may submit the rest
    again. Raise UsageError for an engine that cannot be reached or used.
    """
    pending = list(descriptors)
    if not pending:
        return
    with quiet_beam(), without_folder():
        backend_of(engine).run(label, pending, work)


@contextlib.contextmanager
def opened(engine: Engine, device: str = "auto") -> Iterator[str]:
    """Within the outermost block, keep what an engine starts for itself (a cluster on this machine) between calls of
    `run`. Give the workers' device: `device`, or "cpu" or "cuda" for "auto".

    Raise UsageError where this machine or a worker does not have `device`.
    """
    with backend_of(engine).opened(device) as found:
        yield found


def device_name(engine: Engine, device: str) -> str:
    """Return the model of the workers' device, as in the manifest; "" where they differ or it is not known."""
    return backend_of(engine).device_name(device)


def device_memory(engine: Engine, device: str) -> int | None:
    """Return the bytes of memory that each worker's device has, at least; of a CPU, the worker's share. None where it
    is not known."""
    return backend_of(engine).device_memory(device)
