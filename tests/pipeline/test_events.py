"""The log of a run: whole lines from any number of processes, and counts that equal the manifest's rows."""

import json
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline import events
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards import run
from foldatlas.pipeline.shards.fold import fold_shard
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import Interrupted, ModelError, UsageError

POISON = ("MDEAD" + "G" * 60, "MNAN" + "G" * 70, "MSEGV" + "G" * 80)


@pytest.fixture
def folder(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel, write_fasta: Callable[..., str], proteins: list[str]
) -> AtlasFolder:
    """An atlas that is planned and not folded: 60 proteins, and three that fail."""
    planned = AtlasFolder(tmp_path / "atlas")
    make_plan([write_fasta([*proteins, *POISON])], planned, worker.settings, costs, max_length=1280)
    return planned


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = events.absolute(str(tmp_path / "events.jsonl"))
    assert path is not None
    return path


def read(log: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(log).read_text().splitlines()]


def of(logged: list[dict[str, Any]], event: str) -> list[dict[str, Any]]:
    return [each for each in logged if each["event"] == event]


def test_counts_equal_the_rows_of_the_manifest(
    folder: AtlasFolder, worker: WorkerSpec, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(run.BATCH_MFLOP, "cpu", 1_000_000)  # several proteins a batch
    report = fold_atlas(folder, worker, show_progress=False, log=log)
    logged, entries = read(log), folder.entries()
    assert {"time", "level", "event", "run_id", "host", "pid"} <= set.intersection(*(set(each) for each in logged))
    committed = of(logged, "shard_committed")
    assert {each["shard"] for each in committed} == set(entries) and len(committed) == len(entries)
    for name in ("folded", "failed", "residues"):
        rows = sum(getattr(entry, name) for entry in entries.values())
        assert sum(each[name] for each in committed) == rows == getattr(report, name) > 0
    failures = {
        str(row["structure_id"]): (row["error"], row["attempts"])
        for entry in entries.values()
        for row in pq.read_table(folder.root / entry.files["failures"].path).to_pylist()
    }
    assert failures == {
        each["structure_id"]: (each["reason"], each["attempts"]) for each in of(logged, "protein_failed")
    }
    (begin,), (end,) = of(logged, "run_started"), of(logged, "run_ended")
    assert logged[0] == begin and logged[-1] == end
    assert (begin["shards"], begin["proteins"], begin["engine"]) == (len(entries), 63, "FnApiRunner")
    assert begin["settings"]["weights"] == worker.settings.weights
    assert (end["outcome"], end["folded"], end["failed"], end["shards"]) == ("complete", 60, 3, len(entries))
    assert {each["run_id"] for each in logged} == {entry.run.run_id for entry in entries.values()}
    assert all(0 <= each["busy_seconds"] <= each["seconds"] for each in committed)
    # what happened on the way: deaths by the poison, each answered by a new process; batches halved
    died = Counter(each["reason"].rpartition(" ")[2] for each in of(logged, "child_died"))
    assert died.keys() == {"3", "SIGSEGV"} and len(of(logged, "child_started")) >= sum(died.values())
    assert of(logged, "batch_halved") and not of(logged, "round_submitted") and not of(logged, "shard_failed")


def test_a_retry_and_a_second_run_are_appended(folder: AtlasFolder, worker: WorkerSpec, log: str) -> None:
    fold_atlas(folder, worker, show_progress=False, log=log)
    before = read(log)
    fold_atlas(folder, worker, show_progress=False, log=log, retry_failed=True)
    logged = read(log)
    assert logged[: len(before)] == before
    again = logged[len(before) :]
    assert (again[0]["event"], again[0]["retry_failed"], again[-1]["failed"]) == ("run_started", True, 3)
    assert all(each["generation"] == 1 for each in of(again, "shard_committed"))


def test_skipped_lost_and_resubmitted_shards_are_logged(
    folder: AtlasFolder, worker: WorkerSpec, log: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (plan,) = folder.plans()
    options = FoldOptions(str(folder.root), worker, (), "run", "host", 10_000, 1 << 30, events.Log(log, "run"))
    task = FoldTask(options, plan.name, plan.sequences[0].path, plan.shards[0])
    fold_shard(task)
    fold_shard(task)
    with monkeypatch.context() as both_look_before_either_commits:
        both_look_before_either_commits.setattr(AtlasFolder, "committed_entry", lambda *_: None)
        fold_shard(task)
    logged = [each["event"] for each in read(log) if each["event"].startswith("shard_")]
    assert logged == ["shard_committed", "shard_skipped", "shard_lost"]

    real, refused = AtlasFolder.commit_entry, []

    def refuse_once(self: AtlasFolder, entry: Any) -> bool:
        if not refused:
            refused.append(entry.shard)
            raise Unavailable("a store that answers 503")
        return real(self, entry)

    class Unavailable(Exception):
        pass

    monkeypatch.setattr(AtlasFolder, "commit_entry", refuse_once)
    fold_atlas(folder, worker, show_progress=False, log=log)
    (failed,) = of(read(log), "shard_failed")
    assert (failed["shard"], failed["reason"], failed["level"]) == (refused[0], "a store that answers 503", "error")
    (again,) = of(read(log), "round_submitted")
    assert (again["round"], again["shards"]) == (2, 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(Interrupted("stopped on request"), "interrupted"), (ModelError("no such weights"), "failed")],
)
def test_end_of_a_run_is_logged(
    folder: AtlasFolder, worker: WorkerSpec, log: str, monkeypatch: pytest.MonkeyPatch, error: Exception, outcome: str
) -> None:
    def stop(*_: object) -> None:
        raise error

    monkeypatch.setattr("foldatlas.pipeline.shards.run.dispatch.run", stop)
    with pytest.raises(type(error)):
        fold_atlas(folder, worker, show_progress=False, log=log)
    (end,) = of(read(log), "run_ended")
    assert (end["outcome"], end["reason"]) == (outcome, str(error))


def test_lines_of_several_processes_do_not_mix(log: str) -> None:
    program = textwrap.dedent("""
        import sys
        from foldatlas.pipeline import events
        events.begin(events.Log(sys.argv[1], sys.argv[2]))
        for number in range(300):
            events.emit("counted", number=number, filling="x" * (number * 7))
    """)
    writers = [subprocess.Popen([sys.executable, "-c", program, log, name]) for name in ("a", "b", "c")]
    assert [writer.wait(60) for writer in writers] == [0, 0, 0]
    counted = Counter((each["run_id"], each["number"]) for each in read(log))
    assert len(counted) == 900 and set(counted.values()) == {1}


def test_events_go_to_stderr_when_the_file_cannot_be_opened(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", sys.__stderr__)
    for path in (str(tmp_path / "not" / "there.jsonl"), events.STANDARD_ERROR):
        events.begin(events.Log(path, "run"))
        events.emit("counted", number=1)
        assert json.loads(capfd.readouterr().err)["number"] == 1
    events.begin(None)
    events.emit("counted", number=2)
    assert capfd.readouterr().err == ""


def test_unwritable_log_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--log"):
        events.absolute(str(tmp_path))
    assert events.absolute(None) is None and events.absolute("-") == "-"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_under_the_log_stops_nothing() -> None:
    events.begin(events.Log("/dev/full", "run"))
    events.emit("counted", number=1)
    events.begin(None)
