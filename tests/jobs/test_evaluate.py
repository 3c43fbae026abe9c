"""`foldatlas evaluate` from end to end on helices, of which an ideal helix is a perfect prediction."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.folding.evaluation.baselines import ideal_helix
from foldatlas.folding.predictor import Predictor
from foldatlas.jobs.cli import main
from foldatlas.schemas.errors import OutOfMemory

ATOMS = ("N", "CA", "C", "O", "CB")  # alanine's, in their order in atom14


def helices(path: Path, lengths: dict[str, list[int]]) -> Path:
    rows = []
    for split, of_split in lengths.items():
        for length in of_split:
            x, y, z = np.rint(ideal_helix(length)[:, :5].reshape(-1, 3).T * 1000).astype(int).tolist()
            rows.append(
                {
                    "chain_id": f"{split}{length}",
                    "cluster30": f"{split}{length}",
                    "split": split,
                    "sequence": "A" * length,
                    "residue_index": list(range(1, length + 1)),
                    "atom_residue": np.repeat(range(length), 5).tolist(),
                    "atom_type": list(range(5)) * length,
                    "x": x,
                    "y": y,
                    "z": z,
                }
            )
    said = {"atom_type": "index into " + " ".join(ATOMS), "coordinates": "experimental, 0.001 angstrom"}
    pq.write_table(pa.Table.from_pylist(rows).replace_schema_metadata(said), path)
    return path


@pytest.fixture
def chains(tmp_path: Path) -> Path:
    return helices(tmp_path / "chains.parquet", {"valid": [20, 33], "train": [22, 40, 60]})


def test_one_command_measures_folds_and_reports(
    chains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    command = ["evaluate", chains, out, "--model", "nano", "--split", "valid", "--split", "train:30"]
    assert main([*map(str, command), "--recycles", "0", "--device", "cpu"]) == 0
    shown, said = capsys.readouterr()
    assert "valid: 2 chains" in shown and "train, up to 30 residues: 1 chain\n" in shown
    assert "baselines: 3 of 3 chains" in said
    summary = json.loads((out / "summary.json").read_text())
    assert summary["chains"] == "chains.parquet"
    assert [model["model"] for model in summary["models"]] == ["nano"]
    of_valid = summary["splits"]["valid"]["models"]
    assert set(of_valid) == {"nano", "untrained network", "ideal helix", "random training chain"}
    for name in ("ideal helix", "random training chain"):
        measures = of_valid[name]["measures"]
        assert measures["tm_score"]["mean"] == pytest.approx(1, abs=1e-4)
        assert measures["lddt_ca"]["mean"] == 1
    assert of_valid["nano"]["measures"] != of_valid["untrained network"]["measures"]
    assert 0 < of_valid["nano"]["measures"]["lddt_ca"]["mean"] < 0.9
    assert pq.read_metadata(out / "chains.parquet").num_rows == 3 * 4
    assert "</html>" in (out / "report.html").read_text()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--split", "tset"], "no chain of split tset: the splits are train, valid"),
        (["--split", "train:many"], "such as train:150"),
        (["--split", "valid:10"], "no chain of split valid, up to 10 residues"),
        (["--model", "nano"], "two models are called nano"),
        (["--model", "no-such-model"], "no-such-model"),
        (["--roles", "none.tsv"], "give a tab-separated table"),
    ],
)
def test_impossible_evaluation_writes_nothing(
    chains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: list[str], message: str
) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(["evaluate", str(chains), str(tmp_path / "out"), "--model", "nano", *changed]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == before


def test_an_output_that_exists_is_left_alone(chains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(chains), str(chains), "--model", "nano"]) == 2
    assert "exists: give a new folder" in capsys.readouterr().err
    assert pq.read_metadata(chains).num_rows == 5


def test_unwritable_output_is_refused_before_folding(
    chains: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Predictor, "fold_batch")
    assert main(["evaluate", str(chains), "/proc/evaluation", "--model", "nano"]) == 2
    assert "/proc/evaluation cannot be created" in capsys.readouterr().err


def test_chains_that_fail_have_rows_and_exit_code_3(
    chains: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise OutOfMemory("2 proteins do not fit")

    monkeypatch.setattr(Predictor, "fold_batch", failing)
    out = tmp_path / "out"
    assert main(["evaluate", str(chains), str(out), "--model", "nano", "--device", "cpu"]) == 3
    rows = pq.read_table(out / "chains.parquet", columns=["model", "tm_score", "failure"]).to_pylist()
    assert [row["failure"] for row in rows if row["model"] == "nano"] == ["2 proteins do not fit"] * 2
    assert all(row["tm_score"] is not None for row in rows if row["model"] == "ideal helix")
    assert json.loads((out / "summary.json").read_text())["splits"]["valid"]["models"]["nano"]["failed"] == 2
    assert "TM   -  " in capsys.readouterr().out
