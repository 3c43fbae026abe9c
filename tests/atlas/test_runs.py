"""Who made what, from histories that are made up: folding, adding, retrying, repairing."""

from collections.abc import Callable

import pytest
from manifest_entries import made_entry, made_run
from msgspec import structs

from foldatlas.atlas.index.runs import Rows, folded_rows, retried_rows, runs_table
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.manifest import FileEntry, ShardEntry


def entry(generation: int, folded: int, failed: int, files: dict[str, str], *, kept: int = 0) -> ShardEntry:
    """An entry of run r<generation> whose files are of the attempts that `files` names."""
    return made_entry(
        shard="s",
        generation=generation,
        attempt=f"a{generation}",
        folded=folded,
        failed=failed,
        files={table: FileEntry(f"{table}/s.{attempt}.parquet", folded, 1, "") for table, attempt in files.items()},
        run=made_run(run_id=f"r{generation}", seconds=1.0),
        kept=kept,
    )


def needed(structures: str, failures: str, **more: str) -> dict[str, str]:
    return {"structures": structures, "scores": structures, "failures": failures, **more}


FOLDED = entry(0, 5, 4, needed("a0", "a0"))
ADDED = entry(1, 5, 4, needed("a0", "a0", pae="a1"))
RETRIED = entry(2, 7, 2, needed("a2", "a2", pae="a2"), kept=5)
IN_VAIN = entry(3, 7, 2, needed("a2", "a3", pae="a2"))
AGAIN = entry(4, 9, 0, needed("a4", "a4", pae="a4"), kept=7)
REPAIRED = entry(5, 9, 0, needed("a5", "a5", pae="a5"))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        ([FOLDED], [Rows(0, 0, 5)]),
        ([FOLDED, ADDED], [Rows(0, 0, 5)]),
        ([FOLDED, ADDED, RETRIED], [Rows(0, 0, 5), Rows(2, 5, 7)]),
        ([FOLDED, ADDED, RETRIED, IN_VAIN], [Rows(0, 0, 5), Rows(2, 5, 7)]),
        ([FOLDED, ADDED, RETRIED, IN_VAIN, AGAIN], [Rows(0, 0, 5), Rows(2, 5, 7), Rows(4, 7, 9)]),
        ([FOLDED, ADDED, RETRIED, IN_VAIN, AGAIN, REPAIRED], [Rows(5, 0, 9)]),
        ([entry(0, 0, 9, needed("a0", "a0")), entry(1, 9, 0, needed("a1", "a1"))], [Rows(1, 0, 9)]),
        ([entry(0, 0, 9, needed("a0", "a0"))], []),
    ],
)
def test_structures_belong_to_who_folded_them(history: list[ShardEntry], expected: list[Rows]) -> None:
    assert folded_rows(history) == expected


def test_run_is_credited_with_rows_that_still_count() -> None:
    history = [FOLDED, ADDED, RETRIED, IN_VAIN]
    rows = runs_table([history]).to_pylist()
    assert [(row["folded"], row["failed"], row["added"], row["residues"]) for row in rows] == [
        (5, 0, 0, 10),
        (0, 0, 5, 0),
        (2, 0, 0, 10),
        (0, 2, 0, 0),
    ]
    assert [row["computed"] for row in rows] == [10] * 4
    # of the file that r2 wrote, the first five rows are of r0
    assert retried_rows([history]) == [{"shard": "s", "first_row": 0, "end_row": 5, "run_id": "r0"}]
    assert retried_rows([[FOLDED], [FOLDED, ADDED]]) == []


@pytest.mark.parametrize(("generation", "kept"), [(1, 1), (1, -1), (0, 1)])
def test_verify_finds_an_entry_that_keeps_what_was_not_there(copy: Callable, generation: int, kept: int) -> None:
    built = copy()
    name, first = next(iter(built.folder.entries().items()))
    if generation == 0:
        built.folder.entry_path(name, 0).unlink()
    more = first.folded + kept if kept > 0 else kept
    wrong = structs.replace(first, generation=generation, kept=more if generation else kept)
    assert built.folder.commit_entry(wrong)
    (fault,) = verify(built.folder, deep=False).faults
    assert fault.where == f"manifest/{name}.{generation}.json" and f"keeps {wrong.kept} structures" in fault.what
