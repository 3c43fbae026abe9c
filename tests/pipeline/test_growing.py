"""An atlas that grows: only new sequences fold, and every record of every file is accounted for."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards.run import FoldReport, fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.records import Outcome

# What the fake child of conftest.py folds, and what it does not.
FIRST = ">a\nMKLLLG\n>b\nMKLLLA\n>poison\nMNANLL\n>a\nMKLLLG\n>gap\nMK-L\n>long\n" + "MKLG" * 30 + "\n"
SECOND = ">a\nMKLLLA\n>c\nMKLLLW\n>same\nMNANLL\n>worse\nMFAILL\n>digit\nMK1\n>c\nMKLLLT\n"


@pytest.fixture
def grow(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel
) -> Callable[..., tuple[AtlasFolder, FoldReport, Accounting]]:
    def grow(name: str, text: str, max_length: int = 100) -> tuple[AtlasFolder, FoldReport, Accounting]:
        (tmp_path / name).write_text(text)
        folder = AtlasFolder(tmp_path / "atlas")
        make_plan([str(tmp_path / name)], folder, worker.settings, costs, max_length=max_length)
        report = fold_atlas(folder, worker, show_progress=False)
        accounting = build_index(folder)
        found = verify(folder)
        assert (found.faults, found.notes) == ([], [])
        return folder, report, accounting

    return grow


def states(folder: AtlasFolder) -> dict[tuple[str, str], list[str]]:
    """State of every record by (file, id), from the index."""
    found: dict[tuple[str, str], list[str]] = {}
    with Atlas.open(folder.root) as atlas:
        sql = 'select parse_filename(source), id, state from records order by source, "offset"'
        for file, identity, state in atlas.query(sql).rows():
            found.setdefault((str(file), str(identity)), []).append(str(state))
    return found


def folded_sequences(folder: AtlasFolder) -> list[str]:
    return sorted(
        sequence
        for entry in folder.entries().values()
        for sequence in pq.read_table(folder.root / entry.files["structures"].path)["sequence"].to_pylist()
    )


def test_records_of_all_plans_are_accounted_for(
    grow: Callable[..., tuple[AtlasFolder, FoldReport, Accounting]],
) -> None:
    folder, report, accounting = grow("1.fasta", FIRST)
    assert (report.folded, report.failed) == (2, 1)
    assert accounting == Accounting(folded=2, failed=1, repeated=1, refused={Outcome.GAP: 1, Outcome.TOO_LONG: 1})
    assert accounting.records == FIRST.count(">")
    before = folder.entries()

    folder, report, accounting = grow("2.fasta", SECOND)
    assert (report.folded, report.failed) == (1, 1)  # c and worse; MNANLL failed before and is not tried again
    assert {name: folder.entries()[name] for name in before} == before
    assert folded_sequences(folder) == sorted(["MKLLLG", "MKLLLA", "MKLLLW"])
    assert accounting.records == FIRST.count(">") + SECOND.count(">")
    assert (accounting.folded, accounting.failed, accounting.repeated, accounting.pending) == (4, 3, 1, 0)
    assert states(folder) == {
        ("1.fasta", "a"): ["folded", "repeated"],
        ("1.fasta", "b"): ["folded"],
        ("1.fasta", "poison"): ["failed"],
        ("1.fasta", "gap"): ["refused"],
        ("1.fasta", "long"): ["refused"],
        ("2.fasta", "a"): ["folded"],  # another protein than a of the first file, folded there as b
        ("2.fasta", "c"): ["folded", "refused"],
        ("2.fasta", "same"): ["failed"],
        ("2.fasta", "worse"): ["failed"],
        ("2.fasta", "digit"): ["refused"],
    }

    # the same files again under a wider limit: what was too long is taken up, and nothing counts twice
    folder, report, accounting = grow("1.fasta", FIRST, max_length=200)
    assert (report.folded, report.failed) == (1, 0)
    assert accounting.records == FIRST.count(">") + SECOND.count(">")
    assert states(folder)["1.fasta", "long"] == ["folded"]
    folder, report, accounting = grow("1.fasta", FIRST, max_length=150)
    assert report.shards == 0 and len(folder.plans()) == 3


def test_only_new_sequences_of_a_file_that_grew_are_folded(
    grow: Callable[..., tuple[AtlasFolder, FoldReport, Accounting]], proteins: list[str]
) -> None:
    text = [f">p{number}\n{sequence}\n" for number, sequence in enumerate(proteins)]
    grow("1.fasta", "".join(text[:20]), 1280)
    folder, report, accounting = grow("2.fasta", "".join(text[10:]), 1280)
    assert report.folded == 40 and folded_sequences(folder) == sorted(proteins)
    assert accounting == Accounting(folded=70)
