"""Files that changed: after any history of edits an atlas shows what a fresh one of the newest file shows."""

import itertools
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.status import status
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.sources.find import SourceWarning
from foldatlas.pipeline.workers import supervisor
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import UsageError

RECORD = '"offset", id, description, length, structure_id, outcome, state'
PROTEIN = "id, description, length, structure_id, mean_plddt, ptm"
SEQUENCES = ["MKTAYIAKQR", "MKLLPWGTSAC", "MAEGHIKLPQRS", "MSTWYACEGHIKL", "MQRSTACEGHLL", "MAAAKKKLLLEEEE"]


class History:
    """An atlas of one file, written and run again and again."""

    def __init__(self, folder: Path, worker: WorkerSpec, costs: CostModel, name: str = "x.faa"):
        folder.mkdir()
        self.file, self.atlas, self.worker, self.costs = folder / name, AtlasFolder(folder / "atlas"), worker, costs

    def plan(self, records: list[tuple[str, str]], **options: Any) -> Planned:
        self.file.write_text("".join(f">{name} made up\n{sequence}\n" for name, sequence in records))
        options = {"max_length": 1280, **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SourceWarning)
            return make_plan([str(self.file)], self.atlas, self.worker.settings, self.costs, **options)

    def run(self, records: list[tuple[str, str]], **options: Any) -> None:
        self.plan(records, **options)
        self.fold()

    def fold(self) -> None:
        fold_atlas(self.atlas, self.worker, show_progress=False)
        build_index(self.atlas)


def rows(folder: AtlasFolder) -> tuple[list[Any], list[Any]]:
    """The present records of an atlas, and its proteins."""
    with duckdb.connect(str(folder.index_path), read_only=True) as connection:
        records = connection.execute(f"SELECT {RECORD} FROM records WHERE NOT superseded ORDER BY ALL").fetchall()
        return records, connection.execute(f"SELECT {PROTEIN} FROM proteins ORDER BY ALL").fetchall()


Record = tuple[str, str]
Edit = tuple[str, int, str]

Edits = st.lists(
    st.tuples(
        st.sampled_from(["append", "insert", "delete", "correct", "reorder", "duplicate", "return", "same"]),
        st.integers(0, 7),
        st.sampled_from(SEQUENCES),
    ),
    min_size=1,
    max_size=5,
)
START = [("a", SEQUENCES[0]), ("b", SEQUENCES[1]), ("c", SEQUENCES[2])]


def edited(versions: list[list[Record]], edit: Edit) -> list[Record]:
    """The next version of a file after `versions`, of which the last is the newest."""
    kind, number, sequence = edit
    records = [*versions[-1]]
    place = number % len(records)
    if kind == "append":
        records.append((f"n{number}", sequence))
    elif kind == "insert":
        records.insert(place, (f"n{number}", sequence))
    elif kind == "delete" and len(records) > 1:
        del records[place]
    elif kind == "correct":
        records[place] = (records[place][0], sequence)
    elif kind == "reorder":
        records = records[place:] + records[:place][::-1]
    elif kind == "duplicate":
        records.insert(number % (len(records) + 1), records[place])
    elif kind == "return":
        records = versions[number % len(versions)]
    return records


class Model:
    """Histories of one file, each row of which a fresh atlas of the file as it is then gives."""

    def __init__(self, folder: Path, worker: WorkerSpec, costs: CostModel):
        self.folder, self.worker, self.costs = folder, worker, costs
        self.fresh: dict[tuple[Record, ...], tuple[list[Any], list[Any]]] = {}
        self.ids: dict[tuple[Record, ...], set[str]] = {}
        self.histories = itertools.count()

    def begun(self) -> History:
        return History(self.folder / f"history{next(self.histories)}", self.worker, self.costs)

    def rows(self, records: list[Record]) -> tuple[list[Any], list[Any]]:
        if tuple(records) not in self.fresh:
            made = self.begun()
            made.run(records, name="x")
            self.fresh[tuple(records)] = rows(made.atlas)
        return self.fresh[tuple(records)]

    def accepted(self, records: list[Record]) -> set[str]:
        """The ids that a plan of a fresh atlas has."""
        if tuple(records) not in self.ids:
            made = self.begun()
            made.plan(records, name="x")
            (file,) = made.atlas.plans()[0].records
            table = pq.read_table(made.atlas.root / file.path)
            self.ids[tuple(records)] = set(table.filter(pc.field("outcome") == "accepted")["id"].to_pylist())
        return self.ids[tuple(records)]

    def follow(self, edits: list[Edit]) -> tuple[History, list[list[Record]]]:
        """An atlas that saw the first version and what each edit gives, and its distinct versions in their order. Every
        other is folded, the others are planned alone."""
        history = self.begun()
        versions: list[list[Record]] = []
        for number, edit in enumerate([None, *edits]):
            records = START if edit is None else edited(versions, edit)
            self.plan(history, versions, records)
            if not versions or records != versions[-1]:
                versions.append(records)
            if number % 2 == 0 or number == len(edits):
                history.fold()
                check(history.atlas, self.rows(records))
        return history, versions

    def plan(self, history: History, versions: list[list[Record]], records: list[Record]) -> None:
        """Without `replace`, but where fewer than half of the earlier ids remain: then that has to be refused."""
        earlier = self.accepted(versions[-1]) if versions else set()
        now = self.accepted(records)
        if 2 * len(earlier & now) >= len(earlier):
            history.plan(records, name="x")
            return
        with pytest.raises(UsageError, match="--replace"):
            history.plan(records, name="x")
        history.plan(records, name="x", replace=True)


def check(atlas: AtlasFolder, expected: tuple[list[Any], list[Any]]) -> None:
    assert rows(atlas) == expected
    assert status(atlas).is_complete
    assert status(atlas).records == len(expected[0])
    found = verify(atlas)
    assert (found.faults, found.notes) == ([], [])


def merged_rows(model: Model, first: list[list[Record]], second: list[list[Record]]) -> tuple[list[Any], list[Any]]:
    """What a merge of two histories shows: the longer one's newest if it goes on where the other ends, else both."""
    short, long = sorted((first, second), key=len)
    if long[: len(short)] == short or long[-1] == short[-1]:
        return model.rows(long[-1])
    one, other = model.rows(short[-1]), model.rows(long[-1])
    return sorted(one[0] + other[0], key=repr), sorted(one[1] + other[1], key=repr)


def follow_and_merge(model: Model, common: list[Edit], first: list[Edit], second: list[Edit]) -> None:
    (one, versions), (other, others) = model.follow(common + first), model.follow(common + second)
    expected = merged_rows(model, versions, others)
    for pair in ((one, other), (other, one)):
        out = AtlasFolder(model.folder / f"merged{next(model.histories)}")
        merge_atlases([history.atlas.root for history in pair], out.root)
        build_index(out)
        found = rows(out)
        assert tuple(sorted(part, key=repr) for part in found) == tuple(sorted(part, key=repr) for part in expected)
        assert status(out).is_complete and verify(out).faults == []


def call_each(name: str, tasks: list[Any], call: Any, engine: Any) -> None:
    for task in tasks:
        call(task)


@pytest.fixture
def model(tmp_path: Path, worker: WorkerSpec, costs: CostModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[Model]:
    """All its atlases are folded by one child, and what an engine runs is called here, one task after another."""
    monkeypatch.setattr("foldatlas.pipeline.engines.dispatch.run", call_each)
    monkeypatch.setattr("foldatlas.pipeline.shards.run.end_children", lambda: None)
    # a measured speed would be part of the specification, and each specification has a child
    monkeypatch.setattr("foldatlas.pipeline.shards.run.deadline_rate", lambda *_: None)
    yield Model(tmp_path, worker, costs)
    assert len(supervisor._children) == 1


_SAME_FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@pytest.mark.slow
@settings(max_examples=2, suppress_health_check=_SAME_FIXTURES)
@given(common=Edits, first=Edits, second=Edits)
def test_a_changed_file_gives_a_fresh_atlas(
    common: list[Edit], first: list[Edit], second: list[Edit], model: Model
) -> None:
    """Two histories with a common beginning: after each run, and merged in both orders."""
    follow_and_merge(model, common[:1], first[:2], second[:1])


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_many_changes_give_a_fresh_atlas(part: int, model: Model) -> None:
    """100 examples, in ten parts, each of its own seed."""

    @seed(part)
    @settings(max_examples=10, suppress_health_check=_SAME_FIXTURES)
    @given(common=Edits, first=Edits, second=Edits)
    def changes(common: list[Edit], first: list[Edit], second: list[Edit]) -> None:
        follow_and_merge(model, common, first, second)

    changes()


def test_a_file_goes_back_and_forth(model: Model) -> None:
    """A -> B -> A -> B -> A, with ids twice and another order in between."""
    back = ("return", 0, "")
    forth = [("correct", 1, SEQUENCES[4]), back, ("duplicate", 1, ""), back, ("reorder", 2, ""), back]
    _, versions = model.follow([*forth])
    assert len(versions) == 7 and versions[0] == versions[2] == versions[-1]


def test_merging_supersedes_only_as_recorded(tmp_path: Path, worker: WorkerSpec, costs: CostModel) -> None:
    """An atlas and a later copy of it give the later one; two that went apart keep both."""
    first, second, third = ([("a", one), ("b", two)] for one, two in itertools.pairwise(SEQUENCES[:4]))
    history = History(tmp_path / "one", worker, costs)
    history.run(first)
    shutil.copytree(history.atlas.root, tmp_path / "old")
    history.run(second)
    shutil.copytree(history.atlas.root, tmp_path / "middle")
    history.run(first)
    for number, pair in enumerate([("old", "one/atlas"), ("one/atlas", "old"), ("middle", "one/atlas")]):
        out = AtlasFolder(tmp_path / f"out{number}")
        merge_atlases([tmp_path / name for name in pair], out.root)
        assert rows(out) == rows(history.atlas)
        assert verify(out).faults == []
    other = AtlasFolder(tmp_path / "old")
    history.atlas, newest = other, history.atlas
    history.run(third)
    for number, pair in enumerate([(other, newest), (newest, other)]):
        out = AtlasFolder(tmp_path / f"apart{number}")
        merge_atlases([one.root for one in pair], out.root)
        assert sorted(rows(out)[0]) == sorted(rows(other)[0] + rows(newest)[0])
        assert verify(out).faults == []
        history.atlas = out
        history.run(third, replace=True)
        assert rows(out) == rows(other)


def test_a_version_that_lacks_most_ids_is_refused(tmp_path: Path, worker: WorkerSpec, costs: CostModel) -> None:
    history = History(tmp_path / "one", worker, costs)
    history.run([("a", SEQUENCES[0]), ("b", SEQUENCES[1])])
    before = history.atlas.plans()
    with pytest.raises(UsageError, match=r"keeps 0 of 2 earlier ids: pass --replace .* --as NAME"):
        history.plan([("c", SEQUENCES[2])])
    assert history.atlas.plans() == before
    history.run([("c", SEQUENCES[2])], name="other")
    assert len(rows(history.atlas)[0]) == 3
    change = history.plan([("a", SEQUENCES[0]), ("z", SEQUENCES[3]), ("y", SEQUENCES[4])]).changes[0]
    assert change.line() == "x.faa changed: 2 records before, 3 now; 2 new, 1 gone"


def test_unneeded_sequences_are_not_folded(tmp_path: Path, worker: WorkerSpec, costs: CostModel) -> None:
    """The remainder of an old version is not folded until a record has its sequence again."""
    history = History(tmp_path / "one", worker, costs)
    history.plan([("a", SEQUENCES[0]), ("b", SEQUENCES[1])])
    history.plan([("a", SEQUENCES[0])])
    assert fold_atlas(history.atlas, worker, show_progress=False).folded == 1
    assert status(history.atlas).is_complete and status(history.atlas).proteins == 1
    history.run([("a", SEQUENCES[0]), ("b", SEQUENCES[1])])
    assert len(rows(history.atlas)[1]) == 2 and verify(history.atlas).faults == []
