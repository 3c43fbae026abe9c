"""Runs the graph on the engine that was chosen, through its Backend."""

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
    """Run `work` on every descriptor, the first ones first as far as the engine allows, and return when the engine says
    that it is done or that it is lost: what was done is told by the files, and what is missing may be submitted again.

    Raise UsageError for an engine that cannot be reached or used.
    """
    pending = list(descriptors)
    if not pending:
        return
    with quiet_beam(), without_folder():
        backend_of(engine).run(label, pending, work)


@contextlib.contextmanager
def opened(engine: Engine, device: str = "auto") -> Iterator[str]:
    """Within the block what an engine starts for itself (a cluster on this machine) is kept from one `run` to the next;
    it ends with the outermost block. Return the workers' device: `device` itself, or "cpu" or "cuda" for "auto".

    Raise UsageError where `device` is not there, on this machine or on a worker.
    """
    with backend_of(engine).opened(device) as found:
        yield found


def device_name(engine: Engine, device: str) -> str:
    """Return the model of the workers' device, as it will stand in the manifest; "" where they differ or it is not
    known."""
    return backend_of(engine).device_name(device)


def device_memory(engine: Engine, device: str) -> int | None:
    """Return bytes of memory that the device of each worker has, at least: a worker's share of it if that is a CPU's.
    None where it does not say."""
    return backend_of(engine).device_memory(device)
