"""Files that changed: after any history of edits an atlas shows what a fresh one of the newest file shows."""

import itertools
import shutil
import warnings
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.status import status
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, SourceWarning, make_plan
from foldatlas.pipeline.shards.run import fold_atlas
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


Records = st.lists(st.tuples(st.sampled_from(["a", "b", "c", "d"]), st.sampled_from(SEQUENCES)), min_size=1, max_size=5)
Edits = st.lists(st.tuples(Records, st.booleans()), min_size=1, max_size=4)


def fresh(tmp: Path, number: str, worker: WorkerSpec, costs: CostModel, records: list[Any]) -> AtlasFolder:
    made = History(tmp / number, worker, costs)
    made.run(records)
    return made.atlas


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(edits=Edits)
def test_present_records_are_a_fresh_atlas(
    edits: list[Any], tmp_path_factory: pytest.TempPathFactory, worker: WorkerSpec, costs: CostModel
) -> None:
    """Some versions are planned and not folded before the next; the last is folded. Then the first version returns."""
    tmp = tmp_path_factory.mktemp("history")
    history = History(tmp / "one", worker, costs)
    versions = [*edits, (edits[0][0], True), (edits[-1][0], True), (edits[0][0], True)]
    for number, (records, is_folded) in enumerate(versions):
        history.plan(records, replace=True)
        if not is_folded:
            continue
        history.fold()
        assert rows(history.atlas) == rows(fresh(tmp, f"fresh{number}", worker, costs, records))
        assert status(history.atlas).is_complete
        found = verify(history.atlas)
        assert (found.faults, found.notes) == ([], [])


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
