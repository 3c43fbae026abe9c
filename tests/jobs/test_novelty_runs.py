"""Runs of foldatlas novelty: interrupted, killed, on Dask and on a store they come to the same tables."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import novelty_atlas as given
import pytest
from dask_cluster import until
from paused import pausing_environment
from signalled import kill_at

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.novelty import planning
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.jobs.novelty import novelty
from foldatlas.pipeline.search import shard as search_shard
from foldatlas.schemas.errors import Interrupted, StoreError

COMMAND = [sys.executable, "-m", "foldatlas.jobs.cli"]
TABLES = ("novelty", "sequence_novelty", "targets")
COLUMNS = "id, tm_query, tm_target, nearest_structure, novelty_source, identity_max, nearest_sequence"


def contents(place: str | Path) -> dict[str, list[tuple[Any, ...]]]:
    """What searches brought to SQL."""
    with Atlas.open(place) as atlas:
        assert not atlas.is_stale
        found = {table: atlas.query(f"select * from {table}").rows() for table in TABLES}
        found["proteins"] = atlas.query(f"select {COLUMNS} from proteins order by id").rows()
    return {table: sorted(rows, key=repr) for table, rows in found.items()}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "MIN_SHARD", 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> AtlasFolder:
    folder = AtlasFolder(tmp_path_factory.mktemp("runs") / "atlas")
    given.write_atlas(folder, given.proteins())
    return folder


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory, folder: AtlasFolder) -> list[Path]:
    """One of structures, one of sequences: some of the atlas's own with a few letters changed."""
    from foldatlas.jobs.reference import reference

    place = tmp_path_factory.mktemp("references")
    given.reference(place / "structures")
    proteins = given.proteins()
    fasta = "".join(f">kin_{id}\n{proteins[id].sequence[:60]}WWW\n" for id in ("known", "novel1", "doubtful"))
    (place / "known.fasta").write_text(fasta)
    reference([str(place / "known.fasta")], place / "sequences", licence="CC0-1.0")
    return [place / "structures", place / "sequences"]


@pytest.fixture(scope="module")
def whole(folder: AtlasFolder, references: Sequence[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas after undisturbed searches, of four shards each."""
    target = tmp_path_factory.mktemp("whole") / "atlas"
    shutil.copytree(folder.root, target)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MIN_SHARD", 4)
        novelty(target, references)
    return target


@pytest.fixture
def copy(folder: AtlasFolder, tmp_path: Path) -> Path:
    shutil.copytree(folder.root, tmp_path / "atlas")
    return tmp_path / "atlas"


def test_sequences_are_searched_beside_structures(whole: Path) -> None:
    with Atlas.open(whole) as atlas:
        found = {
            id: rest for id, *rest in atlas.query("select id, identity_max, nearest_sequence from proteins").rows()
        }
        [(novel,)] = atlas.query("select count(*) from novel_sequences").rows()
        latest = atlas.query("select search, is_latest from novelty_runs order by search").rows()
    assert found["known"] == [1.0, "kin_known"] and found["novel1"] == [1.0, "kin_novel1"]
    assert found["leaver"] == [0.0, None]
    assert novel == len(found) - 3 and latest == [("sequences", True), ("structures", True)]
    assert verify(AtlasFolder(whole)).faults == []


def test_threads_change_nothing(
    small_shards: None, copy: Path, references: Sequence[Path], whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    novelty(copy, references)
    assert contents(copy) == contents(whole)


def test_an_interrupted_search_resumes(
    small_shards: None, copy: Path, references: Sequence[Path], whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second shard, and with a search that fails; the same command goes on, and what was done stays."""
    calls = []
    real = search_shard._structures

    def stopped(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            raise Interrupted("stopped on request")
        return real(*arguments)

    monkeypatch.setattr(search_shard, "_structures", stopped)
    with pytest.raises(Interrupted):
        novelty(copy, references)
    monkeypatch.setattr(search_shard, "_structures", away)
    report, _ = novelty(copy, references)
    assert report.error == "the store is away" and report.searched == 4 and "not finished" in report.line()
    monkeypatch.undo()
    monkeypatch.setattr(planning, "MIN_SHARD", 4)
    report, _ = novelty(copy, references)
    assert report.now == 9
    assert contents(copy) == contents(whole)
    assert verify(AtlasFolder(copy)).faults == []


def test_one_bad_structure_costs_no_other(
    small_shards: None, copy: Path, references: Sequence[Path], whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a row with a reason, and is searched again by the next run."""
    guilty = given.proteins()["novel3"].sequence
    real = search_shard._structures

    def fails(reference: Any, structures: Sequence[StoredStructure], *rest: Any) -> Any:
        if any(one.sequence == guilty for one in structures):
            raise ZeroDivisionError("a bad structure")
        return real(reference, structures, *rest)

    monkeypatch.setattr(search_shard, "_structures", fails)
    (report,) = novelty(copy, references[:1])
    assert (report.searched, report.failed) == (11, 1)
    with Atlas.open(copy) as atlas:
        why = "select state, reason, detail, tm_query from novelty where reason = 'failed'"
        assert atlas.query(why).rows() == [("not_searched", "failed", "ZeroDivisionError: a bad structure", None)]
    monkeypatch.undo()
    (report,) = novelty(copy, references[:1])
    assert (report.now, report.searched, report.failed) == (1, 12, 0)
    assert contents(copy)["proteins"][3][:5] == contents(whole)["proteins"][3][:5]


def test_bisection_finds_each_guilty_structure() -> None:
    structures = [StoredStructure(bytes([k] * 16), "A", None, None) for k in range(13)]  # type: ignore[arg-type]
    tried: list[int] = []

    def find(some: Sequence[StoredStructure]) -> list[dict[str, Any]]:
        tried.append(len(some))
        if {one.structure_id[0] for one in some} & {4, 11}:
            raise ValueError("no")
        return [{"state": "searched"} for _ in some]

    found = search_shard.find_with_bisection(find, structures, lambda: None)
    assert [row.get("reason") for row in found] == [("failed" if k in (4, 11) else None) for k in range(13)]
    with pytest.raises(OSError):
        search_shard.find_with_bisection(_full, structures, lambda: None)
    assert max(tried) == 13


def away(*arguments: Any) -> Any:
    raise StoreError("the store is away")


def _full(some: Sequence[StoredStructure]) -> list[dict[str, Any]]:
    raise OSError(28, "No space left on device")


def test_merged_atlases_have_one_search(
    references: Sequence[Path], folder: AtlasFolder, whole: Path, tmp_path: Path
) -> None:
    """The searches of two atlases against one reference are one of the merged atlas; nothing is searched again."""
    other = AtlasFolder(tmp_path / "other")
    more = {"known": given.proteins()["known"], "further": given.Protein(given.made.made(77, 901))}
    given.write_atlas(other, more, "more")
    novelty(other.root, references[:1])
    merge_atlases([whole, other.root], tmp_path / "both")
    both = AtlasFolder(tmp_path / "both")
    assert verify(both).faults == []
    found = {row[0]: row for row in contents(both.root)["proteins"]}
    assert {id for id, row in found.items() if row[1] is None} == {"short"}
    for id, *rest in contents(whole)["proteins"]:
        assert found[id][1:5] == tuple(rest[:4])
    (report,) = novelty(both.root, references[:1])
    assert (report.now, report.searched) == (0, 13)


def test_a_search_of_an_atlas_on_a_store(s3: Any, references: Sequence[Path], whole: Path, folder: AtlasFolder) -> None:
    s3.create_bucket(Bucket="searches")
    for path in folder.root.rglob("*"):
        if path.is_file() and path.name != "atlas.duckdb":
            s3.upload_file(str(path), "searches", f"atlas/{path.relative_to(folder.root)}")
    novelty("s3://searches/atlas", references[:1])
    found, expected = contents("s3://searches/atlas"), contents(whole)
    assert [row[:4] for row in found["proteins"]] == [row[:4] for row in expected["proteins"]]
    assert verify(AtlasFolder("s3://searches/atlas")).faults == []


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> AtlasFolder:
    """An atlas of 45 structures: three shards."""
    folder = AtlasFolder(tmp_path_factory.mktemp("larger") / "atlas")
    given.write_atlas(folder, {f"p{k}": given.Protein(given.made.made(60 + k, 700 + k)) for k in range(45)})
    return folder


KILLS = [  # before each shard is committed, and what follows the last; each run goes on where the one before was killed
    ("atlas.stages.run:StageRun.begin", 1),
    ("atlas.stages.run:StageRun.commit_entry", 1),
    ("atlas.stages.run:StageRun.commit_entry", 2),
    ("atlas.stages.run:StageRun.commit_entry", 2),
    ("atlas.stages.run:StageRun.complete", 1),
    ("atlas.index.build:build_index", 1),
]


@pytest.fixture
def atlases(larger: AtlasFolder, references: Sequence[Path], tmp_path: Path) -> tuple[Path, Path]:
    """A copy of the atlas to search, and one that was searched undisturbed."""
    killed, expected = tmp_path / "killed", tmp_path / "expected"
    for target in (killed, expected):
        shutil.copytree(larger.root, target)
    novelty(expected, references[:1])
    return killed, expected


def check_same(killed: Path, expected: Path, words: Sequence[str | Path]) -> None:
    """The search that was killed, run again, comes to the expected tables, and leaves nothing else."""
    done = subprocess.run([*COMMAND, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert contents(killed) == contents(expected)
    result = verify(AtlasFolder(killed))
    assert (result.faults, result.notes) == ([], [])


@pytest.mark.long
def test_killed_searches_come_to_the_same(atlases: tuple[Path, Path], references: Sequence[Path]) -> None:
    words = ["novelty", atlases[0], "--reference", references[0]]
    for place, call in KILLS:
        kill_at(place, call, *words)
    check_same(*atlases, words)


@pytest.mark.long
def test_killed_search_on_dask_comes_to_the_same(
    atlases: tuple[Path, Path], references: Sequence[Path], tmp_path: Path
) -> None:
    """Killed when a worker pauses before its second commit: two workers have three shards."""
    words = ["novelty", atlases[0], "--reference", references[0], "--workers", "2"]
    pauses = tmp_path / "pauses"
    environment = {**os.environ, **pausing_environment(pauses, "spawn_main")}
    driver = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    until(lambda: any(pauses.iterdir()) or driver.poll() is not None, "a worker pauses")
    driver.kill()
    said, _ = driver.communicate()
    assert driver.returncode == -signal.SIGKILL, said
    check_same(*atlases, words)
