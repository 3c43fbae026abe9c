"""Downloads: tar, Parquet, manifest, and resuming."""

import hashlib
import io
import json
import tarfile
import uuid
from collections.abc import Callable
from urllib.parse import unquote

import pyarrow.parquet as pq
from Bio import SeqIO
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve import downloads
from foldatlas.atlas.serve.catalogue import Protein
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import Limits, ServerSettings


def members(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def lines(data: bytes) -> list[dict]:
    return [json.loads(line) for line in data.splitlines()]


def test_a_tar_has_every_structure_and_a_manifest(client: TestClient, indexed: Built) -> None:
    with Atlas.open(indexed.root) as atlas:
        expected = [str(i) for (i,) in atlas.sql("SELECT DISTINCT structure_id FROM proteins ORDER BY 1").rows()]
    found = members(client.get("/v1/downloads/structures.tar").content)
    assert list(found)[-1] == "manifest.jsonl"
    manifest = lines(found.pop("manifest.jsonl"))
    assert list(found) == [f"{identity}.pdb" for identity in expected]
    for entry in manifest:
        data = found[entry["name"]]
        assert (entry["bytes"], entry["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert found[f"{expected[0]}.pdb"] == client.get(f"/v1/structures/{expected[0]}").content


def test_a_download_is_resumed_after_a_cursor(client: TestClient) -> None:
    whole = members(client.get("/v1/downloads/structures.tar", params={"max_length": 60}).content)
    manifest = lines(whole["manifest.jsonl"])
    part = members(client.get("/v1/downloads/structures.tar", params={"max_length": 60, "limit": 11}).content)
    last = lines(part["manifest.jsonl"])[-1]
    rest = members(
        client.get("/v1/downloads/structures.tar", params={"max_length": 60, "after": last["cursor"]}).content
    )
    assert lines(part["manifest.jsonl"]) + lines(rest["manifest.jsonl"]) == manifest
    assert {**part, **rest, "manifest.jsonl": None} == {**whole, "manifest.jsonl": None}


def test_the_manifest_alone_lists_the_same(client: TestClient) -> None:
    query = {"min_plddt": 70}
    listed = lines(client.get("/v1/downloads/manifest.jsonl", params=query).content)
    tar = lines(members(client.get("/v1/downloads/structures.tar", params=query).content)["manifest.jsonl"])
    assert [(each["id"], each["cursor"]) for each in listed] == [(each["id"], each["cursor"]) for each in tar]


def test_parquet_is_rows_with_sequences(client: TestClient) -> None:
    response = client.get("/v1/downloads/proteins.parquet", params={"limit": 20})
    rows = pq.read_table(io.BytesIO(response.content)).to_pylist()
    page = client.get("/v1/proteins", params={"size": 20}).json()["items"]
    assert [{k: r[k] for k in ("id", "structure_id", "length", "model")} for r in rows] == [
        {k: r[k] for k in ("id", "structure_id", "length", "model")} for r in page
    ]
    assert all(row["length"] == len(row["sequence"]) for row in rows)
    after = client.get("/v1/proteins", params={"size": 20, "after": rows[9]["cursor"]}).json()["items"]
    assert after[0]["id"] == rows[10]["id"]


def test_fasta_has_a_record_for_each_protein(client: TestClient) -> None:
    """Read by Biopython: the ids, structures and sequences of the Parquet file, in its order."""
    query = {"min_plddt": 20, "limit": 60}
    response = client.get("/v1/downloads/proteins.fasta", params=query)
    found = list(SeqIO.parse(io.StringIO(response.text), "fasta"))
    table = client.get("/v1/downloads/proteins.parquet", params=query).content
    rows = pq.read_table(io.BytesIO(table)).to_pylist()
    assert [(unquote(each.id), str(each.seq)) for each in found] == [(row["id"], row["sequence"]) for row in rows]
    assert [each.description.split()[1] for each in found] == [f"structure_id={row['structure_id']}" for row in rows]
    assert len(found) > 20


def test_an_id_makes_no_header_of_its_own() -> None:
    class Stored:
        def sequence(self, served: object, protein: object) -> str:
            return "MK"

    protein = Protein("a>b c\n>d\x01%20\u00e9", "s", "", uuid.UUID(int=1), 2, 91.25, None, "f", 0)
    text = downloads._fasta_record(None, Stored(), protein)
    assert text == f">a%3Eb%20c%0A%3Ed%01%2520%C3%A9 structure_id={uuid.UUID(int=1)} plddt=91.25\nMK\n"


def test_a_batch_of_structures_is_a_tar(client: TestClient) -> None:
    response = client.post("/v1/batch/structures", json={"ids": ["a1", "a10", "a11", "nobody"], "format": "cif"})
    found = members(response.content)
    assert len(found) == 3  # a10 and a11 are one structure
    assert sorted(each["id"] for each in lines(found["manifest.jsonl"])) == ["a1", "a10", "a11"]
    assert client.post("/v1/batch/structures", json={"ids": ["nobody"]}).status_code == 404


def test_downloads_at_a_time_are_limited(current: CurrentAtlas) -> None:
    """The places are taken by hand: no timing. They are free again after a download, a refusal and an error."""
    app = create_app(current, ServerSettings(limits=Limits(downloads=1)))
    client = TestClient(app, base_url="http://localhost")
    for _ in range(3):
        assert client.get("/v1/downloads/manifest.jsonl", params={"limit": 1}).status_code == 200
        assert client.post("/v1/batch/structures", json={"ids": ["nobody"]}).status_code == 404
    assert app.state.shared.downloads.acquire(blocking=False)
    refused = client.get("/v1/downloads/manifest.jsonl")
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "10")
    app.state.shared.downloads.release()
    assert client.get("/v1/downloads/manifest.jsonl").status_code == 200


def test_a_structure_beyond_a_format_is_in_the_manifest(client_of: Callable[..., TestClient], monkeypatch) -> None:
    """The manifest names it with the reason; the others are there."""
    from foldatlas.atlas.serve.contents import Contents
    from foldatlas.schemas.errors import UsageError

    write = Contents.structure_file

    def limited(self: Contents, served, protein, format: str) -> bytes:
        if protein.id == "a1":
            raise UsageError("too many atoms: write it as cif")
        return write(self, served, protein, format)

    monkeypatch.setattr(Contents, "structure_file", limited)
    response = client_of().post("/v1/batch/structures", json={"ids": ["a1", "a2"]})
    found = members(response.content)
    reasons = {each["id"]: each.get("reason") for each in lines(found["manifest.jsonl"])}
    assert len(found) == 2 and reasons == {"a1": "too many atoms: write it as cif", "a2": None}
