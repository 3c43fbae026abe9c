"""The explorer's table over time: while it is made, after the index was replaced, when it cannot be made."""

import errno
import shutil
import threading
from pathlib import Path
from typing import Any

import duckdb
import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.serve import current as current_module
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.explore import tables
from foldatlas.atlas.serve.explore.tables import Kept, PreparingError
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings


def test_requests_come_back_while_the_table_is_made(current: CurrentAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 with Retry-After until then, one table for all requests, and the rest of the server answers meanwhile."""
    go, calls = threading.Event(), []
    make = tables.make_table

    def held(*arguments: Any) -> Any:
        calls.append(arguments)
        go.wait()
        return make(*arguments)

    monkeypatch.setattr(tables, "make_table", held)
    monkeypatch.setattr(tables, "WAIT_SECONDS", 0)
    app = create_app(current, ServerSettings())
    client = TestClient(app, base_url="http://localhost")
    for path in ("columns", "summary", "map?map=plddt_length", "rows"):
        response = client.get(f"/v1/explore/{path}")
        assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
    assert client.get("/v1/proteins").status_code == 200
    go.set()
    explorer = app.state.shared.explorer
    with current.use() as served:
        table = explorer.table(served, wait=120)
    assert client.get("/v1/explore/columns").json()["proteins"] == table.num_proteins and len(calls) == 1
    folder = explorer._folder
    assert [path.suffix for path in folder.iterdir()] == [".duckdb"]
    explorer.close()
    assert not folder.exists()


def test_a_new_index_has_a_new_table(indexed: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts are those of the index that is served, and the files of the old table are deleted."""
    monkeypatch.setattr(current_module, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(tables, "WAIT_SECONDS", 120)
    root = tmp_path / "atlas"
    shutil.copytree(indexed.root, root)
    other = shutil.copyfile(root / "atlas.duckdb", tmp_path / "other.duckdb")
    with duckdb.connect(str(other)) as connection:
        connection.execute("DELETE FROM records WHERE id = 'a1'; UPDATE settings SET indexed = 'later'")
    with CurrentAtlas(root) as current:
        app = create_app(current, ServerSettings())
        client = TestClient(app, base_url="http://localhost")
        before = client.get("/v1/explore/columns").json()
        other.replace(root / "atlas.duckdb")
        after = client.get("/v1/explore/columns").json()
        assert after["proteins"] == before["proteins"] - 1 and after["indexed"] == "later"
        folder = app.state.shared.explorer._folder
        assert [path.name for path in folder.iterdir()] == ["2.duckdb"]
        app.state.shared.explorer.close()


def test_a_table_that_cannot_be_made_says_why(current: CurrentAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason is in the answer; it is tried again later, not with each request."""
    calls = []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        raise duckdb.OutOfMemoryException("no space is left")

    monkeypatch.setattr(tables, "make_table", failing)
    app = create_app(current, ServerSettings())
    explorer = app.state.shared.explorer
    with current.use() as served:
        for _ in range(3):
            with pytest.raises(PreparingError, match="no space is left"):
                explorer.table(served, wait=120)
        assert len(calls) == 1
        monkeypatch.undo()
        monkeypatch.setattr(tables, "SECONDS_AFTER_FAILURE", 0)
        assert explorer.table(served, wait=120).num_proteins > 0
    explorer.close()


def test_a_full_disk_is_no_end(current: CurrentAtlas, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a folder for the table the reason is in the answer, and it is tried again later."""

    def full(**options: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tables.tempfile, "mkdtemp", full)
    explorer = tables.Explorer()
    with current.use() as served:
        with pytest.raises(PreparingError, match="No space left"):
            explorer.table(served)
        monkeypatch.undo()
        monkeypatch.setattr(tables, "SECONDS_AFTER_FAILURE", 0)
        assert explorer.table(served, wait=120).num_proteins > 0
    explorer.close()


def test_kept_answers_have_a_limit() -> None:
    """Those that were asked for least lately are dropped; one larger than the limit is not kept."""
    size = 2 * (4 + tables.ENTRY_BYTES)
    kept = Kept(size)
    for name in "abc":
        kept.get((name, 1), lambda: b"1234")
    assert [kept.find((name, 1)) for name in "abc"] == [None, b"1234", b"1234"]
    kept.find(("b", 1))
    kept.keep(("d", 1), b"1234")
    assert kept.find(("b", 1)) and kept.find(("c", 1)) is None
    kept.keep(("e", 1), b"x" * size)
    assert kept.find(("e", 1)) is None and kept.find(("b", 1)) and kept.find(("d", 1))


def test_keys_of_kept_answers_are_distinct() -> None:
    keys = [(b"a", "b"), ("a", "b"), (b"ab",), ("a", b"b"), (b"a", b"b"), ("a", None), ("a", "None"), ("ab",), (0.5,)]
    kept = Kept()
    for number, key in enumerate(keys):
        kept.keep(key, bytes([number]))
    assert [kept.find(key) for key in keys] == [bytes([number]) for number in range(len(keys))]
