"""Engines behind Beam's job service: Prism, Flink, Spark, Dataflow."""

from collections.abc import Callable, Sequence
from typing import Any

from foldatlas.pipeline.engine import Engine
from foldatlas.schemas.errors import UsageError


def run(label: str, descriptors: Sequence[Any], work: Callable[[Any], None], engine: Engine) -> None:
    """Raises UsageError: the job service is not wired yet."""
    raise UsageError(f"{engine.runner} cannot be used in this version: choose FnApiRunner or DaskRunner")
