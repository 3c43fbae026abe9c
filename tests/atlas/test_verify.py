"""Each fault is made in a copy and must be found, and named where it is."""

import dataclasses
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import HEADER, AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.coordinates import decode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.verify import geometry
from foldatlas.atlas.verify.atlas import Verification, verify
from foldatlas.atlas.verify.fault import FaultKind
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.folding.compare.stereochemistry import count
from foldatlas.schemas import tables
from foldatlas.schemas.errors import DamagedAtlasError, NotAnAtlasError
from foldatlas.schemas.manifest import DIGEST_KEY, FileEntry, Plan, ShardEntry, encode


@pytest.fixture
def sound(indexed, tmp_path: Path):
    """A copy with an index, in which `verify` finds nothing."""
    shutil.copytree(indexed.root, tmp_path / "atlas")
    return dataclasses.replace(indexed, folder=AtlasFolder(tmp_path / "atlas"))


def kinds(result: Verification) -> set[FaultKind]:
    return {fault.kind for fault in result.faults}


def where(result: Verification) -> set[str]:
    return {fault.where for fault in result.faults}


def entry_of(built, number: int = 0, plan: int = 0) -> ShardEntry:
    return built.folder.entries()[built.plans[plan].shards[number].name]


def rewrite(built, table: str, change: Callable[[pa.Table], pa.Table], number: int = 0) -> str:
    """Changes a shard's file and makes the manifest agree with the new bytes, as a faulty writer would."""
    entry = entry_of(built, number)
    old = entry.files[table]
    rows = change(pq.read_table(built.root / old.path))
    with ParquetFile(built.root, old.path, table, metadata={"model": "nano-untrained"}, schema=rows.schema) as file:
        file.write(rows, tables.STRUCTURES_PER_ROW_GROUP)
    assert file.entry
    replace_entry(built, entry, files={**entry.files, table: file.entry})
    return old.path


def replace_entry(built, entry: ShardEntry, **changes: object) -> None:
    path = built.folder.entry_path(entry.shard, entry.generation)
    path.write_bytes(encode(msgspec.structs.replace(entry, **changes)))


def replace_plan(built, plan: Plan, **changes: object) -> str:
    path = built.root / "plans" / f"{plan.name}.json"
    path.write_bytes(encode(msgspec.structs.replace(plan, **changes)))
    return f"plans/{plan.name}.json"


def with_column(table: pa.Table, name: str, values: object) -> pa.Table:
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))


def test_a_sound_atlas_has_no_fault(sound) -> None:
    result = verify(sound.folder)
    assert result.faults == [] and result.notes == ["1 shard still to fold: run `foldatlas fold` again"]
    assert result.files == sum(len(e.files) for e in sound.folder.entries().values()) + 5
    assert result.line().endswith("structures: no fault")
    assert verify(sound.folder, deep=False).faults == []


def test_no_atlas(tmp_path: Path) -> None:
    with pytest.raises(NotAnAtlasError):
        verify(AtlasFolder(tmp_path))


@pytest.mark.parametrize("table", ["structures", "scores", "failures", "embeddings", "sequences", "records"])
def test_a_flipped_byte_a_lost_file_a_cut_one(sound, table: str) -> None:
    path = sorted((sound.root / table).glob("*.parquet"))[0]
    name, content = f"{table}/{path.name}", path.read_bytes()
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    assert verify(sound.folder, deep=False).faults == []
    assert [(f.kind, f.where) for f in verify(sound.folder).faults] == [(FaultKind.DAMAGED, name)]
    path.write_bytes(content[:-1])
    assert [(f.kind, f.where) for f in verify(sound.folder, deep=False).faults] == [(FaultKind.DAMAGED, name)]
    assert [(f.kind, f.where) for f in verify(sound.folder).faults] == [(FaultKind.DAMAGED, name)]
    path.unlink()
    assert [(f.kind, f.where) for f in verify(sound.folder).faults] == [(FaultKind.MISSING, name)]


def test_one_fault_does_not_hide_another(sound) -> None:
    (sound.root / entry_of(sound, 1).files["structures"].path).unlink()
    (sound.root / sound.plans[0].records[0].path).write_bytes(b"")
    path = rewrite(sound, "scores", lambda t: with_column(t, "ptm", np.full(t.num_rows, 1.5)))
    build_failed = verify(sound.folder)
    assert {FaultKind.MISSING, FaultKind.DAMAGED, FaultKind.CONTENT} <= kinds(build_failed)
    assert {entry_of(sound, 1).files["structures"].path, sound.plans[0].records[0].path, path} <= where(build_failed)


@pytest.mark.parametrize(
    ("column", "change", "kind"),
    [
        ("mean_plddt", 0.002, FaultKind.SCORES),
        ("mean_plddt", np.nan, FaultKind.SCORES),
        ("plddt_std", 0.002, FaultKind.SCORES),
        ("num_confident", 1, FaultKind.SCORES),
        ("fraction_confident", 0.01, FaultKind.SCORES),
        ("fraction_very_high", 0.01, FaultKind.SCORES),
        ("num_unknown", 1, FaultKind.SCORES),
        ("length", 1, FaultKind.SCORES),
        ("radius_of_gyration", 0.002, FaultKind.SCORES),
        ("ptm", 2, FaultKind.CONTENT),
        ("ptm", np.nan, FaultKind.CONTENT),
        ("helix_fraction", -2, FaultKind.CONTENT),
        ("strand_fraction", 0.9999, FaultKind.CONTENT),
        ("structure_row", 1, FaultKind.ROWS),
    ],
)
def test_a_wrong_score(sound, column: str, change: float, kind: FaultKind) -> None:
    def alter(table: pa.Table) -> pa.Table:
        values = table[column].to_numpy().copy()
        values[5] = values[5] + np.array(change).astype(values.dtype)
        return with_column(table, column, values)

    path = rewrite(sound, "scores", alter)
    sound.folder.index_path.unlink()  # it would differ too
    result = verify(sound.folder)
    assert kinds(result) == {kind} and where(result) == {path}
    assert column in str(result.faults[0]) or column == "strand_fraction"


def test_scores_of_other_structures(sound) -> None:
    def swap(table: pa.Table) -> pa.Table:
        return table.take(pa.array([1, 0, *range(2, table.num_rows)])).set_column(
            12, table.schema.field("structure_row"), table["structure_row"]
        )

    path = rewrite(sound, "scores", swap)
    result = verify(sound.folder)
    assert any(f.where == path and "another structure's row" in f.what for f in result.faults)


def test_a_structure_too_few_and_one_too_many(sound) -> None:
    path = rewrite(sound, "structures", lambda t: t.slice(1))
    result = verify(sound.folder)
    assert any(f.where == path and "lack 1 of" in f.what for f in result.faults)
    assert any(f.kind == FaultKind.DOCUMENT and "rows of its files" in f.what for f in result.faults)
    path = rewrite(sound, "structures", lambda t: pa.concat_tables([t, t.slice(0, 1)]), number=1)
    assert any(f.where == path and "twice" in f.what for f in verify(sound.folder).faults)


def test_coordinates_that_contradict_the_sequence(sound) -> None:
    def shorten(table: pa.Table) -> pa.Table:
        values = table["x"].to_pylist()
        values[7] = values[7][:-1]
        return with_column(table, "x", values)

    path = rewrite(sound, "structures", shorten)
    result = verify(sound.folder)
    assert [(f.kind, f.where) for f in result.faults if "atoms" in f.what] == [(FaultKind.CONTENT, path)]


def test_a_changed_sequence_a_far_atom_and_a_high_plddt(sound) -> None:
    def alter(table: pa.Table) -> pa.Table:
        sequences, x, plddt = (table[name].to_pylist() for name in ("sequence", "x", "plddt"))
        letters = sequences[9]
        other = next(i for i in range(1, len(letters)) if letters[i] != letters[0])
        sequences[9] = letters[other] + letters[1:other] + letters[0] + letters[other + 1 :]
        x[10][0], plddt[11][0] = 10**7, 10_001
        return with_column(with_column(with_column(table, "sequence", sequences), "x", x), "plddt", plddt)

    path = rewrite(sound, "structures", alter)
    said = " ".join(f.what for f in verify(sound.folder).faults if f.where == path)
    assert "md5" in said and "beyond 9,999.99 A" in said and "pLDDT above 100" in said


def test_other_columns_another_model_other_row_counts(sound) -> None:
    path = rewrite(sound, "scores", lambda t: t.drop_columns(["ptm"]))
    assert (FaultKind.SCHEMA, path) in {(f.kind, f.where) for f in verify(sound.folder).faults}
    entry = entry_of(sound, 1)
    old = entry.files["structures"]
    rows = pq.read_table(sound.root / old.path)
    with ParquetFile(sound.root, old.path, "structures", metadata={"model": "other"}) as file:
        file.write(rows, 64)
    wrong = FileEntry(old.path, old.rows + 1, file.entry.bytes, file.entry.sha256)
    replace_entry(sound, entry, files={**entry.files, "structures": wrong})
    said = " ".join(f.what for f in verify(sound.folder).faults if f.where == old.path)
    assert "'other'" in said and f"the manifest says {old.rows + 1}" in said


def test_embeddings_of_other_structures(sound) -> None:
    path = rewrite(sound, "embeddings", lambda t: t.take(pa.array([*range(1, t.num_rows), 0])))
    assert (FaultKind.ROWS, path) in {(f.kind, f.where) for f in verify(sound.folder).faults}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"folded": 7}, "7 folded"),
        ({"shard_digest": "0" * 64}, "other sequences"),
        ({"settings_digest": "0" * 64}, "other settings"),
        ({"files": {}}, "lacks a file"),
    ],
)
def test_entries_that_contradict_the_plan(sound, changes: dict, said: str) -> None:
    entry = entry_of(sound)
    replace_entry(sound, entry, **changes)
    faults = verify(sound.folder, deep=False).faults
    assert any(said in f.what and f.where == f"manifest/{entry.shard}.0.json" for f in faults)


def test_documents_that_are_not_json_are_faults(sound) -> None:
    (sound.root / "plans" / f"{sound.plans[0].name}.json").write_text("{")
    sound.folder.entry_path(sound.plans[1].shards[1].name, 0).write_text("[]")
    result = verify(sound.folder, deep=False)
    assert {f.where.split("/")[0] for f in result.faults} == {"plans", "manifest"}
    assert any("of a shard of no plan" in note for note in result.notes)  # the first plan's entries


def test_plans_that_contradict_themselves(sound) -> None:
    plan = sound.plans[0]
    name = replace_plan(sound, plan, max_length=91, proteins=plan.proteins + 1)
    said = [f.what for f in verify(sound.folder, deep=False).faults if f.where == name]
    assert any("digest" in what for what in said) and any("proteins" in what for what in said)
    name = replace_plan(sound, plan, outcomes={**plan.outcomes, "digit": 0, "gap": 1})
    assert [(f.kind, f.where) for f in verify(sound.folder).faults] == [(FaultKind.RECORDS, name)]


def test_a_plan_with_shards_of_files_that_it_lacks(sound) -> None:
    plan = sound.plans[0]
    for number in (len(plan.sequences), -1):
        first = msgspec.structs.replace(plan.shards[0], file=number)
        name = replace_plan(sound, plan, shards=(first, *plan.shards[1:]))
        faults = verify(sound.folder).faults
        assert (name, "it has shards of sequences files that it does not list") in [(f.where, f.what) for f in faults]
        with pytest.raises(DamagedAtlasError, match=f"{name} has shards of files"):
            sound.folder.plans()


def test_an_accepted_record_without_a_sequence(sound) -> None:
    plan = sound.plans[0]

    def alter(table: pa.Table) -> pa.Table:
        identities = table["structure_id"].combine_chunks().storage.to_pylist()
        identities[0] = b"\0" * 16
        storage = pa.array(identities, pa.binary(16))
        return table.set_column(5, table.schema.field(5), pa.ExtensionArray.from_storage(pa.uuid(), storage))

    with ParquetFile(sound.root, plan.records[0].path, "records") as file:
        file.write(alter(pq.read_table(sound.root / plan.records[0].path)))
    replace_plan(sound, plan, records=(file.entry,))
    build_index(sound.folder)
    faults = verify(sound.folder).faults
    assert [(f.kind, f.where) for f in faults] == [(FaultKind.RECORDS, plan.records[0].path)]
    assert "an accepted sequence that no plan has: 1 record, first 'a0'" in faults[0].what


def test_sequences_that_the_plan_does_not_have(sound) -> None:
    plan = sound.plans[0]
    rows = pq.ParquetFile(sound.root / plan.sequences[0].path)
    groups = [rows.read_row_group(n) for n in range(rows.num_row_groups)]
    groups[1] = groups[1].take(pa.array([1, 0, *range(2, groups[1].num_rows)]))
    groups[2] = with_column(groups[2], "length", pc.add(groups[2]["length"], 1).to_pylist())
    with ParquetFile(sound.root, plan.sequences[0].path, "sequences") as file:
        for group in groups:
            file.write(group)
    replace_plan(sound, plan, sequences=(file.entry,))
    said = [f.what for f in verify(sound.folder).faults if f.where == plan.sequences[0].path]
    assert any("row group 1" in what and "digest" in what for what in said)
    assert any("a length is not" in what for what in said)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("DELETE FROM scores WHERE structure_row = 3", "no row for structures"),
        ("UPDATE scores SET ptm = ptm + 0.01 WHERE structure_row = 3", "scores that no file has"),
        ("INSERT INTO scores FROM scores LIMIT 1", "structures more than once"),
        ("DELETE FROM records WHERE id = 'a1'", "no row for records"),
        ("UPDATE records SET description = 'other' WHERE id = 'a1'", "records that no file has"),
        ("UPDATE records SET state = 'pending' WHERE id = 'a1'", "a wrong state"),
        ("INSERT INTO records FROM records WHERE id = 'a1'", "records, the sources"),
        ("DELETE FROM files WHERE table_name = 'failures'", "no row for listed files"),
        ("DROP TABLE settings CASCADE", "cannot be compared"),
    ],
)
def test_an_index_that_says_something_else(sound, sql: str, said: str) -> None:
    connection = duckdb.connect(str(sound.folder.index_path))
    connection.execute(sql)
    connection.close()
    result = verify(sound.folder)
    assert kinds(result) == {FaultKind.INDEX} and where(result) == {"atlas.duckdb"}
    assert any(said in f.what for f in result.faults) and "foldatlas index" in str(result.faults[0].next_step)


def test_a_stale_an_unreadable_and_a_missing_index(sound) -> None:
    sound.folder.entry_path(sound.plans[0].shards[0].name, 0).unlink()
    assert kinds(verify(sound.folder)) == {FaultKind.STALE_INDEX}
    sound.folder.index_path.write_bytes(b"x" * 10_000)
    assert kinds(verify(sound.folder)) == {FaultKind.INDEX}
    sound.folder.index_path.unlink()
    result = verify(sound.folder)
    assert result.faults == [] and any("there is no atlas.duckdb" in note for note in result.notes)


def test_stray_files_are_notes(sound) -> None:
    for name in ("structures/stray.parquet", "notes.txt", ".atlas.duckdb.host_1_ab.part"):
        (sound.root / name).write_text("x")
    result = verify(sound.folder)
    assert result.faults == []
    assert sum("listed nowhere" in note for note in result.notes) == 3


def test_settings_that_were_edited(sound) -> None:
    path = sound.folder.root / HEADER
    header = json.loads(path.read_text())
    header["settings"]["recycles"] = 3
    del header[DIGEST_KEY]  # with it, the edited header is not read at all
    path.write_text(json.dumps(header))
    assert [(f.kind, f.where) for f in verify(sound.folder, deep=False).faults] == [(FaultKind.DOCUMENT, "atlas.json")]


def test_full_verification_counts_unusual_geometry(sound) -> None:
    """Made coordinates are unusual: the counts are those of all structures one by one, and no fault."""
    plain = verify(sound.folder)
    found = verify(sound.folder, full=True)
    assert (found.faults, plain.geometry) == ([], None) and found.geometry
    structures = [
        structure
        for entry in sound.folder.entries().values()
        for structure in decode_structures(pq.read_table(sound.root / entry.files["structures"].path))
    ]
    assert found.geometry.structures == len(structures) == found.proteins
    for name, unusual in found.geometry.unusual.items():
        each = [int(getattr(count([s.sequence], s.positions), name)[0]) for s in structures]
        assert (unusual.number, unusual.structures, unusual.most) == (sum(each), sum(map(bool, each)), max(each))
    assert sum("chain break" in note for note in found.notes) == 1 and len(found.notes) > len(plain.notes)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  CA  ", " CX   ", "other atoms"),
        ("1.000", "2.000", "other coordinates"),
        ("ALA A", "GLY A", "other residues"),
    ],
)
def test_pdb_files_that_others_read_differently(
    sound, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str
) -> None:
    """A writer that is wrong is noticed by both programs."""

    def wrong(*structure: object, **described: object) -> str:
        return re.sub(old, new, pdb_text(*structure, **described))  # type: ignore[arg-type]

    monkeypatch.setattr(geometry, "pdb_text", wrong)
    faults = verify(sound.folder, full=True).faults
    assert {fault.kind for fault in faults} == {FaultKind.CONTENT}
    for program in ("gemmi", "Biopython"):
        assert any(fault.what.startswith(f"{program} reads {said} from the PDB file") for fault in faults)


def test_documents_without_a_digest_are_a_note(sound) -> None:
    """A plan as an earlier program wrote it. A value changed in an entry that has a digest is a fault."""
    assert not [note for note in verify(sound.folder).notes if "no digest" in note]
    plan = sound.root / "plans" / f"{sound.plans[0].name}.json"
    lines = plan.read_text().splitlines()
    plan.write_text("\n".join([*lines[:-3], lines[-3].removesuffix(","), "}"]) + "\n")
    found = verify(sound.folder)
    assert found.faults == [] and any(note.startswith("1 document of ") for note in found.notes)
    entry = entry_of(sound)
    path = sound.folder.entry_path(entry.shard, entry.generation)
    path.write_text(path.read_text().replace('"seconds": ', '"seconds": 9'))
    assert {path.name for path in map(Path, where(verify(sound.folder)))} >= {path.name}
