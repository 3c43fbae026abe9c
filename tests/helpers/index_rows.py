"""Every row of an index, to compare one that was continued with one that was built from nothing."""

import shutil
import uuid
from pathlib import Path

import duckdb

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.verify.atlas import verify

# What says when and how an index was built.
OWN = {"settings": "indexed, runs"}
VIEWS = ["proteins", "high_confidence", "novel", "refused", "members", "dark_clusters", "novelty_changes"]


def rows(path: Path) -> dict[str, list[str]]:
    """Every table of an index, and the views of these, as sorted rows of texts."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = connection.execute(
            "SELECT table_name FROM duckdb_tables() WHERE NOT internal AND schema_name = 'main' "
            "UNION ALL SELECT unnest(?)",
            [VIEWS],
        ).fetchall()
        found = {}
        for (name,) in names:
            sql = f'SELECT COLUMNS(*)::VARCHAR FROM (SELECT * {exclude(name)} FROM "{name}")'
            found[name] = sorted(map(str, connection.execute(sql).fetchall()))
        return found


def exclude(name: str) -> str:
    return f"EXCLUDE ({OWN[name]})" if name in OWN else ""


def assert_equals_full(folder: AtlasFolder, tmp_path: Path) -> None:
    """Compare the published index with one built from nothing; `verify` compares it with the files."""
    assert [str(fault) for fault in verify(folder).faults] == []
    other = AtlasFolder(tmp_path / f"full-{uuid.uuid4().hex}")
    shutil.copytree(folder.root, other.root)
    other.index_path.unlink()
    build_index(other)
    assert rows(folder.index_path) == rows(other.index_path)
