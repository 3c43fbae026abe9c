"""Atlases made before lineage was recorded: `atlas-of-format-1` was made by the program of commit 1d2b666.

Two versions of /reads/x.faa were folded with `nano`, the second with one sequence corrected and one added. The
index and one shard of the second plan were left out of what is kept.
"""

import shutil
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.status import status
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.sources.find import SourceWarning
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.formats import PROVENANCE, tables_of

KEPT = Path(__file__).with_name("atlas-of-format-1")
URI = "file:///reads/x.faa"
FIRST = {"p1": "MKTAYIAKQR", "p2": "MKLLPWGTSAC", "p3": "MAEGHIKLPQRS", "p4": "MSTWYACEGHIKL"}
SECOND = {**FIRST, "p2": "MKLLPWGTSACD", "p5": "MQRSTACEGHLL"}
THIRD = {**SECOND, "p5": "MQRSTACEGHLLA"}


@pytest.fixture
def old(tmp_path: Path) -> AtlasFolder:
    return AtlasFolder(shutil.copytree(KEPT, tmp_path / "old"))


def counts(folder: AtlasFolder) -> tuple[int, int]:
    """Present and superseded records."""
    build_index(folder)
    with duckdb.connect(str(folder.index_path), read_only=True) as connection:
        [both] = connection.execute(
            "SELECT count(*) FILTER (NOT superseded), count(*) FILTER (superseded) FROM records"
        ).fetchall()
    return both  # type: ignore[no-any-return]


def is_of_format_1(folder: AtlasFolder) -> bool:
    """Whether the header and every table of plans and shards are of format 1."""
    tables = {path for path in folder.root.rglob("*.parquet") if path.parent.name in tables_of(1)}
    formats = {pq.read_schema(path).metadata[b"foldatlas.format"] for path in tables}
    named = {path.parent.name for path in folder.root.rglob("*.parquet")}
    return folder.header().format == 1 and formats == {b"1"} and PROVENANCE not in named


def read(
    folder: AtlasFolder, records: dict[str, str], worker: WorkerSpec, costs: CostModel, **options: bool
) -> Planned:
    """Plan the file of the kept atlas as it would be with these records."""
    file = folder.root.parent / "x.faa"
    file.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))
    return make_plan([str(file)], folder, worker.settings, costs, max_length=1280, name=URI, **options)


def test_an_old_atlas_opens_and_resumes(old: AtlasFolder, worker: WorkerSpec) -> None:
    assert counts(old) == (9, 0)
    assert verify(old).faults == [] and not status(old).is_complete
    documents = {path: path.read_bytes() for path in old.root.rglob("*.json")}
    assert fold_atlas(old, worker, show_progress=False).folded == 1
    assert counts(old) == (9, 0)
    assert verify(old).faults == [] and status(old).is_complete
    assert {path: path.read_bytes() for path in documents} == documents
    assert {plan.format for plan in old.plans()} == {1} == {entry.format for entry in old.entries().values()}
    assert is_of_format_1(old)
    with duckdb.connect(str(old.index_path), read_only=True) as connection:
        basis = connection.execute("SELECT DISTINCT confidence_basis, model FROM proteins").fetchall()
    assert basis == [("plddt_and_ptm", old.header().settings.model)]


def test_an_old_atlas_merges(old: AtlasFolder, tmp_path: Path, worker: WorkerSpec, costs: CostModel) -> None:
    other = AtlasFolder(tmp_path / "other")
    read(other, FIRST, worker, costs)
    fold_atlas(other, worker, show_progress=False)
    for number, pair in enumerate([(old, other), (other, old)]):
        out = AtlasFolder(tmp_path / f"out{number}")
        merge_atlases([one.root for one in pair], out.root)
        assert counts(out) == (9, 0)  # the same bytes of the same source count once
        assert verify(out).faults == []
        assert {plan.format for plan in out.plans()} == {1} and is_of_format_1(out)


@pytest.mark.parametrize("records", [FIRST, SECOND], ids=["first", "second"])
def test_reading_an_old_version_changes_nothing(
    old: AtlasFolder, worker: WorkerSpec, costs: CostModel, records: dict[str, str]
) -> None:
    with pytest.warns(SourceWarning, match=r"several current versions .* pass --replace"):
        assert read(old, records, worker, costs).plan is None
    assert counts(old) == (9, 0)


def test_old_versions_stay_until_replace(old: AtlasFolder, worker: WorkerSpec, costs: CostModel) -> None:
    """New versions supersede each other, and never the two of before; `--replace` supersedes all."""
    for records in (THIRD, {**THIRD, "p6": "MAAAKKKLLLEEEE"}):
        with pytest.warns(SourceWarning, match=r"several current versions .* pass --replace"):
            assert read(old, records, worker, costs).plan is not None
        present = {head.source.records for head in lineage_of(old.plans()).heads[URI]}
        assert present == {4, 5, len(records)}
    fold_atlas(old, worker, show_progress=False)
    assert counts(old) == (4 + 5 + 6, 5) and is_of_format_1(old)
    read(old, SECOND, worker, costs, replace=True)
    fold_atlas(old, worker, show_progress=False)
    # those of the second version count again, and once
    assert counts(old) == (5, 4 + 5 + 6)
    assert verify(old).faults == [] and status(old).is_complete


def test_one_old_version_is_superseded(tmp_path: Path, old: AtlasFolder, worker: WorkerSpec, costs: CostModel) -> None:
    second = next(plan for plan in old.plans() if plan.sources[0].records == 5)
    (old.root / "plans" / f"{second.name}.json").unlink()
    for path in (old.root / "manifest").glob(f"{second.name}-*"):
        path.unlink()
    planned = read(old, SECOND, worker, costs)
    assert [change.line() for change in planned.changes] == ["x.faa changed: 4 records before, 5 now; 1 new, 0 gone"]
    assert planned.plan is not None and planned.plan.format == 2
    assert counts(old) == (5, 4)
