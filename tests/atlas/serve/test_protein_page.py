"""The page of one protein, its nearest known structure and its aligned errors, against SQL and the stored files.

Superpositions are compared with numpy's SVD, aligned errors with those that were written.
"""

import shutil
import struct
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import duckdb
import imported_atlas
import numpy as np
import pyarrow.parquet as pq
import pytest
import report_atlas
from built_atlas import Built
from shared import made_once
from starlette.testclient import TestClient

from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve import nearest_known
from foldatlas.atlas.serve.aligned_errors import compact
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings
from foldatlas.atlas.serve.verdicts import verdict
from foldatlas.schemas.records import ATOMS

LOCAL = "http://localhost:8000"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_once(tmp_path_factory, "report", report_atlas.build) / "atlas"


@pytest.fixture(scope="module")
def searched(root: Path) -> Iterator[TestClient]:
    """A client of an atlas with clusters, a search, PAE and hostile headers."""
    with CurrentAtlas(root) as current:
        yield TestClient(create_app(current, ServerSettings()), base_url=LOCAL)


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A client of imported structures, of which scores are NULL and nothing was searched."""
    folder = imported_atlas.make_imported(tmp_path_factory.mktemp("imported") / "atlas")
    build_index(folder)
    with CurrentAtlas(folder.root) as current:
        yield TestClient(create_app(current, ServerSettings()), base_url=LOCAL)


def page(client: TestClient, name: str) -> dict:
    response = client.get("/v1/explore/proteins/" + name)
    assert response.status_code == 200, response.text
    return response.json()


def hit_row(root: Path, identity: str) -> dict:
    """The row of a structure in the files of the search."""
    for path in root.glob("novelty/*/hits/*.parquet"):
        for row in pq.read_table(path).to_pylist():
            if str(row["structure_id"]) == identity:
                return row
    raise AssertionError(identity)


def target_of(root: Path, name: str) -> dict:
    [path] = root.glob("novelty/*/targets/*.parquet")
    return next(row for row in pq.read_table(path).to_pylist() if row["name"] == name)


def c_alphas(root: Path, name: str) -> np.ndarray:
    with Atlas.open(root) as atlas:
        structure = atlas.structure(name)
    starts = np.cumsum([0, *(len(ATOMS[letter]) for letter in structure.sequence)])[:-1]
    return structure.positions[starts + 1].astype(float)


def kabsch(mobile: np.ndarray, fixed: np.ndarray) -> np.ndarray:
    """`mobile` superposed on `fixed`, by numpy's SVD."""
    a, b = mobile - mobile.mean(0), fixed - fixed.mean(0)
    u, _, v = np.linalg.svd(a.T @ b)
    flip = np.diag([1, 1, np.sign(np.linalg.det(u @ v))])
    return a @ u @ flip @ v + fixed.mean(0)


def pairs(blocks: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    own = [first + step for first, _, size in blocks for step in range(size)]
    other = [second + step for _, second, size in blocks for step in range(size)]
    return np.array(own), np.array(other)


def test_page_has_what_sql_has(searched: TestClient, root: Path) -> None:
    found = page(searched, "known")
    with Atlas.open(root) as atlas:
        row = atlas.sql("SELECT * FROM proteins WHERE id = 'known'").df().iloc[0]
        clusters = atlas.sql("SELECT * FROM clusters WHERE cluster = $one", {"one": row["cluster30"]}).df()
        structure = atlas.structure("known")
    for name in ("length", "mean_plddt", "ptm", "tm_query", "radius_of_gyration", "fraction_very_high"):
        assert found[name] == pytest.approx(row[name], rel=1e-6), name
    assert found["sequence"] == structure.sequence
    assert found["plddt"] == pytest.approx(structure.plddt.tolist(), abs=1e-3)
    assert {one["level"]: one["num_structures"] for one in found["clusters"]}["identity30"] == int(
        clusters[clusters["level"] == "identity30"]["num_structures"].iloc[0]
    )
    assert (found["num_records"], [record["id"] for record in found["records"]]) == (1, ["known"])
    assert found["verdict"] == "known" and "entry0" in found["verdict_reason"]
    [hit] = found["hits"]
    assert (hit["target"], hit["state"], hit["is_latest"]) == ("entry0", "hit", True)
    assert found["has_pae"] and found["provenance"]["model"] == "nano" and found["neighbours"] is None


def test_verdicts_are_those_of_the_views(searched: TestClient, root: Path) -> None:
    """Novel is what the view `novel` has, known what has a TM-score of 0.5."""
    with Atlas.open(root) as atlas:
        rows = atlas.sql(
            "SELECT structure_id, tm_query, structure_id IN (SELECT structure_id FROM novel), cluster_structure IN "
            "(SELECT cluster FROM dark_clusters) FROM proteins ORDER BY id"
        ).rows()
    kinds: dict[tuple, list] = {}
    for row in rows:
        kinds.setdefault((row[1] is None, (row[1] or 0) >= 0.5, *row[2:]), []).append(row)
    found: dict[str, int] = {}
    for identity, score, is_novel, is_dark in [row for alike in kinds.values() for row in alike[:3]]:
        word = page(searched, str(identity))["verdict"]
        found[word] = found.get(word, 0) + 1
        assert (word == "novel") == is_novel, identity
        assert (word == "known") == (score is not None and score >= 0.5), identity
        assert (word == "not_searched") == (score is None), identity
        assert (word == "dark") == (bool(is_dark) and not is_novel and score is not None), identity
    assert {"novel", "known", "not_searched", "dark"} <= found.keys()


def test_a_demonstration_makes_nothing_novel() -> None:
    row = {"tm_query": 0.4999, "nearest_structure": "x", "mean_plddt": 95.0, "ptm": None, "length": 80}
    search = {"reason": None, "reference": "demo", "is_demonstration": True}
    assert verdict(row, search, False)[0] == "unclear"
    word, reason = verdict(row, {**search, "is_demonstration": False}, False)
    assert word == "novel" and "0.4999" in reason, "0.50 would contradict the verdict"
    for change in ({"mean_plddt": None}, {"mean_plddt": 70.0}, {"ptm": 0.7}, {"length": 59}):
        assert verdict({**row, **change}, None, False)[0] == "unclear", change
        assert verdict({**row, **change}, None, True)[0] == "dark", change


def test_nearest_structure_is_superposed(searched: TestClient, root: Path) -> None:
    """The target under the stored transform lies on the protein where a superposition by SVD puts it."""
    found = searched.get("/v1/superposed/known").json()
    row, target = hit_row(root, found["structure_id"]), target_of(root, "entry0")
    stored = np.stack([target[axis] for axis in "xyz"], axis=-1).astype(float)
    placed, protein = np.array(found["c_alphas"]), c_alphas(root, "known")
    assert (found["target"], found["length"], found["sequence"]) == ("entry0", len(stored), target["sequence"])
    own, other = pairs(found["alignment"])
    assert len(own) == found["aligned_length"] == row["aligned_length"]
    apart = np.linalg.norm(placed[other] - protein[own], axis=1)
    assert np.sqrt((apart**2).mean()) == pytest.approx(found["rmsd"], abs=0.02)
    best = np.linalg.norm(kabsch(stored[other], protein[own]) - protein[own], axis=1)
    assert np.sqrt((best**2).mean()) <= found["rmsd"] + 0.02
    # the transform keeps the target's shape, and its hand
    np.testing.assert_allclose(kabsch(stored, placed), placed, atol=0.02)
    sequence = page(searched, "known")["sequence"]
    same = [found["sequence"][j] == sequence[i] for i, j in zip(own, other, strict=True)]
    assert np.mean(same) == pytest.approx(found["identity"], abs=1e-3)
    assert (found["placed_by"], found["licence"]) == ("search", target["licence"])


def test_a_members_nearest_structure_is_superposed_here() -> None:
    """A member of a cluster has no transform of its own: it follows the representative's alignment."""
    rng = np.random.default_rng(5)
    letters = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 80))
    target_xyz = np.cumsum(rng.normal(size=(80, 3)) * 2.2, axis=0)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.linalg.det(turn))
    member_letters = letters[3:40] + "WWWW" + letters[40:]  # three residues fewer, then four more
    places = np.concatenate([np.arange(3, 40), np.full(4, 20), np.arange(40, 80)])
    member_xyz = (target_xyz @ turn.T + [5, -3, 40])[places]

    def stored(sequence: str, c_alphas: np.ndarray) -> SimpleNamespace:
        sizes = [len(ATOMS[letter]) for letter in sequence]
        positions = np.repeat(c_alphas, sizes, axis=0)
        return SimpleNamespace(sequence=sequence, positions=positions)

    target = SimpleNamespace(name="t", sequence=letters, c_alphas_L3=target_xyz.astype(np.float32))
    representative = stored(letters, target_xyz + 100)
    placed, blocks, values = nearest_known._inherited(
        stored(member_letters, member_xyz), representative, target, [0, 0, 80]
    )
    np.testing.assert_allclose(placed, target_xyz @ turn.T + [5, -3, 40], atol=1e-3)
    own, other = pairs(blocks.tolist())
    assert len(own) == values["aligned_length"] == 77 and values["rmsd"] < 1e-3 and values["identity"] == 1
    assert (places[own] == other).all()


def test_no_nearest_structure_is_404_with_the_reason(searched: TestClient, imported: TestClient) -> None:
    for client, name, reason in ((searched, "short", "fewer than 30 residues"), (imported, "full", "was not searched")):
        response = client.get(f"/v1/superposed/{name}")
        assert response.status_code == 404 and reason in response.json()["detail"]


def test_aligned_errors_are_the_stored_bytes(searched: TestClient, root: Path) -> None:
    found = searched.get("/v1/pae/known")
    known = page(searched, "known")
    n, length, block, scale = struct.unpack_from("<4I", found.content)
    assert n == length == known["length"] and (block, scale, len(found.content)) == (1, 8, 16 + n * n)
    identity = uuid.UUID(known["structure_id"]).bytes
    stored = [
        row["pae"]
        for path in root.glob("pae/*.parquet")
        for row in pq.read_table(path).to_pylist()
        if row["structure_id"].bytes == identity
    ]
    assert list(found.content[16:]) == stored[0]
    again = searched.get("/v1/pae/known", headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    part = searched.get("/v1/pae/known", headers={"Range": "bytes=0-15"})
    assert part.status_code == 206 and part.content == found.content[:16]


def test_aligned_errors_of_long_proteins_are_means() -> None:
    errors = np.random.default_rng(1).uniform(0, 31, (50, 50)).astype(np.float32)
    content = compact(errors, 16)
    n, length, block, scale = struct.unpack_from("<4I", content)
    assert (n, length, block, scale) == (13, 50, 4, 8)
    found = np.frombuffer(content, np.uint8, offset=16).reshape(n, n) / scale
    expected = [[errors[i : i + 4, j : j + 4].mean() for j in range(0, 50, 4)] for i in range(0, 50, 4)]
    np.testing.assert_allclose(found, expected, atol=1 / 16 + 1e-6)


def test_absent_aligned_errors_are_404(imported: TestClient) -> None:
    response = imported.get("/v1/pae/full")
    assert response.status_code == 404 and "no predicted aligned errors" in response.json()["detail"]
    assert not page(imported, "full")["has_pae"]


@pytest.mark.parametrize(
    ("name", "ptm", "plddt"), [("full", True, True), ("plddt", False, True), ("bare", False, False)]
)
def test_imported_scores_can_be_null(imported: TestClient, name: str, ptm: bool, plddt: bool) -> None:
    found = page(imported, name)
    assert (found["ptm"] is not None, found["mean_plddt"] is not None) == (ptm, plddt)
    assert any(value is not None for value in found["plddt"]) == plddt
    assert found["verdict"] == "not_searched" and found["hits"] == found["clusters"] == []
    licences = {"full": ("ESMFold", "CC-BY-SA-4.0"), "plddt": ("AlphaFold Monomer v2.0", "CC-BY-4.0")}
    stated = licences.get(name, (None, None))
    assert (found["provenance"]["model"], found["provenance"]["licence"]) == stated
    assert ("jumper2021" in found["citation"]["bibtex"]) == (name == "plddt")
    assert "doi" not in found["citation"]["bibtex"].partition("}\n\n")[0], "of the atlas no DOI is known"


def test_records_of_one_structure_are_listed(imported: TestClient) -> None:
    found = page(imported, "full")
    assert (found["num_records"], [record["id"] for record in found["records"]]) == (2, ["again", "full"])


def test_neighbours_are_the_nearest_on_the_map(indexed: Built, tmp_path: Path) -> None:
    """Positions are put into the table of the map; distances are numpy's."""
    root = Path(shutil.copytree(indexed.root, tmp_path / "atlas"))
    rng = np.random.default_rng(3)
    with duckdb.connect(str(root / "atlas.duckdb")) as connection:
        present = "SELECT DISTINCT structure_id FROM proteins ORDER BY structure_id"
        identities = [identity for (identity,) in connection.execute(present).fetchall()]
        points = rng.normal(size=(len(identities), 2)).astype(np.float32)
        rows = [[identity, float(x), float(y)] for identity, (x, y) in zip(identities, points, strict=True)]
        connection.executemany("INSERT INTO projection VALUES (?, ?, ?, true)", rows)
        run = "VALUES ('made', 'tsne', 'composition', true)"
        connection.execute(f"INSERT INTO projection_runs (run, method, features, is_latest) {run}")
    with CurrentAtlas(root) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url=LOCAL)
        near = page(client, str(identities[7]))["neighbours"]
    apart = np.linalg.norm(points - points[7], axis=1)
    expected = np.argsort(apart)[1:13]
    assert [uuid.UUID(item["structure_id"]) for item in near["items"]] == [identities[n] for n in expected]
    np.testing.assert_allclose([item["distance"] for item in near["items"]], apart[expected], atol=1e-3)


def test_hostile_texts_are_given_as_they_are(searched: TestClient) -> None:
    """JSON has the texts of headers; a BibTeX entry is not ended by one."""
    with_markup = next(iter(report_atlas.HOSTILE))
    found = page(searched, with_markup.replace("/", "%2F").replace("#", "%23"))
    assert found["id"] == with_markup and found["description"] == report_atlas.HOSTILE[with_markup]
    entry = found["citation"]["bibtex"].partition("\n\n")[0]
    plain = entry.replace(r"\{", "").replace(r"\}", "")
    assert plain.count("{") == plain.count("}")


def test_unknown_and_ambiguous_names(client: TestClient) -> None:
    assert client.get("/v1/explore/proteins/nobody").status_code == 404
    answer = client.get("/v1/explore/proteins/a0")
    assert answer.status_code == 409 and len(answer.json()["structure_ids"]) == 2
