"""Beam's FnApiRunner in this process: one worker, and nothing to start."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from foldatlas.pipeline.engines import graph
from foldatlas.pipeline.engines.backend import memory_here
from foldatlas.pipeline.engines.beam import PipelineOptions, beam
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.workers.devices import choose_device, hardware_of

LOCAL_OPTIONS: Final = ("--runner=FnApiRunner", "--direct_running_mode=in_memory", "--direct_num_workers=1")


class Embedded:
    """A Backend in this process."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def run(self, label: str, descriptors: Sequence[Any], work: Callable[[Any], None]) -> None:
        with beam.Pipeline(options=PipelineOptions([*LOCAL_OPTIONS, *self._engine.options])) as pipeline:
            graph.build(pipeline, label, descriptors, work)

    @contextlib.contextmanager
    def opened(self, device: str) -> Iterator[str]:
        yield choose_device(device)

    def device_name(self, device: str) -> str:
        return hardware_of(device).name

    def device_memory(self, device: str) -> int | None:
        return memory_here(device)
