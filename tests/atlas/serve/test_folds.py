"""Folding on demand: nano in one child process for the module, and a model that folds when the test lets it."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

import gemmi
import numpy as np
import pytest
from starlette.testclient import TestClient

from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.folds import CannotFold, FoldingFailed, FoldLimits, Folds, QueueFull
from foldatlas.atlas.serve.http import folds as routes
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings, token_digest
from foldatlas.jobs.serve import on_demand
from foldatlas.schemas.records import num_atoms, structure_id

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"
ROUTE = "/foldSequence/v1/pdb/"


@dataclass(frozen=True)
class Straight:
    """Atoms on a line."""

    sequence: str
    ptm: float = 0.5
    mean_plddt: float = 50.0

    @property
    def positions(self) -> np.ndarray:
        atoms = sum(num_atoms(residue) for residue in self.sequence)
        return np.arange(3 * atoms, dtype=np.float32).reshape(atoms, 3) / 10

    @property
    def plddt(self) -> np.ndarray:
        return np.full(len(self.sequence), 50, np.float32)


class Held:
    """A model that folds when the test lets it: `begun` is set as a sequence begins."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.folded: list[str] = []

    def __call__(self, sequence: str) -> Straight:
        self.begun.set()
        assert self.may_end.wait(60)
        self.folded.append(sequence)
        if sequence.startswith("CC"):
            raise CannotFold("the model gives no structure for this sequence")
        if sequence.startswith("WW"):
            raise FoldingFailed("WorkerDied")
        if sequence.startswith("HH"):
            raise ZeroDivisionError
        return Straight(sequence)


@pytest.fixture
def held() -> Iterator[Held]:
    model = Held()
    yield model
    model.may_end.set()


@pytest.fixture(scope="module")
def nano() -> Iterator[Folds]:
    with on_demand("nano", "cpu") as folds:
        yield folds


def client_of(current: CurrentAtlas, folds: Folds | None, **settings: object) -> TestClient:
    app = create_app(current, ServerSettings(**settings), folding=folds)
    return TestClient(app, base_url="http://localhost:8000", raise_server_exceptions=False)


def test_nano_folds_a_sequence_of_the_esm_route(current: CurrentAtlas, nano: Folds) -> None:
    """gemmi reads back its sequence, a chain of residues 3.8 A apart, and pLDDT as the job reports its mean."""
    client = client_of(current, nano)
    answer = client.post(ROUTE, content=SEQUENCE)
    assert answer.status_code == 200 and answer.headers["content-type"] == "chemical/x-pdb"
    [chain] = gemmi.read_pdb_string(answer.text)[0]
    assert gemmi.one_letter_code([residue.name for residue in chain]) == SEQUENCE
    alphas = np.array([residue["CA"][0].pos.tolist() for residue in chain])
    np.testing.assert_allclose(np.linalg.norm(np.diff(alphas, axis=0), axis=1), 3.8, atol=0.8)
    job = client.post("/v1/folds", json={"sequence": SEQUENCE}).json()
    assert job["state"] == "done" and job["mean_plddt"] > 0
    assert np.mean([residue["CA"][0].b_iso for residue in chain]) == pytest.approx(job["mean_plddt"], abs=0.02)


def test_a_job_leads_to_its_structure(current: CurrentAtlas, nano: Folds) -> None:
    """Equal sequences, of whatever letters, are folded once; the random name is all that leads to a job."""
    client = client_of(current, nano)
    made = client.post("/v1/folds", json={"sequence": f">name\n{SEQUENCE[:10].lower()}\n{SEQUENCE[10:]}*"})
    assert made.status_code == 202
    job = made.json()
    while job["state"] in ("waiting", "running"):
        job = client.get(made.headers["location"]).json()
    assert (job["state"], job["length"], job["model"]) == ("done", len(SEQUENCE), "nano")
    pdb = client.get(f"/v1/folds/{job['id']}/structure")
    assert pdb.headers["cache-control"] == "private, no-store" and "folded on demand" in pdb.text.lower()
    cif = gemmi.cif.read_string(client.get(f"/v1/folds/{job['id']}/structure?format=cif").text)
    assert gemmi.make_structure_from_block(cif.sole_block())[0].count_atom_sites() == pdb.text.count("\nATOM")
    assert client.delete(f"/v1/folds/{job['id']}").status_code == 204
    assert client.get(f"/v1/folds/{job['id']}").status_code == 404


def test_a_killed_child_costs_one_answer(current: CurrentAtlas, nano: Folds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before it gets a sequence: 503, and the next request has a new process."""
    from foldatlas.pipeline.workers.supervisor import Child

    client = client_of(current, nano)
    assert client.post(ROUTE, content="MKLLAA").status_code == 200
    started = Child._ensure_started

    def killed(self: Child) -> object:
        monkeypatch.setattr(Child, "_ensure_started", started)
        link = started(self)
        link.process.kill()
        link.process.wait()
        return link

    monkeypatch.setattr(Child, "_ensure_started", killed)
    answer = client.post(ROUTE, content="MKLLAAWW")
    assert answer.status_code == 503 and answer.headers["retry-after"]
    assert client.post(ROUTE, content="MKLLAAV").status_code == 200


def test_a_structure_of_the_atlas_is_not_folded(current: CurrentAtlas, held: Held) -> None:
    with Folds(held, "held") as folds:
        client = client_of(current, folds)
        sequence = client.get("/v1/sequences/a1").json()["sequence"]
        answer = client.post(ROUTE, content=sequence)
        assert answer.text == client.get("/v1/structures/a1").text
        job = client.post("/v1/folds", json={"sequence": sequence}).json()
        assert (job["state"], job["is_in_atlas"], job["structure_id"].replace("-", "")) == (
            "done", True, structure_id(sequence).hex()
        )  # fmt: skip
        assert client.get(f"/v1/folds/{job['id']}/structure").text == answer.text
        assert held.folded == []


def test_the_atlas_needs_its_own_access(current: CurrentAtlas, held: Held) -> None:
    """Where folding is public and the atlas is not, an answer does not come from the atlas."""
    tokens = frozenset({token_digest("a" * 32)})
    sequence = client_of(current, None).get("/v1/sequences/a1").json()["sequence"]
    held.may_end.set()
    with Folds(held, "held") as folds:
        client = client_of(current, folds, tokens=tokens, public=frozenset({"fold"}))
        assert client.get("/v1/structures/a1").status_code == 401
        assert client.post(ROUTE, content=sequence).status_code == 200
        assert held.folded == [sequence]


def test_the_queue_is_bounded(held: Held) -> None:
    """One runs; two may wait, one of each client; equal sequences share a place."""
    with Folds(held, "held", FoldLimits(waiting=2, per_client=1)) as folds:
        first = folds.submit("AAAA", "one")
        assert held.begun.wait(60) and first.state == "running"
        second = folds.submit("CCAA", "one")
        with pytest.raises(QueueFull, match="this address"):
            folds.submit("GGGG", "one")
        third = folds.submit("GGGG", "two")
        with pytest.raises(QueueFull, match="too many"):
            folds.submit("VVVV", "three")
        again = folds.submit("GGGG", "three")
        assert again.work is third.work and again.name != third.name
        assert [folds.position(job) for job in (second, third)] == [1, 2]
        folds.cancel(third)
        assert again.state == "waiting"
        folds.cancel(second)
        held.may_end.set()
        assert again.work is not None and again.work.result.result(60).sequence == "GGGG"
        assert held.folded == ["AAAA", "GGGG"]


@pytest.mark.parametrize(("sequence", "status"), [("CCAA", 422), ("WWAA", 503), ("HHAA", 503), ("AAAA", 200)])
def test_each_failure_has_its_answer(current: CurrentAtlas, held: Held, sequence: str, status: int) -> None:
    held.may_end.set()
    with Folds(held, "held") as folds:
        client = client_of(current, folds)
        answer = client.post(ROUTE, content=sequence)
        assert answer.status_code == status
        assert status == 200 or answer.headers["content-type"] == "application/problem+json"
        assert sequence not in answer.text or status == 200
        job = client.post("/v1/folds", json={"sequence": sequence}).json()
        while job["state"] in ("waiting", "running"):
            job = client.get(f"/v1/folds/{job['id']}").json()
        assert job["state"] == ("done" if status == 200 else "failed")
        assert (job["detail"] is None) == (status == 200)
        # A failure is not kept; a structure is.
        assert held.folded == ([sequence] if status == 200 else [sequence, sequence])


@pytest.mark.parametrize(
    ("sequence", "detail"),
    [
        ("", "is empty"),
        ("MK:VL", "letter 3"),
        ("M" * 11, "at most 10"),
        ("\xff\xfe", "letter 1"),
        (">only a header", "empty"),
    ],
)
def test_wrong_sequences_are_refused(current: CurrentAtlas, held: Held, sequence: str, detail: str) -> None:
    with Folds(held, "held", FoldLimits(length=10)) as folds:
        answer = client_of(current, folds).post(ROUTE, content=sequence.encode("latin-1"))
        assert answer.status_code == 400 and detail in answer.json()["detail"]
    assert not held.begun.is_set()


def test_a_long_wait_ends_with_503(current: CurrentAtlas, held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result is kept: the same request gets it later."""
    monkeypatch.setattr(routes, "WAIT_SECONDS", 0.01)
    with Folds(held, "held") as folds:
        client = client_of(current, folds)
        first = client.post(ROUTE, content="AAAA")
        assert first.status_code == 503 and "ask again" in first.json()["detail"]
        held.may_end.set()
        monkeypatch.setattr(routes, "WAIT_SECONDS", 60.0)
        assert client.post(ROUTE, content="AAAA").status_code == 200
        assert held.folded == ["AAAA"]


def test_results_are_bounded_in_bytes_and_time(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    held.may_end.set()
    size = Straight("AAAA").positions.nbytes + Straight("AAAA").plddt.nbytes
    with Folds(held, "held", FoldLimits(keep_bytes=2 * size)) as folds:
        jobs = []
        for sequence in ("AAAA", "GAAA", "AGAA"):
            jobs.append(folds.submit(sequence, "one"))
            jobs[-1].work.result.result(60)
        names = [job.name for job in jobs]
        assert [folds.get(name) is not None for name in names] == [False, True, True]
        while any(job.work.ended is None for job in jobs):  # set just after the result
            pass
        monkeypatch.setattr("foldatlas.atlas.serve.folds.time.monotonic", lambda: 1e12)
        assert [folds.get(name) for name in names] == [None] * 3


def test_off_loopback_folding_needs_a_token_or_a_name(current: CurrentAtlas, held: Held) -> None:
    assert ServerSettings(host="0.0.0.0").access("fold") == "off"
    assert ServerSettings(host="0.0.0.0", public=frozenset({"fold"})).access("fold") == "public"
    with Folds(held, "held") as folds:
        client = client_of(current, folds, host="0.0.0.0")
        assert client.post(ROUTE, content="AAAA").status_code == 403
        assert client_of(current, None).post(ROUTE, content="AAAA").status_code == 503
        assert client_of(current, None).get("/healthz").json()["fold"] == "folding was not started"


def test_logs_and_metrics_hold_no_sequence(current: CurrentAtlas, held: Held, caplog: pytest.LogCaptureFixture) -> None:
    held.may_end.set()
    with caplog.at_level("DEBUG", "foldatlas"), Folds(held, "held") as folds:
        client = client_of(current, folds)
        client.post(ROUTE, content="HHAAAA")
        name = client.post("/v1/folds", json={"sequence": "AAGGAA"}).json()["id"]
        client.get(f"/v1/folds/{name}")
        metrics = client.get("/metrics").text
    for secret in ("HHAAAA", "AAGGAA", name):
        assert secret not in caplog.text and secret not in metrics
