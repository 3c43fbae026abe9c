"""Folding shards: every protein accounted for after any end of the process, and one commit a shard."""

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from msgspec import structs

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import decode_structures
from foldatlas.atlas.storage import local as storage_module
from foldatlas.pipeline.shards.fold import fold_shard
from foldatlas.pipeline.shards.run import _with_random_start, fold_atlas
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.pipeline.shards.writer import ShardWriter
from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    FoldAtlasError,
    IncompleteError,
    ModelError,
    UsageError,
)
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import format_structure_id, structure_id
from foldatlas.schemas.tables import SHARD_TABLES


def task_of(folder: AtlasFolder, worker: WorkerSpec) -> FoldTask:
    (plan,) = folder.plans()
    options = FoldOptions(str(folder.root), worker, (), "run", "host", 10_000, 1 << 30)
    return FoldTask(options, plan.name, plan.sequences[0].path, plan.shards[0])


def failures(folder: AtlasFolder) -> dict[str, str]:
    rows = [
        row
        for entry in folder.entries().values()
        for row in pq.read_table(folder.root / entry.files["failures"].path).to_pylist()
    ]
    return {str(row["structure_id"]): row["error"] for row in rows}


def shard_files(folder: AtlasFolder) -> set[str]:
    return {str(path.relative_to(folder.root)) for table in SHARD_TABLES for path in (folder.root / table).rglob("*")}


def test_poison_proteins_fail_and_all_others_fold(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    poison = {"MDEAD" + "G" * 60: "exit code 3", "MSEGV" + "G" * 70: "SIGSEGV", "MNAN" + "G" * 80: "not finite"}
    folder = planned([*proteins, *poison])
    report = fold_atlas(folder, worker, show_progress=False)
    assert (report.folded, report.failed) == (60, 3)
    reasons = failures(folder)
    for sequence, reason in poison.items():
        assert reason in reasons[format_structure_id(structure_id(sequence))]
    assert len(reasons) == 3
    assert shard_files(folder) == {file.path for entry in folder.entries().values() for file in entry.files.values()}


def test_stored_structures_equal_predictions(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    fold_atlas(folder, worker, outputs=["embeddings"], show_progress=False)
    stored = {
        structure.sequence: structure
        for entry in folder.entries().values()
        for structure in decode_structures(pq.read_table(folder.root / entry.files["structures"].path))
    }
    assert sorted(stored) == sorted(proteins)
    means = {
        row["structure_id"].bytes: row["mean"]
        for entry in folder.entries().values()
        for row in pq.read_table(folder.root / entry.files["embeddings"].path).to_pylist()
    }
    child = child_of_this_process(worker)
    for expected in child.compute(proteins, 1, mean_embedding=True):
        found = stored[expected.sequence]
        assert np.array_equal(np.rint(found.positions * 100), expected.coordinates)
        assert np.array_equal(np.rint(found.plddt * 100), expected.plddt)
        assert np.array_equal(np.float32(means[found.structure_id]), expected.mean_embedding)


def test_scores_agree_with_the_stored_structure(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned([*proteins, "X", "MXBZUOJ"])
    fold_atlas(folder, worker, show_progress=False)
    for entry in folder.entries().values():
        structures = decode_structures(pq.read_table(folder.root / entry.files["structures"].path))
        scores = pq.read_table(folder.root / entry.files["scores"].path).to_pylist()
        assert [row["structure_row"] for row in scores] == list(range(len(structures)))
        for row, structure in zip(scores, structures, strict=True):
            plddt = structure.plddt.astype(float)
            assert row["structure_id"].bytes == structure.structure_id
            assert row["mean_plddt"] == pytest.approx(plddt.mean(), abs=1e-4)
            assert row["plddt_std"] == pytest.approx(plddt.std(), abs=1e-4)
            assert row["num_confident"] == (plddt > 70).sum()
            assert row["fraction_very_high"] == pytest.approx((plddt > 90).mean(), abs=1e-6)
            assert row["num_unknown"] == sum(map(structure.sequence.count, "XBZUOJ"))


def test_a_second_run_folds_nothing(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_CHILD_LOG", str(log))
    folder = planned(proteins)
    assert fold_atlas(folder, worker, show_progress=False).folded == 60
    assert len(log.read_text().split()) == 60
    assert fold_atlas(folder, worker, show_progress=False).shards == 0
    assert len(log.read_text().split()) == 60


def test_an_attempt_that_loses_deletes_its_own_files(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planned(proteins)
    task = task_of(folder, worker)
    # both look before either commits
    monkeypatch.setattr(AtlasFolder, "committed_entry", lambda *_: None)
    fold_shard(task)
    first = shard_files(folder)
    fold_shard(task)
    assert shard_files(folder) == first
    assert len(folder.entries()) == 1


def test_a_failed_write_leaves_nothing(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planned(proteins)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ShardWriter, "_write_failures", full)
    with pytest.raises(FoldAtlasError, match=r"No space left on device.*run the same command again"):
        fold_atlas(folder, worker, show_progress=False)
    assert shard_files(folder) == set()
    assert folder.entries() == {}


def test_a_model_that_cannot_be_loaded_ends_the_run_at_once(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = planned(proteins)
    monkeypatch.setenv("FAKE_CHILD_REFUSES", "no such weights")
    with pytest.raises(ModelError, match="no such weights"):
        fold_atlas(folder, worker, show_progress=False)
    assert caplog.records == []  # reported once, by the error
    monkeypatch.delenv("FAKE_CHILD_REFUSES")
    assert fold_atlas(folder, worker, show_progress=False).folded == 60


def test_shards_that_stay_missing_are_named(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    folder, other = planned(proteins), planned(proteins[:30], "other")
    (plan,), (other_plan,) = folder.plans(), other.plans()
    os.replace(other.root / other_plan.sequences[0].path, folder.root / plan.sequences[0].path)
    with pytest.raises(IncompleteError, match=f"{len(plan.shards)} of {len(plan.shards)} shards.*{plan.name}-00000"):
        fold_atlas(folder, worker, show_progress=False)
    assert all("restore it from a copy" in record.message for record in caplog.records)


def test_sequences_that_changed_are_not_folded(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder, other = planned(proteins), planned(proteins[:30], "other")
    (plan,), (other_plan,) = folder.plans(), other.plans()
    os.replace(other.root / other_plan.sequences[0].path, folder.root / plan.sequences[0].path)
    with pytest.raises(DamagedAtlasError, match="changed"):
        fold_shard(task_of(folder, worker))


def test_embeddings_cannot_be_asked_for_halfway(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    fold_shard(task_of(folder, worker))
    with pytest.raises(UsageError, match=r"1 of 1 folded shards.*--add-outputs.*--embeddings mean"):
        fold_atlas(folder, worker, outputs=["embeddings"], show_progress=False)


def test_a_sweep_leaves_what_may_still_be_wanted(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    task = task_of(folder, worker)
    fold_shard(task)
    (entry,) = folder.entries().values()
    dead = entry.attempt.replace(f"_{os.getpid()}_", "_4194304_")  # beyond the kernel's largest process number
    kept, gone = [], []
    for shard, attempt, is_kept in (
        (entry.shard, dead, False),
        (entry.shard, entry.attempt.replace("_", "-elsewhere_", 1), True),
        ("0000000000000000-00001", dead, True),  # not committed: its entry may be on its way
    ):
        path = folder.root / folder.shard_file("scores", shard, attempt)
        path.write_bytes(b"x")
        (kept if is_kept else gone).append(path)
    hidden = folder.root / "structures" / f".x.parquet.{dead}.part"
    hidden.write_bytes(b"x")
    gone.append(hidden)
    assert folder.sweep() == len(gone)
    assert all(path.exists() for path in kept)
    assert not any(path.exists() for path in gone)
    assert all((folder.root / file.path).exists() for file in entry.files.values())


def test_a_committed_shard_is_not_folded_again(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    log = tmp_path / "log"
    monkeypatch.setenv("FAKE_CHILD_LOG", str(log))
    folder = planned(proteins)
    task = task_of(folder, worker)
    fold_shard(task)
    folded = log.read_text()
    fold_shard(task)
    assert log.read_text() == folded != ""


def test_an_entry_of_other_settings_is_damage_not_work(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    task = task_of(folder, worker)
    fold_shard(task)
    with pytest.raises(DamagedAtlasError, match="other sequences or settings"):
        folder.committed_entry(task.shard, "0" * 64)


def test_missing_shards_are_submitted_again(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planned(proteins)
    real, tried = AtlasFolder.commit_entry, set()

    def fail_once(self: AtlasFolder, entry: ShardEntry) -> bool:
        if entry.shard not in tried:
            tried.add(entry.shard)
            raise DamagedAtlasError("a store that answers 503")
        return real(self, entry)

    monkeypatch.setattr(AtlasFolder, "commit_entry", fail_once)
    assert fold_atlas(folder, worker, show_progress=False).folded == 60


def test_a_run_ends_its_children(planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]) -> None:
    child = child_of_this_process(worker)
    child.compute(["MKVL"], 1, mean_embedding=False)
    assert child._link is not None
    process = child._link.process
    fold_atlas(planned(proteins), worker, show_progress=False)
    assert process.poll() is not None


def test_a_child_that_dies_while_it_starts_fails_no_protein(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    stillborn = replace(worker, command=(sys.executable, "-c", "import sys; sys.exit(7)"))
    with pytest.raises(ModelError, match=r"did not start on cpu .*exit code 7"):
        fold_atlas(folder, stillborn, show_progress=False)
    assert folder.entries() == {} and shard_files(folder) == set()
    assert fold_atlas(folder, worker, show_progress=False).folded == 60


def test_an_atlas_has_embeddings_everywhere_or_nowhere(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str]
) -> None:
    folder = planned(proteins)
    task = task_of(folder, worker)
    fold_shard(task._replace(options=replace(task.options, outputs=("embeddings",))))
    with pytest.raises(UsageError, match=r"1 of 1 folded shards.*--embeddings mean"):
        fold_atlas(folder, worker, show_progress=False)
    assert fold_atlas(folder, worker, outputs=["embeddings"], show_progress=False).shards > 0


def test_two_drivers_begin_at_different_places(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = planned(proteins)
    (plan,) = folder.plans()
    task = task_of(folder, worker)
    tasks = [task._replace(shard=shard) for shard in plan.shards]
    orders = set()
    for start in range(3):
        monkeypatch.setattr("foldatlas.pipeline.shards.run.secrets.randbelow", lambda _, start=start: start)
        order = _with_random_start(tasks)
        assert sorted(task.shard.name for task in order) == [shard.name for shard in plan.shards]
        orders.add(order[0].shard.name)
    assert len(orders) == 3


def test_a_sweep_keeps_what_the_dead_committed_while_it_looked(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that commits a plan and ends between two looks of the sweep: its tables are listed by then."""
    folder = planned(proteins)
    path = next((folder.root / "plans").iterdir())
    hidden, real = path.rename(folder.root / "held-back"), storage_module.files_of_dead_processes

    def commit_then_look(where: Path) -> list[Path]:
        if hidden.exists():
            found = list(real(where))
            hidden.rename(path)
            return found
        return list(real(where))

    monkeypatch.setattr(storage_module, "files_of_dead_processes", commit_then_look)
    monkeypatch.setattr("foldatlas.atlas.storage.commit.os.kill", _no_such_process)
    folder.sweep()
    (plan,) = folder.plans()
    assert all((folder.root / file.path).exists() for file in (*plan.records, *plan.sequences))


def test_sweep_keeps_every_generation(
    planned: Callable[..., AtlasFolder], worker: WorkerSpec, proteins: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep removes tables that belong to no plan and keeps those of every generation."""
    folder = planned(proteins)
    fold_shard(task_of(folder, worker))
    (entry,) = folder.entries().values()
    file = folder.root / entry.files["scores"].path
    newer = file.with_name(file.name.replace(entry.attempt, "elsewhere_1_00"))
    newer.write_bytes(file.read_bytes())
    files = {**entry.files, "scores": structs.replace(entry.files["scores"], path=f"scores/{newer.name}")}
    assert folder.commit_entry(structs.replace(entry, generation=1, files=files))
    orphans = [
        folder.root / table / f"0000000000000000-0000.{entry.attempt}.parquet" for table in ("records", "sequences")
    ]
    for orphan in orphans:
        orphan.write_bytes(b"x")
    monkeypatch.setattr("foldatlas.atlas.storage.commit.os.kill", _no_such_process)
    assert folder.sweep() == 2
    assert file.exists() and newer.exists() and not any(orphan.exists() for orphan in orphans)


def _no_such_process(*_: object) -> None:
    raise ProcessLookupError
