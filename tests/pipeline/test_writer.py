"""The tables of a shard appear together, or none of them."""

import os
from pathlib import Path

import pytest
from simulated_device import made_up

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.schemas.tables import NEEDED_TABLES


def writer(folder: AtlasFolder) -> ShardWriter:
    return ShardWriter(folder, "fold-1", "attempt", tables=NEEDED_TABLES, metadata={})


def files(folder: AtlasFolder) -> set[str]:
    return {path.parent.name for path in folder.root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("full", NEEDED_TABLES)
def test_table_that_cannot_be_closed_removes_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, full: str
) -> None:
    """They are closed at once, so that others may have their names already, or get them later."""
    rename = os.replace

    def refuse(source: Path, target: Path) -> None:
        if target.parent.name == full:
            raise OSError("no room")
        rename(source, target)

    folder = AtlasFolder(tmp_path / "atlas")
    monkeypatch.setattr(os, "replace", refuse)
    failing = writer(folder)
    with pytest.raises(OSError, match="no room"), failing.open():
        failing.add(made_up("MKV"))
    assert files(folder) == set()
    monkeypatch.undo()
    whole = writer(folder)
    with whole.open():
        whole.add(made_up("MKV"))
    assert files(folder) == whole.entries().keys() == set(NEEDED_TABLES)
