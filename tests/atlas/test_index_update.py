"""An index that is continued equals one that is built from nothing, whatever is new."""

import dataclasses
import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built_atlas import SETTINGS, Built, Record, draw, write_plan, write_shard
from index_rows import assert_equals_full, rows

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index import low_confidence, ranges, update
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.records import structure_id

URI_C, URI_D = "file:///data/c.fasta", "file:///data/d.fasta"


def sorted_runs(folder: AtlasFolder) -> int:
    with Atlas.open(folder.root) as atlas:
        return int(atlas.query("SELECT runs FROM settings").rows()[0][0])


@pytest.fixture
def growing(tmp_path: Path) -> Built:
    """An atlas of one plan of 3 shards, of which none is folded."""
    built = Built(AtlasFolder(tmp_path / "atlas"))
    built.folder.create(SETTINGS)
    add_plan(built, URI_C, 1)
    return built


def add_plan(built: Built, uri: str, seed: int, more: tuple[Record, ...] = ()) -> None:
    generator = np.random.default_rng(seed)
    given = [Record(f"p{seed}_{n}", draw(generator, 20 + n), offset=100 * n) for n in range(150)]
    given[7] = Record("digits", "MK1", "digit", offset=700)
    given[8].description = "one\x01WP_1.1 further title"
    given += more
    created = f"2026-11-0{seed}T09:00:00.000+00:00"
    built.plans.append(write_plan(built.folder, {uri: given}, 2_000, 60, created))
    built.given.append({uri: given})


def fold(built: Built, plan: int, shard: int, **options) -> None:
    write_shard(built, built.plans[plan], shard, np.random.default_rng(100 * plan + shard), **options)


def test_new_shards_continue_the_index(growing: Built, tmp_path: Path) -> None:
    folder = growing.folder
    failed = growing.given[0][URI_C][3]
    fold(growing, 0, 2)
    assert build_index(folder).pending > 0 and sorted_runs(folder) == 1
    fold(growing, 0, 0, failed=(structure_id(failed.sequence),), run_id="run-2")
    accounting = build_index(folder)
    assert (sorted_runs(folder), accounting.failed) == (2, 1)
    assert_equals_full(folder, tmp_path)
    fold(growing, 0, 1)
    assert build_index(folder).pending == 0
    assert sorted_runs(folder) == 3
    assert_equals_full(folder, tmp_path)


def test_a_new_plan_continues_the_index(growing: Built, tmp_path: Path) -> None:
    """Its records may have structures that an earlier plan folded, and its shards may be folded later."""
    folder = growing.folder
    for shard in range(3):
        fold(growing, 0, shard)
    build_index(folder)
    add_plan(growing, URI_D, 2)
    build_index(folder)
    fold(growing, 1, 1)
    accounting = build_index(folder)
    assert sorted_runs(folder) == 3 and accounting.pending > 0
    assert_equals_full(folder, tmp_path)


def test_the_number_of_runs_is_bounded(growing: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update, "MAX_RUNS", 2)
    found = []
    for shard in range(3):
        fold(growing, 0, shard)
        build_index(growing.folder)
        found.append(sorted_runs(growing.folder))
    assert found == [1, 2, 1]


@pytest.mark.parametrize("change", ["shared", "read again", "older", "retried", "document gone"])
def test_other_changes_build_from_nothing(growing: Built, tmp_path: Path, change: str) -> None:
    folder = growing.folder
    fold(growing, 0, 0)
    fold(growing, 0, 1)
    build_index(folder)
    if change == "shared":
        add_plan(growing, URI_D, 2, (dataclasses.replace(growing.given[0][URI_C][5], offset=99_999),))
        fold(growing, 1, 0)
    elif change == "read again":
        add_plan(growing, URI_C, 2)
    elif change == "older":
        add_plan(growing, URI_D, 0)
    elif change == "retried":
        fold(growing, 0, 1, generation=1, run_id="run-3")
    else:
        folder.entry_path(growing.plans[0].shards[1].name, 0).unlink()
    build_index(folder)
    assert sorted_runs(folder) == 1
    assert rows(folder.index_path)["settings"]
    if change not in ("read again", "older"):  # these plans are not what a planner makes: `verify` has faults
        assert_equals_full(folder, tmp_path)


def test_an_index_without_news_is_built_from_nothing(growing: Built) -> None:
    fold(growing, 0, 0)
    build_index(growing.folder)
    fold(growing, 0, 1)
    build_index(growing.folder)
    assert sorted_runs(growing.folder) == 2
    build_index(growing.folder)
    assert sorted_runs(growing.folder) == 1
    fold(growing, 0, 2)
    build_index(growing.folder, full=True)
    assert sorted_runs(growing.folder) == 1


def test_an_open_index_is_continued(growing: Built, tmp_path: Path) -> None:
    """A process that has the index open with another configuration can bring it up to date."""
    fold(growing, 0, 0)
    build_index(growing.folder)
    fold(growing, 0, 1)
    with Atlas.open(growing.root) as atlas:
        build_index(growing.folder)
        before = atlas.query("SELECT count(*) FROM scores").rows()
    with Atlas.open(growing.root) as atlas:
        assert before < atlas.query("SELECT count(*) FROM scores").rows()
    assert sorted_runs(growing.folder) == 2


def test_fractions_of_low_confidence(indexed: Built) -> None:
    """Against numpy, with boundaries: 50 and 70 are low, NULL is in no fraction."""
    with Atlas.open(indexed.root) as atlas:
        found = atlas.query("SELECT structure_id, fraction_low, fraction_very_low, fraction_confident FROM scores")
        for identity, low, very_low, confident in found.rows():
            plddt = np.rint(indexed.plddt[identity.bytes].astype(np.float64) * 100) / 100
            if plddt.size and confident == np.float32((plddt > 70).mean()):  # the plan that the index takes
                assert low == pytest.approx(((plddt >= 50) & (plddt <= 70)).mean(), abs=1e-6)
                assert very_low == pytest.approx((plddt < 50).mean(), abs=1e-6)
            assert low + very_low + confident == pytest.approx(1, abs=1e-6)


def test_fractions_are_taken_from_the_index_before(copy: Callable[[], Built], monkeypatch: pytest.MonkeyPatch) -> None:
    """Building again reads pLDDT of those files alone that the index before does not have."""
    built = copy()
    build_index(built.folder)
    expected = rows(built.folder.index_path)
    read: list[str] = []
    original = low_confidence._count_local
    monkeypatch.setattr(low_confidence, "_count_local", lambda c, paths: (read.extend(paths), original(c, paths))[1])
    build_index(built.folder)
    assert read == []
    assert rows(built.folder.index_path) == expected


def test_ranges_of_ids_make_the_same_index(copy: Callable[[], Built], monkeypatch: pytest.MonkeyPatch) -> None:
    built = copy()
    build_index(built.folder)
    expected = rows(built.folder.index_path)
    monkeypatch.setattr(ranges, "ROWS_PER_RANGE", 10)
    build_index(built.folder, full=True)
    assert rows(built.folder.index_path) == expected
    with Atlas.open(built.root) as atlas:
        ids = [identity.bytes for (identity,) in atlas.query("SELECT structure_id FROM scores").rows()]
    assert ids == sorted(ids) and len(ids) > 100


def test_ranges_are_all_ids_once() -> None:
    found = ranges.id_ranges(7 * ranges.ROWS_PER_RANGE)
    assert len(found) == 7 and found[0].first.int == 0 and found[-1].last.int == 2**128 - 1
    assert all(one.last.int + 1 == other.first.int for one, other in itertools.pairwise(found))


@pytest.mark.long
def test_older_duckdb_reads_the_index(growing: Built, tmp_path: Path) -> None:
    """DuckDB 1.4 for Python, and the command line, installed in an environment of their own."""
    fold(growing, 0, 0)
    build_index(growing.folder)
    fold(growing, 0, 1)
    build_index(growing.folder)
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    packages = ["duckdb>=1.4,<1.5", "duckdb-cli>=1.4,<2"]
    subprocess.run([str(environment / "bin" / "pip"), "install", "-q", *packages], check=True)
    with Atlas.open(growing.root) as atlas:
        [(expected,)] = atlas.query("SELECT count(*) FROM proteins WHERE fraction_low >= 0").rows()
    sql = "SELECT count(*) FROM proteins WHERE fraction_low >= 0"
    read = f"import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute({sql!r}).fetchall()[0][0])"
    index = str(growing.folder.index_path)
    for command in (["python", "-c", read, index], ["duckdb", "-readonly", "-noheader", "-list", index, sql]):
        program = str(environment / "bin" / command[0])
        done = subprocess.run([program, *command[1:]], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == str(expected)
    assert expected > 0
