"""An atlas on a store, a real S3 server on the loopback, is served like the same atlas in a folder."""

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.cage.processes import SqlProcesses
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings

HAS_SQL = landlock.version() >= landlock.MIN_VERSION


@pytest.fixture
def on_store(s3: Any, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A client of a server of the synthetic atlas on S3."""
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    folder = AtlasFolder("s3://atlases/served")
    for file in built.folder.storage.files():
        with folder.storage.building(file.name) as path:
            path.write_bytes(built.folder.storage.read(file.name))
    build_index(folder)
    with CurrentAtlas(folder.uri) as current, SqlProcesses(current.folder) as processes:
        app = create_app(current, ServerSettings(), processes)
        yield TestClient(app, base_url="http://localhost:8000")


def test_a_store_is_served_like_a_folder(on_store: TestClient, client: TestClient) -> None:
    """Fetch, page, confidence, download, and SQL on the tables of the index."""
    for path in (
        "/v1/structures/a1",
        "/fetchPredictedStructure/a2.cif",
        "/v1/confidence/a1",
        "/v1/proteins/a1",
        "/v1/proteins?size=20&min_plddt=50",
        "/v1/downloads/manifest.jsonl?limit=5",
    ):
        answer = on_store.get(path)
        assert answer.status_code == 200
        assert answer.text == client.get(path).text, path
    tar = on_store.get("/v1/downloads/structures.tar?limit=3").content
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
    assert len(names) == 4 and names[-1] == "manifest.jsonl"
    count = on_store.get("/healthz").json()
    if HAS_SQL:
        rows = on_store.post("/v1/sql", json={"sql": "SELECT count(*) AS n FROM proteins"}).json()
        assert rows == [{"n": count["proteins"]}]
        # Parquet files of a store are not visible to a process without network.
        assert on_store.post("/v1/sql", json={"sql": "SELECT count(*) FROM structures"}).status_code == 400
