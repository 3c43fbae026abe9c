"""PAE, pTM and pLDDT in JSON files beside structures: imported, given back by every reader, and never trusted."""

import json
import random
import shutil
import tarfile
import uuid
from pathlib import Path

import gemmi
import made_structures
import numpy as np
import pyarrow.parquet as pq
import pytest
from commands import in_this_process as run
from starlette.testclient import TestClient

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.current import CurrentAtlas
from foldatlas.atlas.serve.http.app import create_app
from foldatlas.atlas.serve.settings import ServerSettings
from foldatlas.jobs.diff import diff
from foldatlas.jobs.import_ import ImportSummary, import_structures
from foldatlas.jobs.verify import verify
from foldatlas.pipeline.importing.sources import find_structure_sources

pytestmark = pytest.mark.usefixtures("one_reader")

RNG = np.random.default_rng(7)
NAMES = ("alphafold", "older", "colabfold", "api", "wrong", "broken", "bare", "other", "plain", "simple", "third")
LENGTHS = {name: 30 + number for number, name in enumerate(NAMES)}
PAE = {name: RNG.uniform(0, 31.75, (length, length)).round(2) for name, length in LENGTHS.items()}
PLDDT = {name: RNG.uniform(30, 95, length).round(2) for name, length in LENGTHS.items()}
WITH_PAE = ("alphafold", "older", "colabfold", "api")
STORED_ERROR = 1 / 16  # angstrom: PAE is stored in steps of 1/8


def pdb(name: str, scale: float = 1, header: str = "") -> str:
    length = LENGTHS[name]
    sequence = made_structures.random_sequence(length, length)
    made = made_structures.structure({"A": (sequence, made_structures.backbone(length, length))})
    for residue, value in zip(made[0][0], PLDDT[name], strict=True):
        for atom in residue:
            atom.b_iso = float(value / scale)
    return header + made.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))


def contents() -> dict[str, str]:
    """Files by name. `wrong` has PAE of another length, `broken` no JSON, `plain` no numbers; `other` has JSON that is
    not of confidence."""
    title = "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR X (P1)\n"
    pae = {name: matrix.tolist() for name, matrix in PAE.items()}
    scores = {"plddt": PLDDT["colabfold"].tolist(), "ptm": 0.8, "max_pae": 31.75, "pae": pae["colabfold"]}
    fractions = (PLDDT["api"] / 100).round(4).tolist()
    files = {
        "AF-alphafold-F1-model_v4.pdb": pdb("alphafold", header=title),
        "AF-alphafold-F1-predicted_aligned_error_v4.json": [{"predicted_aligned_error": pae["alphafold"]}],
        "deep/AF-older-F1-model_v2.pdb": pdb("older", header=title),
        "deep/AF-older-F1-predicted_aligned_error_v2.json": [{"distance": PAE["older"].ravel().tolist()}],
        "colabfold_unrelaxed_rank_001_m.pdb": pdb("colabfold"),
        "colabfold_scores_rank_001_m.json": scores,
        "api.pdb": pdb("api", 100),
        "api.json": {"plddt": fractions, "ptm": 0.6, "pae": pae["api"]},
        "wrong.pdb": pdb("wrong", header=title),
        "wrong.json": {"pae": pae["bare"], "ptm": 0.5},
        "broken.pdb": pdb("broken", header=title),
        "broken.json": '{"pae": [[1, 2',
        "plain.json": {"pae": [[None]]},
        **{f"{name}.pdb": pdb(name, header=title) for name in ("bare", "plain", "simple", "third")},
        "other.pdb": pdb("other", header=title),
        "other.json": {"author": "nobody"},
    }
    return {name: one if isinstance(one, str) else json.dumps(one) for name, one in files.items()}


def imported(root: Path, source: Path, **options: object) -> ImportSummary:
    summary = import_structures([str(source)], root / "atlas", id_from="^(?:AF-)?([a-z]+)", **options)
    assert (summary.accounting.folded, summary.report.unread) == (11, 3)
    return summary


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files and the atlas of them. Read only."""
    root = tmp_path_factory.mktemp("pae")
    for name, content in contents().items():
        (root / "files" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "files" / name).write_text(content)
    imported(root, root / "files")
    return root


def stored(atlas: Path) -> dict[str, np.ndarray]:
    """PAE by id, in angstrom, read by DuckDB alone."""
    with Atlas.open(atlas) as opened:
        rows = opened.query("SELECT id, length, pae FROM proteins JOIN pae USING (structure_id, length)").rows()
    return {name: np.array(values).reshape(length, length) / 8 for name, length, values in rows}


def test_pae_is_that_of_the_files(root: Path) -> None:
    found = stored(root / "atlas")
    assert found.keys() == set(WITH_PAE)
    for name in WITH_PAE:
        np.testing.assert_allclose(found[name], PAE[name], atol=STORED_ERROR + 1e-6)


def test_scores_beside_declare_plddt_and_ptm(root: Path) -> None:
    """Also where B-factors and scores are fractions, as the ESM Atlas's API has them."""
    with Atlas.open(root / "atlas") as atlas:
        rows = atlas.query("SELECT id, mean_plddt, ptm, plddt_source FROM proteins").rows()
    found = {name: values for name, *values in rows}
    for name in ("colabfold", "api"):
        mean, ptm, source = found[name]
        assert mean == pytest.approx(PLDDT[name].mean(), abs=0.3) and source == "declared"
        assert ptm == pytest.approx({"colabfold": 0.8, "api": 0.6}[name])
    assert found["wrong"][1] is None and found["alphafold"][1] is None


def test_faults_are_in_records_and_cost_no_structure(root: Path) -> None:
    with Atlas.open(root / "atlas") as atlas:
        rows = atlas.query("SELECT id, outcome, description FROM records WHERE path LIKE '%.pdb'").rows()
    reasons = {name: text for name, outcome, text in rows if outcome == "accepted" and "[" in text}
    assert len(rows) == 11 and reasons.keys() == {"wrong", "broken", "plain"}
    assert reasons["wrong"].endswith(
        "[confidence not read: wrong.json: its PAE has 36 rows, the structure 34 residues]"
    )
    assert "broken.json: it is not JSON" in reasons["broken"]


def test_verify_counts_structures_without_pae(root: Path, tmp_path: Path) -> None:
    """PAE of another shard is a fault. Shards have none, or rows of some of their structures."""
    found = verify(root / "atlas")
    assert found.faults == [] and found.notes == ["7 of 11 structures have no PAE"]
    entries = AtlasFolder(root / "atlas").entries().values()
    rows = {(entry.files["pae"].rows if "pae" in entry.files else 0, entry.folded) for entry in entries}
    assert rows > {(0, 1), (1, 1), (1, 2)}
    atlas = Path(shutil.copytree(root / "atlas", tmp_path / "atlas"))
    first, second = sorted((atlas / "pae").iterdir())[:2]
    shutil.copyfile(second, first)
    assert f"pae/{first.name}" in {fault.where for fault in verify(atlas).faults}


@pytest.mark.parametrize("order", ["last", "mixed"])
def test_archives_have_json_anywhere(order: str, root: Path, tmp_path: Path) -> None:
    """After the structures, and before and between them."""
    names = sorted(contents(), key=lambda name: name.endswith(".json") == (order == "last"))
    if order == "mixed":
        random.Random(3).shuffle(names)
    path = tmp_path / ("x.tar" if order == "last" else "x.tar.gz")
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name in names:
            archive.add(root / "files" / name, name)
    imported(tmp_path, path)
    expected, found = stored(root / "atlas"), stored(tmp_path / "atlas")
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert not (tmp_path / "atlas" / ".staging").exists()


def test_exports_and_server_give_pae_back(root: Path, tmp_path: Path) -> None:
    """As JSON that is imported again, as an atlas, and over HTTP: the same integers."""
    atlas, expected = root / "atlas", stored(root / "atlas")
    assert run("export", atlas, tmp_path / "files", "--format", "pdb", "--pae").returncode == 0
    names = {path.name for path in (tmp_path / "files").glob("*.pae.json")}
    assert names == {f"{name}.pae.json" for name in WITH_PAE}
    imported_again = import_structures([str(tmp_path / "files")], tmp_path / "again", id_from="header")
    assert imported_again.accounting.folded == 11
    assert run("export", atlas, tmp_path / "subset", "--format", "parquet", "--where", "id <> 'older'").returncode == 0
    assert verify(tmp_path / "subset").faults == []
    for copy, lacks in ((tmp_path / "again", set()), (tmp_path / "subset", {"older"})):
        found = stored(copy)
        assert found.keys() == set(WITH_PAE) - lacks
        assert all(np.array_equal(found[name], expected[name]) for name in found)
    refused = run("export", atlas, tmp_path / "x", "--format", "fasta", "--pae")
    assert refused.returncode == 2 and "--pae is for" in refused.stderr
    with CurrentAtlas(atlas) as current:
        client = TestClient(create_app(current, ServerSettings()), base_url="http://localhost:8000")
        for name in LENGTHS:
            entry = client.get(f"/api/prediction/{name}").json()[0]
            answer = client.get(f"/fetchConfidencePrediction/{name}").json()
            assert (entry["paeDocUrl"] is not None) == ("pae" in answer) == (name in WITH_PAE)
            if name in WITH_PAE:
                [document] = client.get(entry["paeDocUrl"].removeprefix("http://localhost:8000")).json()
                assert np.array_equal(document["predicted_aligned_error"], expected[name])
                assert np.array_equal(answer["pae"], expected[name])


def test_diff_names_changed_pae(root: Path, tmp_path: Path) -> None:
    """One matrix is 1 angstrom larger, another is missing."""
    atlas = Path(shutil.copytree(root / "atlas", tmp_path / "atlas"))
    with Atlas.open(atlas) as opened:
        ids = dict(opened.query("SELECT structure_id, id FROM proteins").rows())
    changed, lost = (sorted(set(WITH_PAE))[number] for number in (0, 1))
    for path in sorted((atlas / "pae").iterdir()):
        table = pq.read_table(path)
        rows = [{**row, "structure_id": row["structure_id"].bytes} for row in table.to_pylist()]
        names = [ids[uuid.UUID(bytes=row["structure_id"])] for row in rows]
        kept = [row for row, name in zip(rows, names, strict=True) if name != lost]
        for row in kept:
            if ids[uuid.UUID(bytes=row["structure_id"])] == changed:
                row["pae"] = [value - 8 if value >= 8 else 0 for value in row["pae"]]
        pq.write_table(table.from_pylist(kept, schema=table.schema), path)
    with diff(root / "atlas", atlas) as found:
        listed = [(row[0], row[1], row[3], row[5], row[6]) for row in found.result().rows()]
    assert [row[:3] for row in listed] == [("score", changed, "mean_pae"), ("score", lost, "mean_pae")]
    stored_before, stored_after = stored(root / "atlas")[changed], np.maximum(stored(root / "atlas")[changed] - 1, 0)
    assert listed[0][4] == pytest.approx(stored_after.mean() - stored_before.mean(), abs=0.05)
    assert listed[1][3] is None


def test_merged_atlases_keep_pae(root: Path, tmp_path: Path) -> None:
    """Of one with PAE and one without any."""
    import_structures([str(root / "files" / "bare.pdb")], tmp_path / "other", name="other")
    done = run("merge", tmp_path / "other", root / "atlas", tmp_path / "merged")
    assert done.returncode == 0, done.stderr
    assert stored(tmp_path / "merged").keys() == set(WITH_PAE) and verify(tmp_path / "merged").faults == []


def test_changed_json_is_a_new_version(root: Path, tmp_path: Path) -> None:
    """Of a folder and of a single file. The structures stay: later imports never replace."""
    (tmp_path / "files").mkdir()
    for name in ("api.pdb", "api.json"):
        shutil.copyfile(root / "files" / name, tmp_path / "files" / name)
    folder, path = str(tmp_path / "files"), tmp_path / "files" / "api.json"
    import_structures([folder], tmp_path / "atlas")
    [before] = find_structure_sources([f"{folder}/api.pdb"])
    path.touch()
    assert import_structures([folder], tmp_path / "atlas").report.plan is None  # the same content
    path.write_text(path.read_text().replace('"ptm": 0.6', '"ptm": 0.71'))
    report = import_structures([folder], tmp_path / "atlas").report
    assert report.plan is not None and report.choice is not None and report.choice.known == 1
    assert [(change.new, change.gone) for change in report.changes] == [(0, 0)]
    [after] = find_structure_sources([f"{folder}/api.pdb"])
    assert before.beside == after.beside == "api.json" and before.etag != after.etag


def test_pae_can_be_left_out(root: Path, tmp_path: Path) -> None:
    """Then JSON files are not read, and B-factors of ColabFold are unknown."""
    done = run("import", root / "files", tmp_path / "atlas", "--no-pae", report=True)
    assert done.returncode == 0 and "9 folded" in done.stdout and "2 unknown_plddt" in done.stdout
    assert not (tmp_path / "atlas" / "pae").exists()
    assert (tmp_path / "atlas" / "report.html").exists() and "report.html" in done.stderr
    refused = run("query", tmp_path / "atlas", "SELECT count(*) FROM pae")
    assert refused.returncode == 2 and "none was imported" in refused.stderr
