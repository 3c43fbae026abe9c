"""A new index is served without an error, and an old one as long as a request reads it."""

import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.serve import current as module
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.processes import SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings
from foldatlas.schemas.errors import NotAnAtlasError


@pytest.fixture
def copied(built: Built, tmp_path: Path) -> Path:
    """A copy of the atlas whose index lacks a shard that no other plan has."""
    root = tmp_path / "atlas"
    shutil.copytree(built.root, root)
    shutil.move(root / "manifest" / last_entry(built), tmp_path)
    build_index(AtlasFolder(root))
    return root


def last_entry(built: Built) -> str:
    return f"{built.plans[1].shards[2].name}.0.json"


def complete(root: Path) -> None:
    """Commit the shard, and index it."""
    [entry] = root.parent.glob("*.json")
    shutil.move(entry, root / "manifest")
    build_index(AtlasFolder(root))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 0.0)
    monkeypatch.setattr(module, "SECONDS_AFTER_FAILURE", 0.0)


def test_requests_move_to_the_new_index(copied: Path) -> None:
    with CurrentAtlas(copied) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url="http://localhost")
        before = client.get("/healthz").json()
        complete(copied)
        after = client.get("/healthz").json()
        assert after["structures"] > before["structures"] and after["indexed"] > before["indexed"]
        assert len(client.get("/v1/proteins", params={"size": 1000}).json()["items"]) == after["proteins"]


def test_a_request_that_began_keeps_its_index(copied: Path) -> None:
    """Held open across the replacement; its file is deleted when the last request gives it back."""
    with CurrentAtlas(copied) as current:
        old = current.acquire()
        [file] = Path(current._temporary.name).iterdir()
        complete(copied)
        with current.use() as new:
            assert new.number == 2 and new.num_structures > old.num_structures
            [(rows,)] = old.atlas.cursor("").execute("SELECT count(*) FROM scores").fetchall()
            assert rows == old.num_structures
        assert file.exists()
        current.release(old)
        assert not file.exists()
    assert not file.parent.exists()


def test_threads_read_while_the_index_is_replaced(copied: Path) -> None:
    """Four readers, which stop only after they have read the last of three indexes: every answer is whole."""
    errors: list[BaseException] = []
    with CurrentAtlas(copied) as current:

        def work() -> None:
            try:
                while True:
                    with current.use() as served:
                        assert len(served.rows("SELECT * FROM scores")) == served.num_structures
                        if served.number == 3:
                            return
            except BaseException as error:
                errors.append(error)

        readers = [threading.Thread(target=work) for _ in range(4)]
        for reader in readers:
            reader.start()
        complete(copied)
        with current.use() as served:  # opened, if no reader was first
            assert served.number == 2
        build_index(AtlasFolder(copied), full=True)
        for reader in readers:
            reader.join(60)
        assert errors == [] and not any(reader.is_alive() for reader in readers)


def test_an_unreadable_index_leaves_the_old_one(copied: Path) -> None:
    with CurrentAtlas(copied) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url="http://localhost")
        whole = (copied / "atlas.duckdb").read_bytes()
        replace(copied, b"not a database" * 1000)
        health = client.get("/healthz").json()
        assert health["status"] == "degraded" and "older one" in health["problem"]
        assert client.get("/v1/structures/a1").status_code == 200
        replace(copied, whole)
        assert client.get("/healthz").json()["status"] == "ok"


def replace(root: Path, data: bytes) -> None:
    (root / "new").write_bytes(data)
    (root / "new").replace(root / "atlas.duckdb")


def test_a_file_that_the_new_index_drops_is_read_from_it(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old index names a file that is gone: the request is answered from the new index."""
    with CurrentAtlas(copied) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url="http://localhost")
        monkeypatch.setattr(module, "SECONDS_BETWEEN_LOOKS", 3600.0)
        expected = client.get("/v1/confidence/a1").json()
        [item] = client.get("/v1/proteins/a1").json()["items"]
        moved = move_structures(copied)
        build_index(AtlasFolder(copied), full=True)
        assert client.get(f"/v1/confidence/{item['structure_id']}").json() == expected
        assert moved > 0 and current.acquire().number == 2


def move_structures(root: Path) -> int:
    """Commit later generations of all shards, whose files of structures have other names; the first ones are gone."""
    folder = AtlasFolder(root)
    entries = folder.entries().values()
    for entry in entries:
        file = entry.files["structures"]
        new = msgspec.structs.replace(file, path=file.path.replace(".host_", ".other_"))
        (root / file.path).rename(root / new.path)
        files = {**entry.files, "structures": new}
        assert folder.commit_entry(msgspec.structs.replace(entry, generation=1, attempt="other_1", files=files))
    return len(entries)


def test_a_damaged_file_is_503_and_not_named(copied: Path, client_of: Callable[..., TestClient]) -> None:
    with CurrentAtlas(copied) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url="http://localhost")
        for file in (copied / "structures").iterdir():
            file.write_bytes(b"")
        response = client.get("/v1/structures/a1")
        assert response.status_code == 503 and str(copied) not in response.text and ".parquet" not in response.text


def test_an_atlas_without_an_index_is_refused(built: Built) -> None:
    with pytest.raises(NotAnAtlasError, match="foldatlas index"):
        CurrentAtlas(built.root)


@pytest.mark.skipif(landlock.version() < landlock.MIN_VERSION, reason="this kernel has no Landlock, so SQL is off")
def test_a_statement_reads_the_index_of_its_request(copied: Path) -> None:
    """The published file is gone, as between two looks at it, and a statement reads the index that is served."""
    with CurrentAtlas(copied) as current, SqlProcesses(AtlasFolder(copied)) as processes:
        client = TestClient(create_app(current, ServerSettings(), processes), base_url="http://localhost")
        before = client.get("/healthz").json()["structures"]
        (copied / "atlas.duckdb").unlink()
        answer = client.post("/v1/sql", json={"sql": "SELECT count(*) AS n FROM scores"})
        assert answer.status_code == 200 and answer.json() == [{"n": before}]
