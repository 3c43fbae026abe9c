"""The main job as a person runs it: fold, query, export, fold again."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pyarrow.parquet as pq
from Bio import SeqIO
from Bio.PDB import PDBParser

from foldatlas.atlas.reader import Atlas
from foldatlas.folding.models import load
from foldatlas.schemas.records import ATOMS, THREE_LETTER

Run = Callable[..., subprocess.CompletedProcess[str]]
EXAMPLE = Path(__file__).parents[2] / "examples" / "gut.fasta"


def test_every_protein_has_its_scores(gut: Path, run: Run) -> None:
    sql = "select count(*) n, count(mean_plddt) plddt, count(ptm) ptm, any_value(model) model from proteins"
    answer = run("query", gut, sql, "--format", "json")
    assert json.loads(answer.stdout) == [{"n": 60, "plddt": 60, "ptm": 60, "model": "nano"}]


def test_columns_of_searches_not_run_are_null(gut: Path) -> None:
    columns = "tm_query, tm_target, nearest_structure, novelty_source, identity_max, nearest_sequence, cluster90, "
    columns += "cluster30, cluster_structure, is_representative30"
    with Atlas.open(gut) as atlas:
        rows = atlas.query(f"select distinct {columns} from proteins").rows()
    assert rows == [(None,) * 10]


def test_second_fold_folds_nothing(gut: Path, run: Run, tmp_path: Path) -> None:
    atlas = shutil.copytree(gut, tmp_path / "atlas")
    before = {path: path.read_bytes() for path in atlas.rglob("*") if path.is_file()}
    again = run("fold", EXAMPLE, atlas, "--model", "nano")
    assert again.returncode == 0
    assert "nothing to fold" in again.stderr
    assert again.stdout == "60 records: 60 folded, 0 repeated, 0 refused, 0 failed\n"
    after = {path: path.read_bytes() for path in atlas.rglob("*") if path.is_file()}
    assert after == before


def test_output_cut_short_is_not_an_error(gut: Path) -> None:
    command = (
        f"{sys.executable} -m foldatlas.jobs.cli query {gut} 'select * from range(1000000)' --format csv | head -1"
    )
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_exported_files_hold_what_the_network_gave(gut: Path, run: Run, tmp_path: Path) -> None:
    dest = tmp_path / "x"
    done = run("export", gut, dest, "--format", "pdb", "--where", "length < 120")
    assert done.returncode == 0, done.stderr
    listed = [json.loads(line) for line in (dest / "files.jsonl").read_text().splitlines()]
    assert len(listed) == 20
    for file in listed:
        content = (dest / file["file"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (file["bytes"], file["sha256"])
    assert json.loads((dest / "manifest.json").read_text())["settings"]["model"] == "nano"
    assert subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=dest).returncode == 0

    predictor = load("nano")
    for file in listed[::4]:
        path = str(dest / file["file"])
        structure = gemmi.read_pdb(path)
        sequence = "".join(gemmi.find_tabulated_residue(residue.name).one_letter_code for residue in structure[0][0])
        (expected,) = predictor.fold([sequence])
        by_gemmi = [(atom.name, atom.pos.tolist(), atom.b_iso) for residue in structure[0][0] for atom in residue]
        assert [name for name, _, _ in by_gemmi] == [name for letter in sequence for name in ATOMS[letter]]
        assert np.abs(np.array([place for _, place, _ in by_gemmi]) - expected.positions).max() <= 0.01
        factors = np.repeat(expected.plddt, [len(ATOMS[letter]) for letter in sequence])
        assert np.abs(np.array([factor for _, _, factor in by_gemmi]) - factors).max() <= 0.01
        assert all(0 <= factor <= 100 for _, _, factor in by_gemmi)
        biopython = PDBParser(QUIET=True).get_structure("x", path)
        atoms = list(biopython.get_atoms())
        assert [atom.get_name() for atom in atoms] == [name for name, _, _ in by_gemmi]
        assert np.allclose([atom.coord for atom in atoms], [place for _, place, _ in by_gemmi], atol=1e-3)
        assert [residue.get_resname() for residue in biopython.get_residues()] == [THREE_LETTER[x] for x in sequence]


def test_a_plan_predicts_and_folds_nothing(run: Run, tmp_path: Path) -> None:
    planned = run("plan", EXAMPLE, tmp_path / "atlas", "--model", "nano")
    assert planned.returncode == 0, planned.stderr
    assert "60 records (60 accepted)" in planned.stdout and "TFLOP" in planned.stdout
    assert not (tmp_path / "atlas" / "manifest").exists()
    printed = json.loads(run("status", tmp_path / "atlas", "--json").stdout)
    assert (printed["proteins"], printed["folded"]) == (60, 0)
    again = run("plan", EXAMPLE, tmp_path / "atlas", "--model", "nano")
    assert again.returncode == 0 and "nothing new" in again.stderr


def test_embeddings_come_when_asked_for(run: Run, tmp_path: Path, short_proteins: str) -> None:
    atlas = tmp_path / "atlas"
    assert run("fold", short_proteins, atlas, "--model", "nano", "--embeddings", "mean").returncode == 0
    with Atlas.open(atlas) as opened:
        rows = opened.query("select count(*), min(len(mean)), max(len(mean)) from embeddings").rows()
    assert rows == [(24, 128, 128)]


def test_outputs_are_added_when_asked_for_twice(run: Run, tmp_path: Path, whole: Path, short_proteins: str) -> None:
    atlas = shutil.copytree(whole, tmp_path / "atlas")
    fold = ("fold", short_proteins, atlas, "--model", "nano")
    refused = run(*fold, "--pae", "--embeddings", "residue")
    assert refused.returncode == 2
    assert "--add-outputs" in refused.stderr
    assert run(*fold, "--add-outputs").returncode == 2
    added = run(*fold, "--pae", "--embeddings", "residue", "--add-outputs")
    assert added.returncode == 0, added.stderr
    assert added.stdout == "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"
    assert run("verify", atlas).returncode == 0
    predictor = load("nano")
    with Atlas.open(atlas) as opened:
        assert not opened.is_stale
        sql = "select sequence, pae, residues from sequences join pae using (structure_id) "
        rows = opened.query(sql + "join residue_embeddings using (structure_id) order by sequence limit 3").rows()
    for sequence, errors, residues in rows:
        (expected,) = predictor.fold([str(sequence)], pae=True, residue_embedding=True)
        assert np.abs(np.reshape(errors, expected.pae.shape) / 8 - expected.pae).max() <= 0.063
        stored = np.reshape(residues, expected.residue_embedding.shape)
        assert np.allclose(stored, expected.residue_embedding, rtol=1e-3, atol=1e-4)


def test_embedding_without_folding(run: Run, tmp_path: Path, short_proteins: str) -> None:
    out = tmp_path / "out.parquet"
    done = run("embed", short_proteins, out, "--model", "nano", "--layer", "2", "--precision", "bf16")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "24 records: 24 embedded, 0 refused, 0 failed\n"
    table = pq.read_table(out)
    assert {name: table.schema.metadata[name.encode()].decode() for name in ("model", "precision", "layer")} == {
        "model": "nano", "precision": "bf16", "layer": "2",
    }  # fmt: skip
    with open(short_proteins) as file:
        sequences = [str(record.seq) for record in SeqIO.parse(file, "fasta")]
    for sequence, mean in zip(sequences, table["mean"].to_pylist(), strict=True):
        (whole,) = load("nano").embed([sequence], layers=[2])
        assert 0 < np.abs(np.array(mean) - whole.mean[2]).max() < 0.05
    again = run("embed", short_proteins, out, "--model", "nano")
    assert again.returncode == 2
    assert "exists" in again.stderr
