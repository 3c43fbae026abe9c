"""Outputs on request: stored as predicted, and added later without a change to what is there."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.coordinates import structure_ids_of
from foldatlas.atlas.parquet.matrices import decode_pae, decode_residue_embeddings
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.shards import writer
from foldatlas.pipeline.shards.outputs import chosen_outputs
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process
from foldatlas.schemas.errors import IncompleteError, UsageError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import NEEDED_TABLES, OPTIONAL_TABLES, PAE_SCALE, SHARD_TABLES

ALL = tuple(OPTIONAL_TABLES)
POISON = "MDEAD" + "G" * 60


@pytest.fixture
def poisoned(proteins: list[str]) -> list[str]:
    """60 proteins, and one that kills its process."""
    return [*proteins, POISON]


def rows(folder: AtlasFolder, table: str) -> list[dict[str, object]]:
    """All rows of a table, shard after shard."""
    return [
        row
        for entry in folder.entries().values()
        for row in pq.read_table(folder.root / entry.files[table].path).to_pylist()
    ]


def files(folder: AtlasFolder, tables: tuple[str, ...]) -> set[str]:
    return {str(path.relative_to(folder.root)) for table in tables for path in (folder.root / table).rglob("*")}


def listed(entries: dict[str, ShardEntry]) -> set[str]:
    return {file.path for entry in entries.values() for file in entry.files.values()}


@pytest.mark.parametrize(
    ("embeddings", "pae", "expected"),
    [
        ("none", False, ()),
        ("mean", False, ("embeddings",)),
        ("residue", False, ("embeddings", "residue_embeddings")),
        ("none", True, ("pae",)),
        ("residue", True, ALL),
    ],
)
def test_requested_outputs_name_their_tables(embeddings: str, pae: bool, expected: tuple[str, ...]) -> None:
    assert chosen_outputs(embeddings, pae) == expected


def test_an_unknown_kind_of_embedding_is_refused() -> None:
    with pytest.raises(UsageError, match="'all'"):
        chosen_outputs("all")


@pytest.mark.parametrize("group_values", [1, 25_000, 1 << 28])
def test_outputs_are_stored_as_predicted(
    planned: Callable[..., AtlasFolder], poisoned: list[str], worker: WorkerSpec, proteins: list[str],
    monkeypatch: pytest.MonkeyPatch, group_values: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(writer, "BULKY_ROW_GROUP_VALUES", group_values)
    folder = planned(poisoned)
    fold_atlas(folder, worker, outputs=ALL, show_progress=False)
    child = child_of_this_process(worker)
    expected = {
        structure_id(prediction.sequence): prediction
        for prediction in child.compute(proteins, 1, mean_embedding=True, residue_embedding=True, pae=True)
    }
    seen = 0
    for entry in folder.entries().values():
        structures = structure_ids_of(pq.read_table(folder.root / entry.files["structures"].path))
        errors, residues = (pq.read_table(folder.root / entry.files[name].path) for name in ("pae", ALL[1]))
        assert structure_ids_of(errors) == structure_ids_of(residues) == structures
        for identity, matrix, states in zip(
            structures, decode_pae(errors), decode_residue_embeddings(residues), strict=True
        ):
            assert np.array_equal(matrix * PAE_SCALE, expected[identity].pae)
            assert np.array_equal(states, expected[identity].residue_embedding)
            seen += 1
    assert seen == len(proteins)
    assert verify(folder).faults == []


def test_added_outputs_are_those_of_an_atlas_made_with_them(
    planned: Callable[..., AtlasFolder], poisoned: list[str], worker: WorkerSpec, tmp_path: Path
) -> None:
    folder, whole = planned(poisoned), planned(poisoned, "whole")
    fold_atlas(whole, worker, outputs=ALL, show_progress=False)
    fold_atlas(folder, worker, show_progress=False)
    before = folder.entries()
    needed = {path: (folder.root / path).read_bytes() for path in files(folder, NEEDED_TABLES)}

    report = fold_atlas(folder, worker, outputs=["pae"], add_outputs=True, show_progress=False)
    assert (report.folded, report.failed, report.added) == (0, 0, 60)
    fold_atlas(folder, worker, outputs=ALL, add_outputs=True, show_progress=False)
    after = folder.entries()
    assert {entry.generation for entry in after.values()} == {2}
    for name, entry in after.items():
        assert set(entry.files) == set(SHARD_TABLES)
        assert all(entry.files[table] == before[name].files[table] for table in NEEDED_TABLES)
        assert (entry.folded, entry.failed) == (before[name].folded, before[name].failed)
    assert {path: (folder.root / path).read_bytes() for path in files(folder, NEEDED_TABLES)} == needed
    assert files(folder, SHARD_TABLES) == listed(after)  # nothing is left that no entry names
    for table in SHARD_TABLES:
        ours, theirs = (
            sorted(rows(atlas, table), key=lambda row: str(row["structure_id"])) for atlas in (folder, whole)
        )
        if table != "failures":  # as many tries as it took
            assert ours == theirs
    build_index(folder)
    assert verify(folder).faults == []
    with Atlas.open(folder.root) as atlas:
        [folding, *adding] = atlas.query("SELECT folded, failed, added, residues > 0, run_id FROM runs").rows()
        assert folding[:-1] == (60, 1, 0, True)
        assert [row[:-1] for row in adding] == [(0, 0, 60, False)] * 2
        assert atlas.query("SELECT DISTINCT run_id FROM proteins").rows() == [folding[-1:]]
        assert atlas.query("SELECT DISTINCT run_id FROM failures").rows() == [folding[-1:]]
        assert atlas.query("SELECT min(residues_per_second) > 0 FROM runs").rows() == [(True,)]
        assert atlas.query("SELECT count(*), min(len(pae) = length * length) FROM pae").rows() == [(60, True)]
        sql = "SELECT count(*), min(len(residues) = 8 * length), max(abs(list_avg(residues))) < 2"
        assert atlas.query(f"{sql} FROM residue_embeddings").rows() == [(60, True, True)]
        assert atlas.query("SELECT count(*) FROM proteins").rows() == [(60,)]


def test_a_shard_that_has_what_is_asked_for_is_left_alone(
    planned: Callable[..., AtlasFolder], poisoned: list[str], worker: WorkerSpec
) -> None:
    folder = planned(poisoned)
    fold_atlas(folder, worker, outputs=["pae"], show_progress=False)
    before = folder.entries()
    for outputs in ([], ["pae"]):
        assert fold_atlas(folder, worker, outputs=outputs, add_outputs=True, show_progress=False).shards == 0
    assert folder.entries() == before


def test_driver_that_loses_adding_an_output_deletes_its_files(
    planned: Callable[..., AtlasFolder], poisoned: list[str], worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two drivers that add the same output, the later one deletes its own files only."""
    folder = planned(poisoned)
    fold_atlas(folder, worker, show_progress=False)
    first = folder.entries()
    fold_atlas(folder, worker, outputs=["pae"], add_outputs=True, show_progress=False)
    second, on_disk = folder.entries(), files(folder, SHARD_TABLES)
    # another driver that looked before the first one committed
    shards = {shard.name: entry for shard, entry in zip(folder.plans()[0].shards, first.values(), strict=True)}
    looks: list[str] = []

    def as_before(self: AtlasFolder, shard: object, digest: str) -> ShardEntry:
        looks.append(shard.name)  # type: ignore[attr-defined]
        return first[looks[-1]]

    assert set(shards) == set(first)
    reads = iter([first])
    monkeypatch.setattr(AtlasFolder, "committed_entry", as_before)
    monkeypatch.setattr(
        AtlasFolder, "histories", lambda self: {name: [entry] for name, entry in next(reads, second).items()}
    )
    fold_atlas(folder, worker, outputs=["pae"], add_outputs=True, show_progress=False)
    assert sorted(looks) == sorted(first)
    monkeypatch.undo()
    assert folder.entries() == second
    assert files(folder, SHARD_TABLES) == on_disk


def test_failed_addition_leaves_the_shard_unchanged(
    planned: Callable[..., AtlasFolder], poisoned: list[str], worker: WorkerSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a protein no longer folds, the output is not added and the stored shard stays."""
    folder = planned(poisoned)
    fold_atlas(folder, worker, show_progress=False)
    before, on_disk = folder.entries(), files(folder, SHARD_TABLES)
    monkeypatch.setenv("FAKE_CHILD_MEMORY", "50")
    with pytest.raises(IncompleteError):
        fold_atlas(folder, worker, outputs=["pae"], add_outputs=True, show_progress=False)
    changed = {name for name, entry in folder.entries().items() if entry != before[name]}
    assert all(folder.entries()[name].generation == 1 for name in changed)
    assert len(changed) < len(before)
    assert on_disk <= files(folder, SHARD_TABLES)
    assert verify(folder).faults == []


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [
        ("pae", "pae", lambda values: values[:-1]),
        ("pae", "pae", lambda values: [255, *values[1:]]),
        ("residue_embeddings", "residues", lambda values: [np.float16("nan"), *values[1:]]),
        ("residue_embeddings", "residues", lambda values: [*values, values[0]]),
    ],
)
def test_verify_finds_what_is_wrong_in_them(
    planned: Callable[..., AtlasFolder],
    poisoned: list[str],
    worker: WorkerSpec,
    table: str,
    column: str,
    change: Callable[..., object],
) -> None:
    from foldatlas.atlas.verify.shard import check_shard

    folder = planned(poisoned)
    fold_atlas(folder, worker, outputs=ALL, show_progress=False)
    (plan,) = folder.plans()
    shard = plan.shards[0]
    entry = folder.entries()[shard.name]
    path = folder.root / entry.files[table].path
    stored = pq.read_table(path)
    values = stored.column(column).to_pylist()
    values[1] = change(values[1])
    place = stored.schema.get_field_index(column)
    field = stored.schema.field(column)
    wrong = stored.set_column(place, field, pa.array(values, field.type))
    pq.write_table(wrong, path)
    faults = list(check_shard(folder.root, plan, shard, entry, folder.header(), set()))
    assert [fault.where for fault in faults] == [entry.files[table].path]
