"""The interface of engines to dispatch.py. To add an engine, write a class with these four methods."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from foldatlas.folding.planning import host_memory
from foldatlas.pipeline.workers.devices import device_bytes


class Backend(Protocol):
    """One engine, ready to run graphs. `device` is "auto", "cpu", "cuda" or "cuda:N"."""

    def run(self, label: str, descriptors: Sequence[Any], work: Callable[[Any], None]) -> None:
        """Run `work` on every descriptor. Raise UsageError for an engine that cannot be reached or used."""

    def opened(self, device: str) -> contextlib.AbstractContextManager[str]:
        """Within the outermost block, keep what the engine starts for itself. Give the workers' device."""

    def device_name(self, device: str) -> str:
        """Return the model of the workers' device; "" where they differ or it is not known."""

    def device_memory(self, device: str) -> int | None:
        """Return the bytes of memory that each worker's device has, at least; None where that is not known."""


def memory_here(device: str) -> int | None:
    """Return the memory of a device of this machine, in bytes; None where it is not known."""
    return device_bytes(device) if device.startswith("cuda") else host_memory.total_bytes()
