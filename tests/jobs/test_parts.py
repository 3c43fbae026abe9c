"""One plan folded in parts, as a person runs them: at once on one atlas, or on two machines and merged."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foldatlas.atlas.folder import AtlasFolder

Run = Callable[..., subprocess.CompletedProcess[str]]
Tables = Callable[[Path], dict[str, list[tuple[object, ...]]]]
DONE = "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"

pytestmark = pytest.mark.usefixtures("one_child")


@pytest.mark.slow
def test_parts_of_two_machines_merge_to_the_whole_and_grow(
    run: Run, tables: Tables, tmp_path: Path, short_proteins: str, whole: Path
) -> None:
    planned, first, second, merged = (tmp_path / name for name in ("planned", "first", "second", "merged"))
    assert run("plan", short_proteins, planned, "--model", "nano").returncode == 0
    for machine in (first, second):
        shutil.copytree(planned, machine)
    fold = ("--model", "nano", "--part")
    for number, machine in enumerate((first, second), start=1):
        part = run("fold", short_proteins, machine, *fold, f"{number}/2")
        assert part.returncode == 0, part.stderr
        mine, left = 3 if number == 1 else 5, 5 if number == 1 else 3  # two large ones and a fine one cost half
        assert f"part done: {mine} of 8 shards, 12 structures folded, 0 failed; {left} shards of" in part.stdout
        assert not (machine / "atlas.duckdb").exists()

    half = run("merge", first, planned, merged)
    assert half.returncode == 0, half.stderr
    assert "still to fold" in half.stdout and "parts are missing" in half.stderr
    shutil.rmtree(merged)
    both = run("merge", second, first, merged, "--check")
    assert (both.returncode, both.stdout) == (0, DONE), both.stderr
    assert tables(merged) == tables(whole)
    assert run("verify", merged).returncode == 0

    # an atlas made of parts grows as any other does: in it are all but one of these
    text = Path(short_proteins).read_text()
    more = tmp_path / "more.fasta"
    more.write_text(text + ">new\nMKVLAAGIVGLLLAQWERTY\n>bad\nMK1\n")
    grown = run("fold", more, merged, "--model", "nano")
    assert grown.stdout == "50 records: 49 folded, 0 repeated, 1 refused (1 digit), 0 failed\n", grown.stderr
    assert "to fold: 1 new sequence" in grown.stderr and "folded 1 structure in" in grown.stderr
    assert run("verify", merged).returncode == 0

    outside = run("fold", short_proteins, merged, "--model", "nano", "--shards", "0-8")
    assert outside.returncode == 2 and "has shards 0 to 7" in outside.stderr
    assert "several" not in outside.stderr and "Traceback" not in outside.stderr
    several = run("fold", short_proteins, more, merged, "--model", "nano", "--shards", "0")
    assert several.returncode == 2 and "--part" in several.stderr


def test_outputs_are_added_in_parts(run: Run, tmp_path: Path, whole: Path, short_proteins: str) -> None:
    atlas = shutil.copytree(whole, tmp_path / "atlas")
    add = ("fold", short_proteins, atlas, "--model", "nano", "--pae", "--add-outputs", "--part")
    first = run(*add, "1/2")
    assert "3 of 8 shards" in first.stdout and "5 shards of the atlas still to fold" in first.stdout, first.stderr
    second = run(*add, "2/2")
    assert (second.returncode, second.stdout) == (0, DONE), second.stderr
    assert run("verify", atlas).returncode == 0


def test_tasks_of_an_array_that_start_at_once_make_one_plan(
    tables: Tables, tmp_path: Path, short_proteins: str, whole: Path, run: Run
) -> None:
    atlas = tmp_path / "array"
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "fold", short_proteins, str(atlas), "--model", "nano"]
    tasks = [
        subprocess.Popen(
            [*command, *share], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for share in (["--shards", "0-2"], ["--shards", "3,5-7"], ["--shards", "4"])
    ]
    answers = [(*task.communicate(timeout=300), task.returncode) for task in tasks]
    assert [code for _, _, code in answers] == [0, 0, 0], answers
    assert any(output == DONE for output, _, _ in answers)  # the last one to end has built the index
    (plan,) = AtlasFolder(atlas).plans()
    makers = {entry.shard: entry.run.run_id for entry in AtlasFolder(atlas).entries().values()}
    runs = [{makers[plan.shards[number].name] for number in numbers} for numbers in ([0, 1, 2], [3, 5, 6, 7], [4])]
    assert all(len(found) == 1 for found in runs) and len(set.union(*runs)) == 3  # each its own shards
    assert tables(atlas) == tables(whole)
    assert run("verify", atlas).returncode == 0
    listed = {file.path for file in (*plan.records, *plan.sequences)}
    found = {str(path.relative_to(atlas)) for kind in ("records", "sequences") for path in (atlas / kind).iterdir()}
    assert found == listed  # nothing is left of the plans that came second
