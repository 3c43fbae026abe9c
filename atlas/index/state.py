"""What a published index was built from, read from it: whether it can be continued is decided by that."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb

from foldatlas.atlas.index.contents import LAYOUT, Contents, indexed_contents
from foldatlas.atlas.index.published import PublishedIndex
from foldatlas.schemas.errors import FoldAtlasError


@dataclass(frozen=True)
class IndexedState:
    """A published index of the layout that this program writes.

    `documents` are the names of the plans and manifest entries that it was built from; `runs` is the number of sorted
    runs of rows that its large tables consist of.
    """

    path: Path
    contents: Contents
    documents: frozenset[str]
    runs: int


def read_state(index: PublishedIndex, work: Path) -> IndexedState | None:
    """Return the state of a published index; None without one, or one that is unreadable or of another layout.

    Its file is linked or copied into the folder `work`, so that another process may replace the index meanwhile, and
    this one may have it open with another configuration.
    """
    if not index.exists():
        return None
    try:
        path = _held(index.local_path(), work / "previous.duckdb")
        with duckdb.connect(str(path), read_only=True) as connection:
            rows = connection.execute("SELECT layout, runs FROM settings").fetchall()
            if [layout for layout, _ in rows] != [LAYOUT]:
                return None
            documents = connection.execute("SELECT name FROM documents").fetchall()
            contents = indexed_contents(connection)
        return IndexedState(path, contents, frozenset(name for (name,) in documents), rows[0][1])
    except (duckdb.Error, FoldAtlasError, OSError, ValueError):
        return None


def _held(path: Path, target: Path) -> Path:
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)
    return target
