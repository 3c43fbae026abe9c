"""foldatlas novelty on a generated atlas: what a search finds, keeps, and brings to SQL."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import novelty_atlas as given
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.status import status
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.verify.atlas import verify
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import dry_run, novelty
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import DIGEST_KEY

KNOWN = given.proteins()["known"]


def rows(atlas: AtlasFolder, sql: str) -> list[tuple[Any, ...]]:
    with Atlas.open(atlas.root) as opened:
        assert not opened.is_stale
        return opened.query(sql).rows()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> AtlasFolder:
    """The atlas before any search. Read only: `copied` makes one to search."""
    folder = AtlasFolder(tmp_path_factory.mktemp("novelty") / "atlas")
    given.write_atlas(folder, given.proteins())
    return folder


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reference's first two versions. Read only."""
    place = tmp_path_factory.mktemp("reference") / "structures"
    given.reference(place)
    return place


@pytest.fixture
def copied(folder: AtlasFolder, tmp_path: Path) -> Callable[[AtlasFolder], AtlasFolder]:
    def copy(source: AtlasFolder = folder) -> AtlasFolder:
        target = tmp_path / f"atlas{len(list(tmp_path.iterdir()))}"
        shutil.copytree(source.root, target)
        return AtlasFolder(target)

    return copy


@pytest.fixture(scope="module")
def searched(folder: AtlasFolder, reference: Path, tmp_path_factory: pytest.TempPathFactory) -> AtlasFolder:
    """The atlas after a search. Read only."""
    target = tmp_path_factory.mktemp("searched") / "atlas"
    shutil.copytree(folder.root, target)
    (report,) = novelty(target, [reference], log=str(target.parent / "events.jsonl"))
    assert (report.searched, report.inherited, report.skipped, report.failed) == (12, 0, {"too_short": 1}, 0)
    return AtlasFolder(target)


def test_workers_log_their_memory(searched: AtlasFolder, reference: Path) -> None:
    """The mapped arrays are those of the reference, and the peak is not below what this process has in memory."""
    lines = (Path(searched.root).parent / "events.jsonl").read_text().splitlines()
    stated = [event for event in map(json.loads, lines) if event["event"] == "search_memory"]
    committed = [event for event in map(json.loads, lines) if event["event"] == "stage_shard_committed"]
    assert sorted(event["shard"] for event in stated) == sorted(event["shard"] for event in committed)
    mapped = Reference.open(reference).memory_bytes()
    assert all(event["mapped_bytes"] == mapped and event["peak_bytes"] > 50e6 for event in stated)


def test_states_of_a_search_differ(searched: AtlasFolder) -> None:
    """A hit, no search, and what is known and what is not."""
    found = {name: rest for name, *rest in rows(searched, "select id, tm_query, nearest_structure from proteins")}
    assert found["known"][0] > 0.8 and found["known"][1] == "entry0"
    assert found["short"] == [None, None]
    assert 0 < found["novel1"][0] < 0.5
    reasons = rows(
        searched, "select id, state, reason from novelty join proteins using (structure_id) where reason is not null"
    )
    assert reasons == [("short", "not_searched", "too_short")]


def test_novel_asks_for_confidence_and_length(searched: AtlasFolder) -> None:
    novel = {name for (name,) in rows(searched, "select id from novel")}
    assert "novel1" in novel and not novel & {"known", "short", "doubtful"}
    assert rows(searched, "select count(*) from novel_at(0.05)") == [(0,)]
    assert {name for (name,) in rows(searched, "select id from novel_at(1.1)")} > novel


def test_a_search_leaves_a_whole_atlas(searched: AtlasFolder) -> None:
    result = verify(searched)
    assert (result.faults, result.notes) == ([], [])


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("tm_query", 0.99, "its tm_query is 0.99"),
        ("tm_target", 0.999, "its tm_target is 0.999"),
        ("rmsd", 0.0, "its rmsd is 0"),
        ("identity", 1.0, "its identity is 1"),
        ("alignment", [0, 0, 3000], "does not fit structure and target"),
        ("rotation", [1.0, 0, 0, 0, 1, 0, 0, 0, 1], "follows from its alignment and transform"),
        ("target", "nobody", "lacks 1 of"),
        ("state", "searched", "a state that its target contradicts"),
        ("reason", "bored", "an unknown reason"),
    ],
)
def test_verify_finds_a_changed_row(column: str, value: Any, message: str, searched: AtlasFolder, copied: Any) -> None:
    """One value of one row differs, with the digests of file and manifest made to fit."""
    atlas = copied(searched)
    (entry_path,) = atlas.root.glob("novelty/*/manifest/*.json")
    entry = json.loads(entry_path.read_text())
    path = atlas.root / entry["files"]["hits"]["path"]
    table = pq.read_table(path)
    row = next(number for number, hit in enumerate(table.to_pylist()) if 0.1 < (hit["tm_query"] or 0) < 0.9)
    place = table.schema.get_field_index(column)
    values = table.column(column).to_pylist()
    values[row] = value
    pq.write_table(
        table.set_column(place, table.schema.field(place), pa.array(values, table.schema.field(place).type)), path
    )
    entry["files"]["hits"] |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    del entry[DIGEST_KEY]
    entry_path.write_text(json.dumps(entry))
    assert any(message in str(fault) for fault in verify(atlas).faults)


def test_the_same_command_searches_nothing(searched: AtlasFolder, reference: Path, copied: Any) -> None:
    atlas = copied(searched)
    (report,) = novelty(atlas.root, [reference])
    assert (report.now, report.is_new) == (0, False)
    assert len(list((atlas.root / "novelty").iterdir())) == 1


def test_status_counts_the_files_of_a_search(searched: AtlasFolder) -> None:
    files = [*searched.root.rglob("*.parquet"), searched.root / "atlas.duckdb"]
    assert any("novelty" in path.parts for path in files)
    assert status(searched).bytes == sum(path.stat().st_size for path in files)


def test_a_grown_reference_is_searched_in_part(
    searched: AtlasFolder, reference: Path, copied: Any, tmp_path: Path
) -> None:
    """The newer entries alone, and in full what had a hit that left.

    Known structures have the hit of a search of all. Others may have another one, whose score is near: which entries a
    search aligns depends on the best bound among those that it looks at.
    """
    atlas = copied(searched)
    newer = tmp_path / "structures"
    shutil.copytree(reference, newer)
    given.grown(newer)
    (forecast,) = dry_run(atlas.root, [newer])
    [(left,)] = rows(atlas, "select count(*) from proteins where nearest_structure = 'entry1'")
    assert left > 0
    assert (forecast.todo.full, forecast.todo.newer, forecast.todo.kept) == (left, 12 - left, 1)
    (report,) = novelty(atlas.root, [newer])
    assert (report.now, report.version, report.searched) == (12, 3, 12)
    shown = "select id, tm_query, tm_target, nearest_structure from proteins order by id"
    partly = rows(atlas, shown)
    changes = dict(rows(atlas, "select id, change from novelty_changes join proteins using (structure_id)"))
    assert changes["helped"] == "known now" and changes["leaver"] == "no longer known"
    assert "known" not in changes and "short" not in changes
    assert verify(atlas).faults == []
    (full,) = novelty(atlas.root, [newer], full=True)
    assert (full.now, full.is_new) == (13, True)
    searched_in_full = rows(atlas, shown)
    for part, whole in zip(partly, searched_in_full, strict=True):
        if whole[1] is None or whole[1] >= 0.5:
            assert part == whole
        else:
            assert part[:2] == (whole[0], pytest.approx(whole[1], abs=0.05)) and part[1] < 0.5
    assert sum(row[1] is not None and row[1] >= 0.5 for row in searched_in_full) == 2
    assert rows(atlas, "select versions from novelty_runs order by completed") == [([2],), ([2, 3],), ([3],)]


def test_a_grown_atlas_is_searched_in_part(searched: AtlasFolder, reference: Path, copied: Any) -> None:
    atlas = copied(searched)
    given.write_atlas(atlas, {"later": given.Protein(given.made.made(64, 900))}, "later")
    assert rows(atlas, "select tm_query from proteins where id = 'later'") == [(None,)]
    (report,) = novelty(atlas.root, [reference])
    assert (report.now, report.searched) == (1, 13)
    assert rows(atlas, "select count(*) from proteins where tm_query is null") == [(1,)]


def test_members_inherit_from_their_cluster(folder: AtlasFolder, reference: Path, copied: Any) -> None:
    """One structure a cluster is searched; a member whose cluster changed is NULL until the next search."""
    atlas = copied(folder)
    twin = "".join("A" if place == 30 and letter != "A" else letter for place, letter in enumerate(KNOWN.sequence))
    given.write_atlas(atlas, {"twin": dataclasses.replace(KNOWN, chain=(twin, KNOWN.chain[1]), plddt=80.0)}, "twin")
    cluster(atlas.root)
    (report,) = novelty(atlas.root, [reference])
    assert (report.searched, report.inherited) == (12, 1)
    shown = "select tm_query, tm_target, nearest_structure, novelty_source, structure_id from proteins where id = '{}'"
    [known], [inherited] = (rows(atlas, shown.format(name)) for name in ("known", "twin"))
    assert inherited[:4] == known[:4] and known[3] == known[4] != inherited[4]
    details = "select rmsd, method, aligned_length from novelty join proteins using (structure_id) where id = 'twin'"
    assert rows(atlas, details) == [(None, None, None)]
    assert verify(atlas).faults == []
    export(atlas.root, atlas.root.parent / "part", format="parquet", where="id <> 'known'")
    part = AtlasFolder(atlas.root.parent / "part")  # without the structure that the twin inherits from
    assert rows(part, shown.format("twin")) == [inherited] and verify(part).faults == []
    (every,) = novelty(atlas.root, [reference], each=True)
    assert (every.now, every.searched, every.inherited) == (1, 13, 0)
    shutil.rmtree(next(iter(run for run in (atlas.root / "novelty").iterdir() if every.run == run.name)))
    shutil.rmtree(atlas.root / "clusters")
    build_index(atlas)
    [alone] = rows(atlas, shown.format("twin"))
    assert alone[:4] == (None, None, None, None)
    (after,) = novelty(atlas.root, [reference])
    assert (after.now, after.searched, after.inherited) == (1, 13, 0)


def test_nothing_is_novel_against_the_demo(folder: AtlasFolder, copied: Any) -> None:
    atlas = copied(folder)
    novelty(atlas.root, ["demo"])
    [(searched, novel)] = rows(atlas, "select count(tm_query), (select count(*) from novel) from proteins")
    assert searched == 12 and novel == 0
    assert rows(atlas, "select count(*) from novel_at(0.9)") == [(0,)]


def test_wrong_references_are_refused(folder: AtlasFolder, reference: Path, tmp_path: Path) -> None:
    for references, message in (
        ([], "no reference was given"),
        ([tmp_path], "is not a reference database"),
        ([reference, reference], "is given twice"),
    ):
        with pytest.raises(UsageError, match=message):
            novelty(folder.root, references)
    assert not (folder.root / "novelty").exists()


def test_fold_searches_what_it_folded(run: Any, reference: Path, tmp_path: Path) -> None:
    """The reference is checked before anything is folded; the last line is the search's."""
    fasta, atlas = tmp_path / "few.fasta", tmp_path / "atlas"
    fasta.write_text("".join(f">p{k}\n{given.made.sequence(34 + k, k)}\n" for k in range(2)) + ">s\nMKVLAA\n")
    refused = run("fold", fasta, atlas, "--model", "nano", "--reference", tmp_path / "nowhere")
    assert (refused.returncode, refused.stdout) == (2, "") and "is not a reference database" in refused.stderr
    assert not atlas.exists()
    planned = run("plan", fasta, atlas, "--model", "nano", "--reference", reference, "--dry-run", "--json")
    assert json.loads(planned.stdout)["searches"][0]["todo"]["full"] == 3
    done = run("fold", fasta, atlas, "--model", "nano", "--reference", reference)
    assert done.returncode == 0, done.stderr
    last = "structures version 2: 2 searched, 0 inherited, 2 with a hit, 1 too short, 0 failed"
    assert done.stdout.splitlines() == ["3 records: 3 folded, 0 repeated, 0 refused, 0 failed", last]
    assert "novelty   structures version 2: complete" in run("status", atlas).stdout
