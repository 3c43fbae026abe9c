"""Beam pipelines that make no temporary folder.

Beam's Pipeline makes a folder `beam-pipeline-temp*` under TMPDIR in its constructor and removes it when `run` ends. A
process that is killed in between leaves it behind. Only pipelines with transforms in another language use it, and
ours have none (graph.py), so no folder is made.
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
    """Replaces the module `tempfile` in apache_beam.pipeline. Other pipelines of this process keep their folder."""

    def mkdtemp(self, suffix: str | None = None, prefix: str | None = None, dir: str | None = None) -> str:
        if prefix == _PREFIX and _without.get():
            return os.path.join(os.devnull, _PREFIX)  # a path that cannot exist; Beam ignores that at removal
        return tempfile.mkdtemp(suffix, prefix, dir)

    def __getattr__(self, name: str) -> Any:
        return getattr(tempfile, name)


beam_pipeline.tempfile = _Tempfile()  # type: ignore[assignment]


@contextlib.contextmanager
def without_folder() -> Iterator[None]:
    """Within the block, pipelines constructed by this thread make no folder; nor do the copies that Beam runs."""
    token = _without.set(True)
    try:
        yield
    finally:
        _without.reset(token)
