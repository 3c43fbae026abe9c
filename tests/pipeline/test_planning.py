"""Planning: what is accepted, repeated, refused and new, against a plain-Python reading of the rules."""

import errno
import gzip
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from Bio import SeqIO

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.storage.commit import attempt_name
from foldatlas.folding.models import settings_of
from foldatlas.pipeline.planning import ingest
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.sources import fasta, find
from foldatlas.pipeline.sources.find import SourceWarning
from foldatlas.schemas.errors import (
    DamagedAtlasError,
    FoldAtlasError,
    ForeignFolderError,
    SettingsMismatchError,
    SourceError,
    UsageError,
)
from foldatlas.schemas.manifest import Plan, shard_digest
from foldatlas.schemas.records import Outcome, structure_id

EXAMPLE = Path(__file__).parents[2] / "examples" / "gut.fasta"
SETTINGS = settings_of("nano")


def records(folder: AtlasFolder, plan: Plan) -> list[dict[str, object]]:
    return [row for file in plan.records for row in pq.read_table(folder.root / file.path).to_pylist()]


def sequences(folder: AtlasFolder, plan: Plan) -> list[str]:
    return [text for file in plan.sequences for text in pq.read_table(folder.root / file.path)["sequence"].to_pylist()]


def snapshot(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_real_file_becomes_a_plan(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    made = plan(EXAMPLE).plan
    assert made is not None
    with EXAMPLE.open() as text:
        theirs = list(SeqIO.parse(text, "fasta"))
    assert made.outcomes == {"accepted": 60}
    ours = records(folder, made)
    assert [row["id"] for row in ours] == [record.id for record in theirs]
    assert all(row["is_fragment"] is False for row in ours)
    planned = sequences(folder, made)
    assert sorted(planned) == sorted(str(record.seq).rstrip("*") for record in theirs)
    assert [len(text) for text in planned] == sorted(map(len, planned), reverse=True)
    assert made.residues == sum(map(len, planned))
    assert folder.plans() == [made]
    assert len(made.shards) >= 8
    assert not folder.staging.exists()


def test_shards_are_row_groups_with_their_digests(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    made = plan(EXAMPLE).plan
    assert made is not None
    file = pq.ParquetFile(folder.root / made.sequences[0].path)
    assert file.num_row_groups == len(made.shards)
    for shard in made.shards:
        rows = file.read_row_group(shard.row_group).to_pylist()
        assert shard.digest == shard_digest(structure_id(row["sequence"]) for row in rows)
        assert shard.proteins == len(rows)
        assert shard.residues == sum(row["length"] for row in rows)
        assert (shard.min_length, shard.max_length) == (rows[-1]["length"], rows[0]["length"])
        assert all(row["structure_id"].bytes == structure_id(row["sequence"]) for row in rows)


def test_parquet_statistics_let_readers_skip_row_groups(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    made = plan(EXAMPLE).plan
    assert made is not None
    group = pq.ParquetFile(folder.root / made.sequences[0].path).metadata.row_group(0)
    columns = {group.column(n).path_in_schema: group.column(n).is_stats_set for n in range(group.num_columns)}
    assert columns == {"structure_id": True, "sequence": False, "length": True}


IDS = """\
>a
MKVLAAG
>b
MKVLAAG
>a
MKVLAAG
>c
MKV-L
>c
MKVLGG
>c
MKVLGG
>c
MWWW
>d
MKVLGG
"""


def test_repetitions_and_duplicate_ids(plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path) -> None:
    path = tmp_path / "ids.fasta"
    path.write_text(IDS)
    made = plan(path).plan
    assert made is not None
    rows = records(folder, made)
    assert [(row["id"], row["outcome"]) for row in rows] == [
        ("a", "accepted"),
        ("b", "accepted"),  # the same sequence under another id is a protein of its own
        ("a", "repeated"),
        ("c", "gap"),
        ("c", "accepted"),  # the first accepted one has the id
        ("c", "repeated"),
        ("c", "duplicate_id"),
        ("d", "accepted"),
    ]
    assert sorted(sequences(folder, made)) == ["MKVLAAG", "MKVLGG"]
    assert [row["structure_id"] is None for row in rows] == [False] * 3 + [True] + [False] * 2 + [True, False]
    assert all((row["structure_id"] is None) == (row["sequence_crc64"] is None) for row in rows)
    assert made.outcomes == Counter(row["outcome"] for row in rows)


def test_the_same_ids_in_two_files_are_fine(plan: Callable[..., Planned], tmp_path: Path) -> None:
    for name, text in (("1.fasta", ">a\nMKVL\n"), ("2.fasta", ">a\nMKWW\n")):
        (tmp_path / name).write_text(text)
    made = plan(tmp_path / "*.fasta").plan
    assert made is not None and made.outcomes == {"accepted": 2}


def test_many_ranges_and_batches_give_what_one_gives(
    plan: Callable[..., Planned], folder: AtlasFolder, costs: CostModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = plan(EXAMPLE).plan
    monkeypatch.setattr(find, "RANGE_BYTES", 1000)
    monkeypatch.setattr(fasta, "BLOCK_BYTES", 700)
    monkeypatch.setattr(ingest, "RECORDS_PER_ROW_GROUP", 3)
    other = AtlasFolder(tmp_path / "other")
    cut = make_plan([str(EXAMPLE)], other, SETTINGS, costs, max_length=1280).plan
    assert whole is not None and cut is not None
    assert cut.name == whole.name  # same content, same plan
    assert records(other, cut) == records(folder, whole)


def test_plain_and_gzip_give_the_same_sequences(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    first = plan(EXAMPLE).plan
    packed = tmp_path / "gut.faa.gz"
    packed.write_bytes(gzip.compress(EXAMPLE.read_bytes()))
    second = plan(packed).plan
    assert first is not None and second is not None
    assert second.outcomes == {"accepted": 60}
    assert second.proteins == 0 and second.shards == ()  # all are in the atlas: records alone
    assert [row["offset"] for row in records(folder, second)] == [row["offset"] for row in records(folder, first)]


def test_a_cut_gzip_refuses_the_record_it_is_cut_in(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    packed = tmp_path / "cut.faa.gz"
    packed.write_bytes(gzip.compress(EXAMPLE.read_bytes())[:-500])
    with pytest.warns(SourceWarning, match="ends early"):
        made = plan(packed).plan
    assert made is not None
    outcomes = [row["outcome"] for row in records(folder, made)]
    assert outcomes[-1] == Outcome.TRUNCATED
    assert set(outcomes[:-1]) == {Outcome.ACCEPTED} and len(outcomes) > 50


def test_only_what_is_new_is_planned(plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path) -> None:
    grown = tmp_path / "grown.fasta"
    grown.write_text(">a\nMKVL\n>b\nMKWW\n")
    first = plan(grown)
    assert plan(grown).plan is None
    os.utime(grown, (1, 1))
    assert plan(grown).plan is None  # touched, not changed
    more = tmp_path / "more.fasta"
    more.write_text(">c\nMKVL\n>d\nMAAA\n")
    second = plan(grown, more)
    assert [source.path for source in second.known] == [str(grown)]
    assert first.plan is not None and second.plan is not None
    assert sequences(folder, second.plan) == ["MAAA"]
    assert [source.uri for source in second.plan.sources] == [more.as_uri()]


def test_a_file_with_new_content_is_a_new_version(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    path = tmp_path / "batch.fasta"
    path.write_text(">a\nMKVL\n")
    plan(path)
    path.write_text(">a\nMKWWW\n")
    changed = plan(path)
    second = changed.plan
    assert [change.line() for change in changed.changes] == [
        "batch.fasta changed: 1 record before, 1 now; 0 new, 0 gone"
    ]
    assert second is not None and second.sources[0].supersedes and second.format == 2
    assert sequences(folder, second) == ["MKWWW"]


def test_a_wider_limit_plans_what_was_refused(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    path = tmp_path / "long.fasta"
    path.write_text(">a\nMKVL\n>b\n" + "MKWW" * 10 + "\n")
    first = plan(path, max_length=20).plan
    assert first is not None and first.outcomes == {"accepted": 1, "too_long": 1}
    second = plan(path, max_length=40).plan
    assert second is not None and sequences(folder, second) == ["MKWW" * 10]
    assert plan(path, max_length=30).plan is None


def test_text_before_the_first_record_is_a_warning(plan: Callable[..., Planned], tmp_path: Path) -> None:
    path = tmp_path / "in.fasta"
    path.write_text("; a comment of old\n>a\nMKVL\n")
    with pytest.warns(SourceWarning, match="before the first"):
        made = plan(path).plan
    assert made is not None and made.outcomes == {"accepted": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"MKVL\nMKVL\n", "not FASTA.*no line begins"),
        (b"@read1\nACGT\n+\nIIII\n", "FASTQ"),
        (b"LOCUS       X\n//\n", "GenBank without any coding"),
        (b"\x28\xb5\x2f\xfd....", "zstd and damaged"),
        (b"PK\x03\x04....", "zip"),
        (b"BZh9....", "bzip2 and damaged"),
        (b"<!DOCTYPE html>\n<title>404</title>", "HTML"),
        (bytes(257) + b"ustar  \0" + bytes(248), "tar archive"),
        (gzip.compress(bytes(257) + b"ustar  \0" + bytes(248), mtime=0), "tar archive"),
        (gzip.compress(b"@read1\nACGT\n+\nIIII\n", mtime=0), "FASTQ"),
        (b"\x1f\x8b\x08\x00garbage", "not FASTA"),
        (None, "does not exist"),
    ],
)
def test_a_source_that_cannot_be_used_leaves_no_atlas(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "bad.fasta"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=reason):
        plan(EXAMPLE, path)
    assert not folder.root.exists()


@pytest.mark.parametrize(
    ("name", "reason"), [("", "is a folder"), ("*.none", "no file matches"), ("ftp://host/a.fasta", "is not supported")]
)
def test_missing_file_is_refused(plan: Callable[..., Planned], tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(SourceError, match=reason):
        plan(name if "://" in name else tmp_path / name)


def test_a_bad_source_leaves_an_atlas_as_it_was(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    plan(EXAMPLE)
    before = snapshot(folder.root)
    bad = tmp_path / "bad.fasta"
    bad.write_text("no fasta")
    with pytest.raises(SourceError):
        plan(bad)
    assert snapshot(folder.root) == before


def test_a_folder_of_other_things_is_refused(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    folder.root.mkdir()
    (folder.root / "thesis.tex").write_text("years")
    with pytest.raises(ForeignFolderError, match=r"thesis\.tex"):
        plan(EXAMPLE)
    assert snapshot(folder.root) == {"thesis.tex": b"years"}


def test_leftovers_of_a_killed_run_are_recognised(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    (folder.staging / "host_1_00").mkdir(parents=True)
    (folder.root / ".atlas.json.host_1_00.part").write_bytes(b"half")
    assert plan(EXAMPLE).plan is not None


def test_another_model_is_refused(plan: Callable[..., Planned], folder: AtlasFolder, costs: CostModel) -> None:
    plan(EXAMPLE)
    before = snapshot(folder.root)
    with pytest.raises(SettingsMismatchError, match="recycles 0, this run has 1"):
        make_plan([str(EXAMPLE)], folder, settings_of("nano", 1), costs, max_length=1280)
    assert snapshot(folder.root) == before


def test_a_file_that_changes_while_it_is_read_is_refused(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "in.fasta"
    path.write_text(">a\nMKVL\n")
    real = ingest.open_records

    def touch(source: find.SourceFile, *place: int | None) -> object:
        os.utime(path, (1, 1))
        return real(source, *place)

    monkeypatch.setattr(ingest, "open_records", touch)
    with pytest.raises(SourceError, match="changed while"):
        plan(path)
    assert not folder.root.exists()


def test_names_with_pattern_characters_are_names(
    costs: CostModel, tmp_path: Path, plan: Callable[..., Planned]
) -> None:
    odd = AtlasFolder(tmp_path / "atlas [1] *")
    path = tmp_path / "in[1].fasta"
    path.write_text(">a\nMKVL\n")
    made = make_plan([str(path)], odd, SETTINGS, costs, max_length=1280).plan
    assert made is not None and made.proteins == 1
    (tmp_path / "more.fasta").write_text(">b\nMKVL\n>c\nMMM\n")
    second = make_plan([str(tmp_path / "more.fasta")], odd, SETTINGS, costs, max_length=1280).plan
    assert second is not None and second.proteins == 1


def test_duckdb_reads_the_tables(plan: Callable[..., Planned], folder: AtlasFolder) -> None:
    made = plan(EXAMPLE).plan
    assert made is not None
    path = folder.root / made.sequences[0].path
    sql = "select count(*), count_if(structure_id::varchar = md5(sequence)::uuid::varchar) from read_parquet($path)"
    with duckdb.connect() as connection:
        assert connection.execute(sql, {"path": str(path)}).fetchall() == [(60, 60)]


def test_a_file_named_in_several_ways_is_read_once(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    (tmp_path / "link.fasta").symlink_to(EXAMPLE)
    made = plan(EXAMPLE, tmp_path / "link.fasta", EXAMPLE).plan
    assert made is not None
    assert made.outcomes == {"accepted": 60} and len(made.sources) == 1


def test_records_are_in_the_order_of_their_sources(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    (tmp_path / "2.fasta").write_text(">x\nMKVL\n>y\nMAAA\n")
    (tmp_path / "1.fasta").write_text(">z\nMWWW\n")
    made = plan(tmp_path / "2.fasta", tmp_path / "1.fasta").plan
    assert made is not None
    assert [row["id"] for row in records(folder, made)] == ["z", "x", "y"]


def test_other_weights_are_refused(plan: Callable[..., Planned], folder: AtlasFolder, costs: CostModel) -> None:
    plan(EXAMPLE)
    with pytest.raises(SettingsMismatchError, match="weights"):
        make_plan([str(EXAMPLE)], folder, replace(SETTINGS, weights="0" * 64), costs, max_length=1280)


def test_first_of_two_drivers_commits_the_plan(
    plan: Callable[..., Planned], folder: AtlasFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = plan(EXAMPLE).plan
    before = snapshot(folder.root)
    real, looks = AtlasFolder.plans, iter([True])  # the second looks once before the first has committed
    monkeypatch.setattr("foldatlas.pipeline.planning.planner._is_known", lambda *_: False)

    def plans(self: AtlasFolder) -> list[Plan]:
        return [] if next(looks, False) else real(self)

    monkeypatch.setattr(AtlasFolder, "plans", plans)
    assert plan(EXAMPLE).plan == first
    assert snapshot(folder.root) == before


def test_staging_of_the_dead_goes_and_that_of_the_living_stays(
    plan: Callable[..., Planned], folder: AtlasFolder
) -> None:
    living = folder.staging / attempt_name()
    dead = folder.staging / living.name.replace(f"_{os.getpid()}_", "_4194304_")
    for work in (living, dead):
        work.mkdir(parents=True)
    plan(EXAMPLE)
    assert living.exists() and not dead.exists()


def test_an_earlier_plan_without_its_tables_is_damage(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    first = plan(EXAMPLE).plan
    assert first is not None
    (folder.root / first.sequences[0].path).unlink()
    (tmp_path / "more.fasta").write_text(">x\nMKVL\n")
    with pytest.raises(DamagedAtlasError, match="foldatlas verify"):
        plan(tmp_path / "more.fasta")


def test_a_folder_that_cannot_hold_commits_ends_planning_once(
    plan: Callable[..., Planned], folder: AtlasFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("foldatlas.atlas.storage.commit.os.link", refuse)
    with pytest.raises(FoldAtlasError, match="hard links"):
        plan(EXAMPLE)
    assert caplog.records == [] and not folder.root.exists()


def test_failed_planning_removes_the_folders_it_made(costs: CostModel, tmp_path: Path) -> None:
    (tmp_path / "bad.fasta").write_text("no fasta")
    deep = AtlasFolder(tmp_path / "a" / "b" / "atlas")
    with pytest.raises(SourceError):
        make_plan([str(tmp_path / "bad.fasta")], deep, SETTINGS, costs, max_length=1280)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["what?", "line\nbreak"])
def test_a_folder_that_duckdb_cannot_open_is_refused(costs: CostModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="DuckDB cannot open"):
        make_plan([str(EXAMPLE)], AtlasFolder(tmp_path / name), SETTINGS, costs, max_length=1280)


def test_after_a_wider_limit_records_say_what_they_are_under_it(
    plan: Callable[..., Planned], folder: AtlasFolder, tmp_path: Path
) -> None:
    path = tmp_path / "in.fasta"
    long, other = "MKVL" * 10, "MKWW" * 10
    path.write_text(f">a\n{long}\n>a\n{long}\n>c\n{long}\n>c\n{other}\n>d\nMK\n")
    plan(path, max_length=20)
    assert build_index(folder).refused == {Outcome.TOO_LONG: 4}
    plan(path, max_length=1280)
    found = build_index(folder)
    assert (found.refused, found.repeated, found.pending) == ({Outcome.DUPLICATE_ID: 1}, 1, 3)
