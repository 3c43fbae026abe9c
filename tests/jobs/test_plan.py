"""`foldatlas plan`: what it says, that it says the same to programs, and that a dry run leaves no trace."""

import json
from pathlib import Path

import pytest

from foldatlas.jobs import cli
from foldatlas.jobs.plan import PlanSummary, plan

EXAMPLE = Path(__file__).parents[2] / "examples" / "gut.fasta"


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.fixture
def mixed(tmp_path: Path) -> Path:
    path = tmp_path / "mixed.fasta"
    path.write_text(">a\nMKVLAAG\n>a\nMKVLAAG\n>b\nMKV-L\n>c\nMKV*L\n>d\nMKV-L\n>e\nMWWWAAA\n")
    return path


def made(fasta: Path, atlas: Path, *, dry_run: bool = False, devices: int = 1) -> PlanSummary:
    return plan([str(fasta)], atlas, model="nano", device="cpu", dry_run=dry_run, devices=devices)


def test_a_dry_run_says_what_planning_does_and_leaves_no_trace(mixed: Path, tmp_path: Path) -> None:
    atlas = tmp_path / "deep" / "atlas"
    dry = made(EXAMPLE, atlas, dry_run=True)
    assert not (tmp_path / "deep").exists()
    wet = made(EXAMPLE, atlas)
    assert dry.planned.plan is not None and wet.planned.plan is not None
    assert (dry.planned.plan.name, dry.planned.plan.shards) == (wet.planned.plan.name, wet.planned.plan.shards)
    assert dry.estimate == wet.estimate
    before = snapshot(atlas)
    more = made(mixed, atlas, dry_run=True)
    assert snapshot(atlas) == before
    assert more.planned.plan is not None and more.planned.plan.proteins == 2
    assert more.left.proteins == 60 + 2 and more.estimate.proteins == 2
    assert "(not kept: a dry run)" in more.report()[0]


def test_the_command_says_everything_that_is_predicted(
    mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["plan", str(mixed), str(tmp_path / "atlas"), "--model", "nano", "--device", "cpu", "--dry-run"]
    arguments += ["--devices", "2", "--price", "3600"]
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for part in ("2 accepted, 2 gap, 1 internal_stop, 1 repeated", "proteins  2, 14 residues", "shards    2", "TFLOP"):
        assert part in text
    for part in ("CPU-hours", "on 2 CPUs", "structures", "cost", "at 3,600.00 an hour"):
        assert part in text
    assert cli.main([*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["plan"]["outcomes"] == {"accepted": 2, "gap": 2, "internal_stop": 1, "repeated": 1}
    assert told["dry_run"] is True and told["estimate"] == told["left"]
    estimate = told["estimate"]
    assert estimate["cost"] == pytest.approx(2 * estimate["wall_seconds"], abs=0.01)  # 3,600 an hour is 1 a second
    assert not (tmp_path / "atlas").exists()


def test_fold_takes_a_dry_run_too(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(mixed), str(tmp_path / "atlas"), "--model", "nano", "--device", "cpu", "--dry-run"]
    assert cli.main(["fold", *arguments]) == 0
    of_fold = capsys.readouterr().out
    assert cli.main(["plan", *arguments]) == 0
    assert of_fold == capsys.readouterr().out
    assert not (tmp_path / "atlas").exists()


def test_where_all_is_planned_what_is_left_is_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    atlas = tmp_path / "atlas"
    first = made(EXAMPLE, atlas, devices=3)
    again = made(EXAMPLE, atlas, devices=3)
    assert again.planned.plan is None
    assert again.left == first.estimate and again.estimate.shards == 0
    assert "left to fold, of earlier plans:" in again.report()
    assert cli.main(["plan", str(EXAMPLE), str(atlas), "--model", "nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] is None


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "cheap"])
def test_a_price_is_a_number(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", "a.fasta", "atlas", "--model", "nano", f"--price={price}"])
    assert "--price" in capsys.readouterr().err
