"""`foldatlas plan`: what it says, that it says the same to programs, and that a dry run leaves no trace."""

import json
from pathlib import Path

import pytest
from manifest_entries import entry_of, made_run

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.forecast.device_rates import first_entries
from foldatlas.jobs import cli
from foldatlas.jobs.plan import PlanSummary, plan
from foldatlas.pipeline.engines import dispatch
from foldatlas.pipeline.planning.costs import DEADLINE_MARGIN, deadline_rate
from foldatlas.pipeline.workers.devices import hardware_of
from foldatlas.schemas.manifest import FileEntry, Shard

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
    assert "(dry run: not kept)" in more.report()[0]


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
    printed = json.loads(capsys.readouterr().out)
    assert printed["plan"]["outcomes"] == {"accepted": 2, "gap": 2, "internal_stop": 1, "repeated": 1}
    assert printed["dry_run"] is True and printed["estimate"] == printed["left"]
    estimate = printed["estimate"]
    assert estimate["cost"] == pytest.approx(2 * estimate["wall_seconds"], abs=0.01)  # 3,600 an hour is 1 a second
    assert not (tmp_path / "atlas").exists()


def test_fold_takes_a_dry_run_too(mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(mixed), str(tmp_path / "atlas"), "--model", "nano", "--device", "cpu", "--dry-run"]
    assert cli.main(["fold", *arguments]) == 0
    of_fold = capsys.readouterr().out
    assert cli.main(["plan", *arguments]) == 0
    assert of_fold == capsys.readouterr().out
    assert not (tmp_path / "atlas").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{fasta}", "{atlas}", "--part", "5/4"], "does not support --part"),
        (["{fasta}", "{atlas}", "--shards", "0"], "does not support --shards"),
        (["{atlas}", "--retry-failed"], "does not support --retry-failed"),
        (["{fasta}", "{atlas}", "--pae", "--add-outputs"], "does not support --add-outputs"),
        (["{fasta}", "{atlas}", "--log", "-"], "does not support --log"),
        (["{atlas}"], "no such folder; give an atlas"),
    ],
)
def test_dry_run_states_what_it_does_not_predict(
    words: list[str], message: str, mixed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = tmp_path / "atlas"
    named = [word.format(fasta=mixed, atlas=atlas) for word in words]
    assert cli.main(["fold", *named, "--model", "nano", "--device", "cpu", "--dry-run"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and message in printed.err and printed.err.count("\n") == 1
    assert not atlas.exists()


def test_prediction_covers_unfolded_shards_if_all_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    atlas = tmp_path / "atlas"
    first = made(EXAMPLE, atlas, devices=3)
    again = made(EXAMPLE, atlas, devices=3)
    assert again.planned.plan is None
    assert again.left == first.estimate and again.estimate.shards == 0
    assert "left to fold from earlier plans:" in again.report()
    assert cli.main(["plan", str(EXAMPLE), str(atlas), "--model", "nano", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["plan"] is None
    # and by the atlas alone, for the files of all its plans, less what is done
    assert again.planned.known and plan([], atlas, model="nano", device="cpu", devices=3).left == first.estimate
    planned = first.planned.plan
    assert planned is not None
    commit(atlas, planned.shards[0], 0, planned.shards[0].cost / 5_000)
    assert cli.main(["plan", str(atlas), "--model", "nano", "--json"]) == 0
    out, errors = capsys.readouterr()
    printed = json.loads(out)
    assert (printed["plan"], printed["known"], printed["left"]["shards"]) == (None, [], len(planned.shards) - 1)
    left = sum(each.cost for each in planned.shards[1:])
    assert printed["left"]["device_seconds"] == pytest.approx(left / 5_000, abs=1e-3)
    assert "nothing was planned" in errors


def commit(atlas: Path, shard: Shard, generation: int, seconds: float, device_name: str = "") -> None:
    """An entry as the manifest has it, of files that are not there."""
    folder = AtlasFolder(atlas)
    settings = folder.header().settings_digest
    size = {"structures": 30 * shard.residues, "scores": 100 * shard.proteins, "failures": 10}
    files = {table: FileEntry(f"{table}/x.parquet", shard.proteins, each, "") for table, each in size.items()}
    run = made_run(seconds=seconds, device_name=device_name)
    entry = entry_of(shard, generation=generation, settings_digest=settings, files=files, run=run)
    assert folder.commit_entry(entry)


def test_rate_of_a_retried_shard_is_that_of_its_first_folding(tmp_path: Path) -> None:
    """A retry of one protein, or an output added, takes another time than the shard's cost says."""
    atlas = tmp_path / "atlas"
    planned = made(EXAMPLE, atlas).planned.plan
    assert planned is not None and len(planned.shards) > 5
    for shard in planned.shards[:4]:
        commit(atlas, shard, 0, shard.cost / 5_000)
    once = made(EXAMPLE, atlas, dry_run=True).left
    for shard in planned.shards[:4]:
        commit(atlas, shard, 1, 1_000.0)
    twice = made(EXAMPLE, atlas, dry_run=True).left
    assert once.measured_shards == 4 and once == twice
    left = sum(shard.cost for shard in planned.shards[4:])
    assert twice.device_seconds == pytest.approx(left / 5_000)
    plans, histories = AtlasFolder(atlas).plans(), AtlasFolder(atlas).histories()
    assert deadline_rate("cpu", plans, first_entries(histories)) == pytest.approx(5_000 / DEADLINE_MARGIN)


def test_prediction_uses_rates_of_this_device_model_only(tmp_path: Path) -> None:
    """Predicted time comes from shards of this device model; shards are cut by the rate of its kind."""
    atlas, other = tmp_path / "atlas", tmp_path / "more.fasta"
    planned = made(EXAMPLE, atlas).planned.plan
    assert planned is not None
    for number, shard in enumerate(planned.shards[:5]):
        fast = number < 2
        commit(atlas, shard, 0, shard.cost / (8e6 if fast else 2_000.0), hardware_of("cpu").name if fast else "Other")
    left = made(EXAMPLE, atlas, dry_run=True).left
    assert left.measured_on == (hardware_of("cpu").name,) and left.measured_shards == 2
    assert left.device_seconds == pytest.approx(sum(shard.cost for shard in planned.shards[5:]) / 8e6)
    # a driver on a third make cuts the same shards of new proteins as this one
    other.write_text("".join(f">p{number}\nMK{'L' * number}\n" for number in range(1, 60)))
    here = made(other, atlas, dry_run=True).planned.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "device_name", lambda *_: "Third")
        assert made(EXAMPLE, atlas, dry_run=True).left.measured_on == tuple(sorted((hardware_of("cpu").name, "Other")))
        there = made(other, atlas, dry_run=True).planned.plan
    assert here is not None and there is not None and here.shards == there.shards
    # and the slowest make sets the deadlines
    plans, histories = AtlasFolder(atlas).plans(), AtlasFolder(atlas).histories()
    assert deadline_rate("cpu", plans, first_entries(histories)) == pytest.approx(2_000 / DEADLINE_MARGIN)


@pytest.mark.parametrize("price", ["-1", "nan", "inf", "cheap"])
def test_a_price_is_a_number(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["plan", "a.fasta", "atlas", "--model", "nano", f"--price={price}"])
    assert "--price" in capsys.readouterr().err
