"""Beam's DaskRunner on a Dask cluster: of our own on this machine, or the user's."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from foldatlas.pipeline.engine import Engine
from foldatlas.schemas.errors import UsageError


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[None]:
    yield


def run(label: str, descriptors: Sequence[Any], work: Callable[[Any], None], engine: Engine) -> None:
    raise UsageError(f"{engine.runner} is not wired yet")
