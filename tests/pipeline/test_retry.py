"""Failed proteins, tried again: what stands does not change by a bit, and every protein is counted once."""

from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.shards.fold import fold_shard
from foldatlas.pipeline.shards.run import FoldReport, fold_atlas
from foldatlas.pipeline.shards.task import FoldOptions, FoldTask
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import format_structure_id, structure_id
from foldatlas.schemas.tables import OPTIONAL_TABLES, SHARD_TABLES, STRUCTURES_PER_ROW_GROUP

ALL = tuple(OPTIONAL_TABLES)
POISON = "MNAN" + "G" * 60
MEMORY = 70  # residues that the small device holds


@pytest.fixture
def poisoned(proteins: list[str]) -> list[str]:
    """60 proteins, and one whose numbers are never finite."""
    return [*proteins, POISON]


@pytest.fixture
def run(worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FoldReport]:
    """Folds an atlas on a device that holds `memory` residues at once."""

    def fold(folder: AtlasFolder, memory: int = 10**6, **options: object) -> FoldReport:
        monkeypatch.setenv("FAKE_CHILD_MEMORY", str(memory))
        return fold_atlas(folder, worker, show_progress=False, **options)  # type: ignore[arg-type]

    return fold


def read(folder: AtlasFolder, entry: ShardEntry, table: str) -> pa.Table:
    return pq.read_table(folder.root / entry.files[table].path)


def rows(folder: AtlasFolder, table: str) -> dict[str, dict[str, object]]:
    """All rows of a table by structure id, their places left out."""
    found = {}
    for entry in folder.entries().values():
        for row in read(folder, entry, table).to_pylist():
            row.pop("structure_row", None)
            assert row["structure_id"] not in found
            found[row["structure_id"]] = row
    return {str(identity): row for identity, row in found.items()}


def test_retry_on_a_larger_device_adds_to_stored_structures(
    planned: Callable[..., AtlasFolder], poisoned: list[str], run: Callable[..., FoldReport], proteins: list[str]
) -> None:
    folder, whole = planned(poisoned), planned(poisoned, "whole")
    run(whole, outputs=ALL)
    small = run(folder, MEMORY, outputs=ALL)
    too_long = [sequence for sequence in proteins if len(sequence) > MEMORY]
    assert small.failed == len(too_long) + 1 and 0 < small.folded < 60
    before = folder.entries()
    kept = {name: {table: read(folder, entry, table) for table in SHARD_TABLES} for name, entry in before.items()}
    on_disk = {path: path.read_bytes() for path in folder.root.rglob("*.parquet")}

    report = run(folder, outputs=ALL, retry_failed=True)
    touched = [name for name, entry in before.items() if entry.failed]
    assert len(touched) < len(before)
    assert (report.shards, report.folded, report.failed, report.added) == (len(touched), len(too_long), 1, 0)
    assert report.residues == sum(map(len, too_long))
    for name, entry in folder.entries().items():
        if name not in touched:
            assert entry == before[name]
            continue
        assert (entry.generation, entry.folded + entry.failed) == (1, before[name].folded + before[name].failed)
        for table in set(SHARD_TABLES) - {"failures"}:
            now, old = read(folder, entry, table), kept[name][table]
            assert now.num_rows == entry.folded
            assert now.slice(0, old.num_rows).equals(old), table  # every bit, in the same order
    for table in SHARD_TABLES:  # as if the larger device had folded all
        ours, theirs = rows(folder, table), rows(whole, table)
        assert ours.keys() == theirs.keys()
        assert table == "failures" or ours == theirs
    assert all(path.read_bytes() == content for path, content in on_disk.items())  # older generations stay
    build_index(folder)
    assert verify(folder).faults == [] and verify(folder).notes == []


def test_runs_are_credited_with_what_they_folded(
    planned: Callable[..., AtlasFolder], poisoned: list[str], run: Callable[..., FoldReport], proteins: list[str]
) -> None:
    folder = planned(poisoned)
    first = run(folder, MEMORY)
    second = run(folder, retry_failed=True)
    third = run(folder, outputs=["pae"], add_outputs=True)
    assert (first.folded + second.folded, third.added) == (60, 60)
    build_index(folder)
    assert verify(folder).faults == []
    with Atlas.open(folder.root) as atlas:
        runs = atlas.query("SELECT run_id, folded, failed, added, residues FROM runs ORDER BY started").rows()
        short = sum(len(sequence) for sequence in proteins if len(sequence) <= MEMORY)
        assert [row[1:] for row in runs] == [
            (first.folded, 0, 0, short),
            (second.folded, 1, 0, sum(map(len, proteins)) - short),
            (0, 0, 60, 0),
        ]
        sql = f"SELECT run_id, count(*), min(length) > {MEMORY} FROM proteins GROUP BY run_id ORDER BY run_id"
        assert atlas.query(sql).rows() == sorted([(runs[0][0], first.folded, False), (runs[1][0], second.folded, True)])
        assert atlas.query("SELECT run_id, error FROM failures").rows() == [(runs[1][0], "positions are not finite")]
        assert atlas.structure(format_structure_id(structure_id(max(proteins, key=len)))).sequence
        assert atlas.query("SELECT count(*) FROM pae").rows() == [(60,)]


def test_repeated_failures_add_up_their_attempts(
    planned: Callable[..., AtlasFolder], poisoned: list[str], run: Callable[..., FoldReport]
) -> None:
    folder = planned(poisoned)
    run(folder, outputs=["embeddings"])
    (failure,) = rows(folder, "failures").values()
    (before,) = [entry for entry in folder.entries().values() if entry.failed]
    for number in (1, 2):
        report = run(folder, outputs=["embeddings"], retry_failed=True)
        assert (report.shards, report.folded, report.failed, report.residues) == (1, 0, 1, 0)
        (entry,) = [entry for entry in folder.entries().values() if entry.failed]
        assert entry.generation == number
        assert all(entry.files[table] == before.files[table] for table in before.files if table != "failures")
        (again,) = rows(folder, "failures").values()
        assert again["attempts"] == failure["attempts"] + number  # not finite: one try each time
    build_index(folder)
    assert verify(folder).faults == []
    with Atlas.open(folder.root) as atlas:
        assert atlas.query("SELECT sum(folded), sum(failed), sum(added) FROM runs").rows() == [(60, 1, 0)]


def test_without_failures_there_is_nothing_to_try(
    planned: Callable[..., AtlasFolder], run: Callable[..., FoldReport], proteins: list[str]
) -> None:
    folder = planned(proteins)
    run(folder)
    before = folder.entries()
    assert run(folder, retry_failed=True).shards == 0
    assert folder.entries() == before


def test_row_groups_stay_full(
    planned: Callable[..., AtlasFolder], run: Callable[..., FoldReport], proteins: list[str]
) -> None:
    """Readers find a structure's row group by its row: every group but the last has as many rows as the schema says."""
    folder = planned(["M" + "AC" * 12 + "G" * number for number in range(1, 90)] + proteins)
    (plan,) = folder.plans()
    run(folder, 60, outputs=ALL)
    run(folder, 100, outputs=ALL, retry_failed=True)
    run(folder, outputs=ALL, retry_failed=True)
    assert max(entry.generation for entry in folder.entries().values()) == 2
    for entry in folder.entries().values():
        assert entry.failed == 0
        for table in ("structures", "scores", "embeddings"):
            file = pq.ParquetFile(folder.root / entry.files[table].path)
            sizes = [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
            assert (
                all(size == STRUCTURES_PER_ROW_GROUP for size in sizes[:-1]) and sizes[-1] <= STRUCTURES_PER_ROW_GROUP
            )
        assert read(folder, entry, "scores")["structure_row"].to_pylist() == list(range(entry.folded))
    build_index(folder)
    assert verify(folder).faults == []
    with Atlas.open(folder.root) as atlas:
        assert atlas.query("SELECT count(*), sum(failed) FROM runs").rows() == [(3, 0)]
    assert plan.proteins == sum(entry.folded for entry in folder.entries().values())


def test_an_addition_in_between_is_kept(
    planned: Callable[..., AtlasFolder], poisoned: list[str], run: Callable[..., FoldReport], worker: WorkerSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another driver adds an output while this one retries: the retry loses, looks again, and has both."""
    folder = planned(poisoned)
    run(folder, MEMORY)
    (plan,) = folder.plans()
    real, added = AtlasFolder.commit_entry, []

    def addition_first(self: AtlasFolder, entry: ShardEntry) -> bool:
        if not added and entry.generation == 1:
            added.append(entry.shard)
            (shard,) = [shard for shard in plan.shards if shard.name == entry.shard]
            options = FoldOptions(str(folder.root), worker, ("pae",), "other", "host", 10_000, 1 << 30)
            fold_shard(FoldTask(options, plan.name, plan.sequences[shard.file].path, shard))
        return real(self, entry)

    monkeypatch.setattr(AtlasFolder, "commit_entry", addition_first)
    run(folder, retry_failed=True)
    entry = folder.entries()[added[0]]
    assert (entry.generation, "pae" in entry.files) == (2, True)
    assert read(folder, entry, "pae").num_rows == entry.folded
    assert sum(entry.failed for entry in folder.entries().values()) == 1
    assert len(rows(folder, "structures")) == 60
