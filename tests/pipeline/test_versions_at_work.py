"""Files that changed, where the work is shared, on a store, limited or tried again."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.export.subset import export
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.status import status
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.planning.selection import Part
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.sources.find import SourceWarning
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import UsageError

A, B, C, LONG = "MKTAYIAKQR", "MKLLPWGTSAC", "MAEGHIKLPQRS", "M" + "AKLE" * 10
POISON = "MAFAILKKKL"

pytestmark = pytest.mark.slow  # its tests together


class Reader:
    """Plans and folds one file into `atlas`."""

    def __init__(self, file: Path, atlas: AtlasFolder, worker: WorkerSpec, costs: CostModel):
        self.file, self.atlas, self.worker, self.costs = file, atlas, worker, costs

    def plan(self, *sequences: str, **options: Any) -> Planned:
        """Read a file of records p0, p1 ... of these sequences; an empty one is left out, with its number."""
        self.file.write_text("".join(f">p{number}\n{text}\n" for number, text in enumerate(sequences) if text))
        options = {"max_length": 1280, **options}
        return make_plan([str(self.file)], self.atlas, self.worker.settings, self.costs, **options)

    def fold(self, **options: Any) -> int:
        folded = fold_atlas(self.atlas, self.worker, show_progress=False, **options).folded
        build_index(self.atlas)
        return folded

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with Atlas.open(self.atlas.uri) as atlas:
            return atlas.query(sql).rows()

    def check(self, *ids: str) -> None:
        """The present records have these ids and are folded; everything is done and no fault is found."""
        assert [row for (row,) in self.query("SELECT id FROM proteins ORDER BY id")] == list(ids)
        assert status(self.atlas).is_complete and status(self.atlas).records == len(ids)
        found = verify(self.atlas)
        assert (found.faults, found.notes) == ([], [])


@pytest.fixture
def reader(tmp_path: Path, worker: WorkerSpec, costs: CostModel) -> Reader:
    return Reader(tmp_path / "x.faa", AtlasFolder(tmp_path / "atlas"), worker, costs)


def test_versions_on_a_store(
    s3: Any, tmp_path: Path, worker: WorkerSpec, costs: CostModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    reader = Reader(tmp_path / "x.faa", AtlasFolder(f"s3://atlases/{tmp_path.name}"), worker, costs)
    reader.plan(A, B)
    reader.fold()
    assert [change.line() for change in reader.plan(A, "", C).changes] == [
        "x.faa changed: 2 records before, 2 now; 1 new, 1 gone"
    ]
    assert reader.fold() == 1
    reader.check("p0", "p2")
    assert reader.query("SELECT count(*) FROM records WHERE superseded") == [(2,)]


def test_versions_of_two_drivers_both_stay(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both read what changed before either had committed its plan. The next version supersedes both."""
    reader.plan(A, B)
    before = reader.atlas.plans()
    reader.plan(A, B, C)
    with monkeypatch.context() as patch:
        first = True
        plans = AtlasFolder.plans

        def as_it_was(folder: AtlasFolder) -> Any:
            nonlocal first
            found, first = (before if first else plans(folder)), False
            return found

        patch.setattr(AtlasFolder, "plans", as_it_was)
        with pytest.warns(SourceWarning, match=r"several current versions .* pass --replace"):
            reader.plan(A, B, LONG)
    reader.fold()
    reader.check("p0", "p0", "p1", "p1", "p2", "p2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reader.plan(A, B)
    assert reader.fold() == 0
    reader.check("p0", "p1")


def test_a_wider_limit_together_with_a_change(reader: Reader) -> None:
    reader.plan(A, LONG, max_length=20)
    reader.fold()
    reader.plan(A, LONG, B, max_length=100)
    assert reader.fold() == 2
    reader.check("p0", "p1", "p2")
    # the same version under a narrower limit is known, and under a wider one is the same version
    assert reader.plan(A, LONG, B, max_length=30).plan is None
    assert reader.plan(A, LONG, B, max_length=200).changes == ()
    assert reader.fold() == 0
    reader.check("p0", "p1", "p2")


def test_parts_of_which_nothing_is_needed(reader: Reader) -> None:
    """The parts of an old version fold what the new one still has; together all that is needed is done."""
    reader.plan(A, B, C, LONG)
    old = reader.atlas.plans()
    reader.plan(A, "", C, LONG)
    folded = 0
    for number in (1, 2, 3):
        mine = {shard.name for shard in Part(number, 3).of(old)}
        folded += reader.fold(shards=mine)
    assert folded == 3
    reader.check("p0", "p2", "p3")


def test_failures_that_left_are_not_tried_again(
    reader: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_CHILD_LOG", str(tmp_path / "log"))
    reader.plan(A, B, POISON)
    reader.fold()
    assert reader.query("SELECT attempts FROM failures") != []
    reader.plan(A, B)
    (tmp_path / "log").unlink()
    assert reader.fold(retry_failed=True) == 0
    assert not (tmp_path / "log").exists()
    assert reader.query("SELECT * FROM failures") == []
    reader.check("p0", "p1")
    reader.plan(A, B, POISON)
    reader.fold(retry_failed=True)
    assert POISON in (tmp_path / "log").read_text()
    assert len(reader.query("SELECT * FROM failures")) == 1


def test_a_sequence_returns_to_a_partly_skipped_shard(reader: Reader, proteins: list[str]) -> None:
    reader.costs = CostModel(lambda length: 1, 0.05, 0.0, 0.0)
    plan = reader.plan(*proteins).plan
    assert plan is not None and min(shard.proteins for shard in plan.shards[:1]) > 1
    ids = sorted(f"p{number}" for number in range(len(proteins)))
    reader.plan("", *proteins[1:])
    assert reader.fold() == len(proteins) - 1
    skipped = [entry for entry in reader.atlas.entries().values() if entry.skipped]
    assert [(entry.skipped, entry.format, entry.generation) for entry in skipped] == [(1, 2, 0)]
    reader.check(*ids[1:])
    reader.plan(*proteins)
    assert reader.fold() == 1
    reader.check(*ids)
    again = reader.atlas.entries()[skipped[0].shard]
    assert (again.skipped, again.generation) == (0, 1)


def test_records_that_left_are_not_found_or_exported(reader: Reader, tmp_path: Path) -> None:
    reader.plan(A, B)
    reader.fold()
    reader.plan(A, "", C)
    reader.fold()
    with Atlas.open(reader.atlas.uri) as atlas:
        assert atlas.structure("p0").sequence == A
        with pytest.raises(UsageError, match="no record has this id"):
            atlas.structure("p1")
    names = tmp_path / "ids"
    names.write_text("p0\np1\np2\n")
    export(reader.atlas.root, tmp_path / "out", format="fasta", ids=names)
    assert (tmp_path / "out" / "missing.tsv").read_text().splitlines()[1:] == ["p1\tunknown\tno record has this id\t"]


def test_the_same_bytes_under_another_path(reader: Reader, tmp_path: Path) -> None:
    reader.plan(A, B)
    reader.file = tmp_path / "y.faa"
    with pytest.warns(SourceWarning, match=r"y\.faa has the same bytes as .*x\.faa"):
        reader.plan(A, B)
    reader.fold()
    reader.check("p0", "p0", "p1", "p1")
    assert len(lineage_of(reader.atlas.plans()).heads) == 2
    assert not any(json.loads(path.read_text())["format"] > 1 for path in (reader.atlas.root / "plans").iterdir())
