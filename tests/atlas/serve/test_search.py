"""Searches over HTTP, in their processes: what is found, states and pages, queue and limits, and failures."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import made_families
import msgspec
import numpy as np
import pytest
from built_atlas import Built
from starlette.testclient import TestClient

from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.atlas.serve.cage import landlock
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.search import worker
from foldatlas.atlas.serve.search.build import build_search
from foldatlas.atlas.serve.search.embeddings import search_embeddings
from foldatlas.atlas.serve.search.jobs import Searches, SearchLimits
from foldatlas.atlas.serve.search.processes import SearchProcess
from foldatlas.atlas.serve.search.requests import Embedding, Failed, Job, Sequence, Structure
from foldatlas.atlas.serve.search.segments import SegmentArrays
from foldatlas.atlas.serve.settings import Limits, ServerSettings
from foldatlas.schemas.records import format_structure_id

ENDED = ("done", "failed", "cancelled")
PROTEINS = made_families.families(6, 6)


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An atlas of 37 proteins with a search database."""
    root = tmp_path_factory.mktemp("families") / "atlas"
    made_families.make_atlas(root, PROTEINS)
    build_search(root, root / "search")
    return root


@pytest.fixture(scope="module")
def served(families: Path) -> Iterator[CurrentAtlas]:
    with CurrentAtlas(families) as current:
        yield current


def client_of(current: CurrentAtlas, searches: Searches | None, **settings: object) -> TestClient:
    app = create_app(current, ServerSettings(**settings), None, searches)
    return TestClient(app, base_url="http://localhost", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(served: CurrentAtlas, families: Path) -> Iterator[TestClient]:
    with Searches(served, families / "search") as searches:
        yield client_of(served, searches)


@pytest.fixture
def queue_of(served: CurrentAtlas, families: Path) -> Iterator[Callable[..., Searches]]:
    """Searches that wait for ever: none runs."""
    made = []

    def make(**limits: object) -> Searches:
        made.append(Searches(served, families / "search", SearchLimits(running=0, **limits), clock=lambda: clock[0]))
        return made[-1]

    clock = [0.0]
    make.clock = clock
    yield make
    for searches in made:
        searches.close()


def ended(client: TestClient, body: dict, **page: int) -> dict:
    """The search of `body` when it has ended."""
    response = client.post("/v1/searches", json=body)
    assert response.status_code == 202, response.text
    path = response.headers["Location"].removeprefix("http://localhost")
    while (found := client.get(path, params=page).json())["state"] not in ENDED:
        time.sleep(0.02)
    return found


def test_a_sequence_finds_itself_and_relatives(client: TestClient, families: Path) -> None:
    """Its exact structure is in the first answer. Pages are parts of the whole, in order of the E-value."""
    query = PROTEINS[0]
    body = {"kind": "sequence", "sequence": f">query\n{query.sequence.lower()}*\n"}
    first = client.post("/v1/searches", json=body).json()
    assert first["exact"] == format_structure_id(query.identity) and first["hits"] == []
    found = ended(client, body)
    assert (found["state"], found["searched"], found["query_length"]) == ("done", len(PROTEINS), len(query.sequence))
    hits = found["hits"]
    assert [hit["id"] for hit in hits][:1] == [query.name] and hits[0]["identity"] == 1.0
    assert {hit["id"] for hit in hits} == {"f0m0", "f0m2", "f0m4"}  # of one ancestor; others share the fold alone
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert [hit["evalue"] for hit in hits] == sorted(hit["evalue"] for hit in hits)
    page = client.get(f"/v1/searches/{found['id']}", params={"after": 1, "size": 1}).json()
    assert page["hits"] == hits[1:2] and page["next"] == 2 and page["num_hits"] == 3
    with Atlas.open(families) as atlas:
        [(length, plddt)] = atlas.sql("SELECT length, mean_plddt FROM proteins WHERE id = 'f0m2'").rows()
    shown = next(hit for hit in hits if hit["id"] == "f0m2")
    assert shown["length"] == length and shown["mean_plddt"] == pytest.approx(plddt) and shown["num_records"] == 1


def test_structures_by_name_and_by_upload(client: TestClient) -> None:
    """The same structure, from the atlas and as a file, finds the same; the transform lays it on the hit."""
    name = PROTEINS[7].name
    by_name = ended(client, {"kind": "structure", "name": name})
    text = client.get(f"/v1/structures/{name}", params={"format": "cif"}).text
    by_file = ended(client, {"kind": "structure", "structure": text})
    assert by_name["state"] == by_file["state"] == "done" and by_name["hits"] == by_file["hits"]
    assert by_name["hits"][0]["id"] == name and len(by_name["hits"]) == 6
    hit = by_name["hits"][3]
    query, target = (atoms_of(client, each) for each in (name, hit["id"]))
    begin, end, count = np.array(hit["alignment"]).T
    pairs = (
        np.concatenate(
            [np.stack([a + np.arange(n), b + np.arange(n)]) for a, b, n in zip(begin, end, count, strict=True)], 1
        )
        - 1
    )
    moved = query[pairs[0]] @ np.array(hit["rotation"]).T + np.array(hit["translation"])
    rmsd = np.sqrt(((moved - target[pairs[1]]) ** 2).sum(1).mean())
    assert rmsd == pytest.approx(hit["rmsd"], abs=0.01) and len(pairs[0]) == hit["aligned_length"]


def atoms_of(client: TestClient, name: str) -> np.ndarray:
    """C-alphas of a structure of the atlas, as its file has them."""
    lines = client.get(f"/v1/structures/{name}").text.splitlines()
    return np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in lines if line[12:16] == " CA "])


def test_an_embedding_finds_its_neighbours(indexed: Built, current: CurrentAtlas, tmp_path: Path) -> None:
    """As numpy finds them, by name and by vector; another dimension is refused."""
    database = build_search(indexed.root, tmp_path / "search")
    with Atlas.open(indexed.root) as atlas:
        rows = atlas.sql("SELECT DISTINCT ON (structure_id) structure_id, mean FROM embeddings "
                         "SEMI JOIN proteins USING (structure_id) ORDER BY structure_id").rows()  # fmt: skip
    vectors = np.array([mean for _, mean in rows])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert database.embeddings == len(rows) > 50
    query = rows[17][0]
    expected = unit @ unit[17]
    order = np.argsort(-expected)[:10]
    with Searches(current, tmp_path / "search") as searches:
        client = client_of(current, searches)
        by_name = ended(client, {"kind": "embedding", "name": str(query), "limit": 10})
        by_vector = ended(client, {"kind": "embedding", "vector": vectors[17].tolist(), "limit": 10})
    assert by_name["hits"] == by_vector["hits"] and by_name["searched"] == len(rows)
    assert [uuid.UUID(hit["structure_id"]) for hit in by_name["hits"]] == [rows[k][0] for k in order]
    assert [hit["similarity"] for hit in by_name["hits"]] == pytest.approx(expected[order].tolist(), abs=1e-3)
    segments = [SegmentArrays(tmp_path / "search", segment) for segment in database.segments]
    for wrong, reason in (
        (np.ones(7), "8 channels"),
        (np.zeros(8), "no direction"),
        (np.full(8, np.nan), "no direction"),
    ):
        with pytest.raises(ValueError, match=reason):
            search_embeddings(segments, wrong.astype(np.float32), limit=1, on_progress=lambda phase, fraction: None)


def test_a_bad_structure_fails_with_a_reason(client: TestClient) -> None:
    found = ended(client, {"kind": "structure", "structure": "no structure"})
    assert (found["state"], found["reason"]) == ("failed", "not_structure") and found["hits"] == []


def test_the_queue_is_bounded(served: CurrentAtlas, queue_of: Callable[..., Searches]) -> None:
    searches = queue_of(waiting=5, per_client=3)
    client = client_of(served, searches)
    body = {"kind": "sequence", "sequence": "MKV"}
    names = [client.post("/v1/searches", json=body).json()["id"] for _ in range(3)]
    refused = client.post("/v1/searches", json=body)
    assert refused.status_code == 503 and refused.headers["Retry-After"] and "of this address" in refused.text
    assert client.delete(f"/v1/searches/{names[0]}").json()["state"] == "cancelled"
    assert client.post("/v1/searches", json=body).status_code == 202
    query = Sequence("MKV", 1.0)
    for number in range(2):
        searches.submit(query, limit=1, client=f"other{number}")
    with pytest.raises(Exception, match="too many searches are waiting"):
        searches.submit(query, limit=1, client="last")
    assert searches.counts() == {"waiting": 5, "running": 0}
    assert 'foldatlas_searches{state="waiting"} 5.0' in client.get("/metrics").text


def test_results_expire(served: CurrentAtlas, queue_of: Callable[..., Searches]) -> None:
    """By age, and the oldest where there are too many; what waits does not."""
    searches = queue_of(keep_seconds=100, kept=2)
    client = client_of(served, searches)

    def made() -> str:
        return client.post("/v1/searches", json={"kind": "sequence", "sequence": "MKV"}).json()["id"]

    def status(name: str) -> int:
        return client.get(f"/v1/searches/{name}").status_code

    waiting, *names = [made() for _ in range(4)]
    for name in names:
        queue_of.clock[0] += 1
        assert client.delete(f"/v1/searches/{name}").status_code == 200
    assert [status(name) for name in names] == [404, 200, 200]
    queue_of.clock[0] += 99
    assert [status(name) for name in (*names, waiting)] == [404, 404, 200, 200]
    queue_of.clock[0] += 10_000
    assert [status(name) for name in (*names, waiting)] == [404, 404, 404, 200]


def test_jobs_cannot_be_guessed_or_listed(client: TestClient) -> None:
    assert client.get("/v1/searches").status_code == 405
    for name in ("a" * 32, "0" * 20, "..%2F" * 5):
        assert client.get(f"/v1/searches/{name}").status_code in (404, 422)
        assert client.delete(f"/v1/searches/{name}").status_code in (404, 422)


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"kind": "sequence", "sequence": "MK1"}, "letter 3"),
        ({"kind": "sequence", "sequence": ">only a header"}, "empty"),
        ({"kind": "sequence", "sequence": "M" * 10_001}, "at most 10,000"),
        ({"kind": "structure"}, "either"),
        ({"kind": "structure", "name": "f0m0", "structure": "x"}, "either"),
        ({"kind": "embedding", "name": "f0m0", "vector": [1.0]}, "either"),
    ],
)
def test_wrong_requests_are_400(client: TestClient, body: dict, detail: str) -> None:
    response = client.post("/v1/searches", json=body)
    assert response.status_code == 400 and detail in response.json()["detail"]


FILES = {
    "not_structure": b"GIF89a",
    "empty": b"HEADER    NOTHING\nEND\n",
    "unreadable": b"data_x\nloop_\n_atom_site.id\n_atom_site.type_symbol\n1\n",
    "no_protein": b"HETATM    1  O   HOH A   1       0.000   0.000   0.000  1.00  0.00           O\nEND\n",
    "several_chains": b"".join(
        b"ATOM      1  CA  ALA %c   1       0.000   0.000   0.000  1.00  0.00           C\n" % chain for chain in b"ABC"
    ),
    "bad_coordinates": b"ATOM      1  CA  ALA A   1    99999.00099999.00099999.000  1.00  0.00           C\nEND\n",
}


@pytest.mark.parametrize("outcome", FILES)
def test_bad_files_have_a_reason(outcome: str) -> None:
    with pytest.raises(StructureFault) as fault:
        worker._query(Structure(0.5, text=FILES[outcome]))
    assert fault.value.outcome == outcome


ATTACKS = [
    {"kind": "structure", "structure": "x" * (9 << 20)},
    {"kind": "structure", "name": "../../../etc/passwd"},
    {"kind": "structure", "name": "/etc/passwd", "chain": "$(id)"},
    {"kind": "structure", "name": "file:///etc/passwd"},
    {"kind": "structure", "name": "' OR ''='"},
    {"kind": "structure", "name": "f0m0", "min_tm": -1},
    {"kind": "structure", "path": "/etc/passwd"},
    {"kind": "embedding", "vector": [0.5] * 20_000},
    {"kind": "embedding", "vector": ["__import__('os')"]},
    {"kind": "embedding", "vector": []},
    {"kind": "sequence", "sequence": "MKV; rm -rf /"},
    {"kind": "sequence", "sequence": "MKV\0MKV"},
    {"kind": "sequence", "sequence": "--db-load-mode"},
    {"kind": "sequence", "sequence": ">a\nMKV\n>b\nMKV"},
    {"kind": "sequence", "sequence": "M" * 200_000},
    {"kind": "sequence", "sequence": "MKV", "limit": 10**9},
    {"kind": "sequence", "sequence": "MKV", "max_evalue": 1e300},
    {"kind": "sequence", "sequence": "MKV", "temporary": "/etc"},
    {"kind": "worker", "sequence": "MKV"},
    {"sequence": "MKV"},
    [{"kind": "sequence", "sequence": "MKV"}],
]


@pytest.mark.parametrize("body", ATTACKS, ids=lambda body: str(body)[:60])
def test_attacks_are_refused(served: CurrentAtlas, queue_of: Callable[..., Searches], body: object) -> None:
    """None of them becomes a search."""
    searches = queue_of()
    response = client_of(served, searches).post("/v1/searches", json=body)
    assert 400 <= response.status_code < 500 and response.headers["content-type"] == "application/problem+json"
    assert "root:" not in response.text and "Traceback" not in response.text
    assert searches.counts() == {"waiting": 0, "running": 0}


def test_large_bodies_are_few_at_a_time(served: CurrentAtlas, queue_of: Callable[..., Searches]) -> None:
    """A structure may be larger than other bodies, but the server keeps few of them in memory."""
    body = {"kind": "structure", "structure": "x" * (2 << 20)}
    assert client_of(served, queue_of()).post("/v1/searches", json=body).status_code == 202
    full = client_of(served, queue_of(), limits=Limits(large_bodies=0))
    refused = full.post("/v1/searches", json=body)
    assert refused.status_code == 503 and refused.headers["Retry-After"]
    assert full.post("/v1/batch/proteins", json={"ids": ["x" * (2 << 20)]}).status_code == 413


def test_without_a_database_the_answer_says_how(served: CurrentAtlas, client: TestClient, tmp_path: Path) -> None:
    assert client.get("/healthz").json()["search"] is None
    assert client.post("/v1/searches", json={"kind": "embedding", "vector": [1.0]}).status_code == 503
    with Searches(served, tmp_path) as searches:
        other = client_of(served, searches)
        for response in (
            other.get("/v1/search"),
            other.post("/v1/searches", json={"kind": "sequence", "sequence": "M"}),
        ):
            assert response.status_code == 503 and "foldatlas index --search" in response.json()["detail"]
        assert "foldatlas index --search" in other.get("/healthz").json()["search"]
    assert client_of(served, None).get("/v1/search").status_code == 503


def test_off_loopback_searches_need_a_token_or_a_word(served: CurrentAtlas, queue_of: Callable[..., Searches]) -> None:
    body = {"kind": "sequence", "sequence": "MKV"}
    refused = client_of(served, queue_of(), host="0.0.0.0")
    assert refused.post("/v1/searches", json=body).status_code == refused.get("/v1/search").status_code == 403
    named = client_of(served, queue_of(), host="0.0.0.0", public=frozenset({"search"}))
    assert named.post("/v1/searches", json=body).status_code == 202


def job_of(root: Path, temporary: Path, query: Sequence | Embedding) -> Job:
    return Job(query, str(root), str(temporary), 10, 1, 1_000, 1 << 30, 60, 1 << 30)


def test_a_killed_process_is_a_failed_search(families: Path) -> None:
    """Killed by the system, and stopped by the server; its folder is deleted each time."""
    query = Sequence(PROTEINS[0].sequence, 1e-3)
    killed, stopped = SearchProcess(warm=False), SearchProcess(warm=False)
    os.kill(killed._process.pid, signal.SIGKILL)
    result = killed.run(job_of(families / "search", killed.temporary, query), lambda phase, fraction: None)
    assert isinstance(result, Failed) and result.reason == "killed"
    stopped.stop(Failed("timeout", "stopped after 1 s"))
    result = stopped.run(job_of(families / "search", stopped.temporary, query), lambda phase, fraction: None)
    assert result == Failed("timeout", "stopped after 1 s")
    assert not killed.temporary.exists() and not stopped.temporary.exists()


CONFINED = """
import sys
from pathlib import Path
import msgspec
from foldatlas.atlas.serve.cage.confine import escapes
from foldatlas.atlas.serve.search.requests import Job
from foldatlas.atlas.serve.search.worker import _limit
job = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Job)
index = Path(job.root).parent / "atlas.duckdb"
_limit(job)
sys.stdout.write(repr(escapes(Path(job.root).parent, index)))
"""


@pytest.mark.skipif(landlock.version() < landlock.MIN_VERSION, reason="this kernel has no Landlock")
def test_uploads_are_read_in_a_confined_process(families: Path, tmp_path: Path) -> None:
    """The process of a structure or an embedding can do nothing that `escapes` tries."""
    job = job_of(families / "search", tmp_path, Embedding(b""))
    command = [sys.executable, "-c", CONFINED]
    environment = {**os.environ, "JE_ARROW_MALLOC_CONF": "background_thread:false", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(command, input=msgspec.msgpack.encode(job), capture_output=True, env=environment, check=True)
    assert ran.stdout == b"[]"
