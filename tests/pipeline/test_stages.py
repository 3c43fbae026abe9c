"""Runs of derived stages: first commit wins, resume, sweeping, what verify and merge make of them; folders and s3."""

import dataclasses
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from foldatlas.atlas import merge
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.contents import contents_of
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import completed_runs, latest_complete, runs, sweep_stages
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.stages.run import StageReport, run_stage
from foldatlas.pipeline.stages.shard import ShardWork, StageOptions, StageResult, StageTask, compute_shard
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import DamagedAtlasError, IncompleteError, Interrupted
from foldatlas.schemas.manifest import DIGEST_KEY
from foldatlas.schemas.records import Settings
from foldatlas.schemas.stages import StageShard

SETTINGS = Settings(model="nano", weights="ab" * 32, recycles=0, precision="fp32")
# A run of novelty/ has to say which reference it searched.
SEARCH = {"search": "structures", "digest": "0" * 64, "version": 1, "recipe": {"power": 2}, "structures": ""}
NOTES = {"reference": "none", "place": "", "entries": 0, "demo": True, "licences": [], "versions": []}
SQUARES = pa.schema([("number", pa.int64()), ("square", pa.int64())])
INPUT = pa.schema([("number", pa.int64())])
computed: list[str] = []


def squares(work: ShardWork) -> StageResult:
    """A stage: each shard's input numbers, squared. `payload` may name a shard to fail at, or to be stopped at."""
    work.check()
    failure: dict[str, BaseException] = work.payload or {}
    if work.shard.name in failure:
        raise failure[work.shard.name]
    computed.append(work.shard.name)
    with open_parquet(work.folder.storage, work.shard.path) as file:
        numbers = file.read_row_group(work.shard.row_group)["number"].to_pylist()
    with ParquetFile(work.folder.storage, work.path("squares"), "squares", schema=SQUARES) as written:
        written.write(pa.table({"number": numbers, "square": [number**2 for number in numbers]}, schema=SQUARES))
        work.advance(len(numbers))
    assert written.entry
    return StageResult({"squares": written.entry}, {"odd": sum(number % 2 for number in numbers)})


def begun(folder: AtlasFolder, *, shards: int = 4, base: str = "") -> StageRun:
    path = f"novelty/inputs-{attempt_name()}.parquet"
    with ParquetFile(folder.storage, path, "numbers", schema=INPUT) as file:
        for shard in range(shards):
            file.write(pa.table({"number": range(10 * shard, 10 * shard + 10)}, schema=INPUT))
    assert file.entry
    return StageRun.begin(
        folder,
        "novelty",
        settings=SEARCH,
        shards=[StageShard(f"{n:05d}", 10, 100, f"{n:064x}", path, n) for n in range(shards)],
        notes=NOTES,
        base=base,
        inputs={"numbers": [file.entry]},
    )


def finish(run: StageRun, payload: Any = None) -> StageReport:
    report = run_stage(run, squares, payload, doing="squaring", unit="numbers", show_progress=False)
    run.complete({}, report.counts)
    return report


def rows(run: StageRun) -> list[tuple[int, int]]:
    found = []
    for entry in run.entries().values():
        with open_parquet(run.folder.storage, entry.files["squares"].path) as file:
            table = file.read()
        found += list(zip(table["number"].to_pylist(), table["square"].to_pylist(), strict=True))
    return found


@pytest.fixture
def folder(tmp_path: Path) -> AtlasFolder:
    computed.clear()
    made = AtlasFolder(tmp_path / "atlas")
    made.create(SETTINGS)
    return made


EXPECTED = [(number, number**2) for number in range(40)]


def faults(folder: AtlasFolder) -> list[str]:
    return [str(fault) for fault in verify(folder).faults]


def test_a_run_computes_every_shard_once(folder: AtlasFolder) -> None:
    before = contents_of(folder)
    run = begun(folder)
    assert contents_of(folder).matches(before), "an unfinished run makes no index stale"
    report = finish(run)
    assert (report.shards, report.items, report.failed, report.counts) == (4, 40, 0, {"odd": 20})
    assert rows(run) == EXPECTED
    after = contents_of(folder)
    assert after.digest == before.digest and not after.matches(before), "older programs find the index fresh"
    assert faults(folder) == []
    assert [one.run.name for one in completed_runs(folder, "novelty")] == [run.name]
    assert latest_complete(folder, "clusters") is None
    again = finish(run)
    assert (again.shards, again.counts) == (0, {"odd": 20}) and len(computed) == 4


def test_the_same_command_finds_its_run_again(folder: AtlasFolder) -> None:
    """The second driver's inputs are deleted; another base, or other shards, make another run."""
    first, second = begun(folder), begun(folder)
    assert first.document == second.document
    assert len(list((folder.root / "novelty").glob("*.parquet"))) == 1
    assert begun(folder, base=first.name).name != first.name
    assert begun(folder, shards=3).name != first.name


def test_a_stopped_run_resumes(folder: AtlasFolder) -> None:
    run = begun(folder)
    with pytest.raises(IncompleteError, match="1 of 4 shards"):
        finish(run, {"00002": ValueError("one bad shard costs no other")})
    assert sorted(computed) == ["00000", "00001", "00003"] and run.completion() is None
    (note,) = [note for note in verify(folder).notes if "novelty" in note]
    assert "is not complete" in note
    assert finish(run).shards == 1
    assert rows(run) == EXPECTED and faults(folder) == []


def test_the_first_commit_wins(folder: AtlasFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that finds another's entry when it commits deletes its own file, and changes nothing."""
    run = begun(folder)
    options = StageOptions(folder.uri, "novelty", run.name, squares, None, "run", "host")
    task = StageTask(options, run.document.shards[0])
    compute_shard(task)
    entry = run.entry(task.shard)
    monkeypatch.setattr(StageRun, "entry", lambda self, shard: None)
    compute_shard(task)
    monkeypatch.undo()
    assert run.entry(task.shard) == entry and len(computed) == 2
    assert len(list(folder.root.glob(f"novelty/{run.name}/squares/*"))) == 1


def test_a_damaged_document_is_named(folder: AtlasFolder) -> None:
    run = begun(folder)
    finish(run)
    entry = folder.root / run.path("manifest/00001.json")
    whole = entry.read_text()
    entry.write_text(whole.replace('"shard": "00001"', '"shard": "00002"'))
    with pytest.raises(DamagedAtlasError, match="it was changed or damaged"):
        run.entries()
    text = re.sub(rf',\s*"{DIGEST_KEY}": "\w+"', "", whole)  # an earlier program wrote no digest
    entry.write_text(text.replace("00001", "00002"))
    with pytest.raises(DamagedAtlasError, match="of another shard"):
        run.entries()
    assert any("manifest/00001.json" in fault for fault in faults(folder))
    entry.write_text(text.replace('"path": "novelty/', '"path": "../novelty/'))
    assert any("leaves the atlas" in fault for fault in faults(folder))
    entry.write_text(text.replace('"path": "novelty/', '"path": "structures/'))
    assert any("is not in novelty/" in fault for fault in faults(folder))


def test_verify_reads_the_files_of_runs(folder: AtlasFolder) -> None:
    run = begun(folder)
    finish(run)
    path = folder.root / next(iter(run.entries().values())).files["squares"].path
    content = path.read_bytes()
    path.write_bytes(content[:-9] + b"x" + content[-8:])
    assert any("sha256 is not the one committed" in fault for fault in faults(folder))
    path.unlink()
    assert any("it does not exist" in fault and f"drop novelty/{run.name}" in fault for fault in faults(folder))


def leave_behind(folder: AtlasFolder, names: list[str]) -> list[Path]:
    """Write files of these names, with the name of an attempt whose process has ended in place of DEAD."""
    dead = attempt_name().replace(f"_{os.getpid()}_", "_4194304_")  # beyond the kernel's largest process number
    paths = [folder.root / name.replace("DEAD", dead) for name in names]
    for path in paths:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"left")
    return paths


def test_files_of_dead_attempts_are_swept(folder: AtlasFolder) -> None:
    """Those of committed shards and of inputs; files of a shard without an entry stay."""
    run = begun(folder)
    with pytest.raises(IncompleteError):
        finish(run, {"00003": ValueError("later")})
    stray = [run.data_path(table, "00000", "DEAD") for table in ("squares", "others")]
    stray.append(run.path("manifest/.00003.json.DEAD.part"))
    *gone, waiting = leave_behind(folder, [*stray, run.data_path("squares", "00003", "DEAD")])
    assert sweep_stages(folder) == 3
    assert waiting.exists() and not any(path.exists() for path in gone)
    finish(run)
    assert not waiting.exists() and rows(run) == EXPECTED


def test_folding_sweeps_files_of_stages(folder: AtlasFolder) -> None:
    """A damaged document of a run stops neither the sweep of folding's own files nor folding."""
    run = begun(folder)
    finish(run)
    names = [run.data_path("squares", "00000", "DEAD"), "scores/.x.parquet.DEAD.part"]
    worker = WorkerSpec("nano", SETTINGS, "cpu", None)
    left = leave_behind(folder, names)
    fold_atlas(folder, worker, show_progress=False)
    assert not any(path.exists() for path in left) and rows(run) == EXPECTED
    of_run, of_folding = leave_behind(folder, names)
    (folder.root / run.path("run.json")).write_bytes(b"{")
    fold_atlas(folder, worker, show_progress=False)
    assert of_run.exists() and not of_folding.exists()


def test_merging_carries_runs_over(folder: AtlasFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an equal run in both atlases the complete one counts. An index would not know this stage."""
    monkeypatch.setattr(merge, "build_index", lambda folder: None)
    monkeypatch.setattr(merge, "unite_searches", lambda new, folders: None)
    other = AtlasFolder(tmp_path / "other")
    shutil.copytree(folder.root, other.root)
    run = begun(folder)
    shutil.copytree(folder.root / "novelty", other.root / "novelty")
    finish(run)
    finish(begun(folder, shards=2))
    merge.merge_atlases([other.root, folder.root], tmp_path / "both")
    both = AtlasFolder(tmp_path / "both")
    assert faults(both) == []
    assert len(completed_runs(both, "novelty")) == len(runs(both, "novelty")) == 2
    assert rows(StageRun.open(both, "novelty", run.name)) == EXPECTED


def test_interruption_is_not_a_failure(folder: AtlasFolder) -> None:
    run = begun(folder)
    options = StageOptions(folder.uri, "novelty", run.name, squares, {"00000": Interrupted("now")}, "run", "host")
    with pytest.raises(Interrupted):
        compute_shard(StageTask(options, run.document.shards[0]))
    assert run.entry(run.document.shards[0]) is None


def test_a_run_on_a_store(s3: Any) -> None:
    s3.create_bucket(Bucket="stages")
    computed.clear()
    folder = AtlasFolder("s3://stages/atlas")
    folder.create(SETTINGS)
    run = begun(folder)
    finish(run)
    assert rows(run) == EXPECTED and faults(folder) == []
    assert dataclasses.asdict(finish(begun(folder)))["shards"] == 0
    assert len(list(run.folder.storage.files("novelty"))) == 4 + 4 + 1 + 2
