"""Beam pipelines that make no temporary folder.

Beam's Pipeline makes a folder `beam-pipeline-temp*` under TMPDIR in its constructor and removes it when `run` ends. A
process that is killed in between leaves it. Only pipelines with transforms in another language put anything into it,
and ours have none (graph.py), so none is made, and none can be left behind.
"""

import contextlib
import contextvars
import os
import tempfile
from collections.abc import Iterator
from typing import Any, Final

from foldatlas.pipeline.engines.beam import quiet_import

with quiet_import():
    from apache_beam import pipeline as beam_pipeline

_PREFIX: Final = "beam-pipeline-temp"
_without: Final = contextvars.ContextVar("_without", default=False)


class _Tempfile:
    """The module tempfile as apache_beam.pipeline uses it. Other pipelines in this process keep their folder."""

    def mkdtemp(self, suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        if prefix == _PREFIX and _without.get():
            return os.path.join(os.devnull, _PREFIX)  # a path that cannot exist; Beam ignores that at removal
        return tempfile.mkdtemp(suffix, prefix, dir)

    def __getattr__(self, name: str) -> Any:
        return getattr(tempfile, name)


beam_pipeline.tempfile = _Tempfile()  # type: ignore[assignment]


@contextlib.contextmanager
def without_folder() -> Iterator[None]:
    """Within the block, pipelines constructed by this thread make no folder: also those that Beam makes of them when it
    runs them."""
    token = _without.set(True)
    try:
        yield
    finally:
        _without.reset(token)
