"""What tests of the commands share: real proteins, the real model, and a way to compare whole atlases."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import Done, in_own_process, in_this_process
from shared import made_once

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.reader import Atlas
from foldatlas.pipeline.importing import run as importing
from foldatlas.pipeline.importing.reader import end_reader
from foldatlas.pipeline.shards import run as folding
from foldatlas.pipeline.workers.supervisor import end_children
from foldatlas.schemas.records import STANDARD_RESIDUES

EXAMPLE = Path(__file__).parents[2] / "examples" / "gut.fasta"
Rows = list[tuple[object, ...]]

# What may differ between two atlases of the same proteins: who folded when, and in which file a structure stands.
ELSEWHERE = {
    "run_id", "started", "seconds", "residues_per_second", "structure_file", "structure_row", "structure_row_group",
    "path", "sha256", "plan", "shard", "created", "indexed", "contents", "bytes", "runs",
}  # fmt: skip


def contents(atlas: Path) -> dict[str, Rows]:
    """Every table of an atlas as sorted rows, ids of runs, timings and places aside."""
    tables: dict[str, Rows] = {}
    with Atlas.open(atlas) as opened:
        assert not opened.is_stale
        names = [name for (name,) in opened.query("select table_name from duckdb_tables() where not temporary").rows()]
        for name in [*names, "proteins"]:
            if name in ("files", "copies"):
                continue
            result = opened.query(f"select * from {name}")
            kept = [place for place, column in enumerate(result.columns) if column not in ELSEWHERE]
            tables[name] = [tuple(row[place] for place in kept) for row in result.rows()]
        # How many runs it took is no part of what was made; what they did together is.
        tables["runs"] = opened.query("select sum(folded), sum(residues), sum(added) > 0 from runs").rows()
    folder = AtlasFolder(atlas)
    for table in ("structures", "embeddings", "failures"):
        tables[f"{table}.parquet"] = [
            tuple(str(value) for value in row.values())
            for entry in folder.entries().values()
            if table in entry.files
            for row in pq.read_table(folder.root / entry.files[table].path).to_pylist()
        ]
    return {name: sorted(rows, key=repr) for name, rows in tables.items()}


@pytest.fixture(scope="module")
def one_reader() -> Iterator[None]:
    """Let all imports of a module use one process that reads files: half a second less each."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(importing, "end_reader", lambda: None)
        yield
    end_reader()


@pytest.fixture(scope="module")
def one_child() -> Iterator[None]:
    """Let all folds of a module that run in this process use one child, which loads torch and the model once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(folding, "end_children", lambda: None)
        yield
    end_children()


@pytest.fixture(scope="session")
def short_proteins(tmp_path_factory: pytest.TempPathFactory) -> str:
    """FASTA of 24 proteins of 30 to 70 residues: some seconds for nano on one core."""

    def write(folder: Path) -> None:
        letters = random.Random(3)
        with (folder / "short.fasta").open("w") as file:
            for number in range(24):
                text = "M" + "".join(letters.choices(STANDARD_RESIDUES, k=29 + letters.randrange(41)))
                file.write(f">p{number} of 24\n{text}\n")

    return str(made_once(tmp_path_factory, "short", write) / "short.fasta")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, short_proteins: str) -> Path:
    """The atlas of `short_proteins` as an undisturbed run makes it, for all tests that compare with it."""

    def fold(folder: Path) -> None:
        done = in_own_process("fold", short_proteins, folder / "atlas", "--model", "nano")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "24 records: 24 folded, 0 repeated, 0 refused, 0 failed\n"

    return made_once(tmp_path_factory, "whole", fold) / "atlas"


@pytest.fixture(scope="session")
def gut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The atlas of examples/gut.fasta, with embeddings, folded once for all tests that read it."""

    def fold(folder: Path) -> None:
        done = in_own_process("fold", EXAMPLE, folder / "atlas", "--model", "nano", "--embeddings", "mean")
        assert done.returncode == 0, done.stderr
        assert done.stdout == "60 records: 60 folded, 0 repeated, 0 refused, 0 failed\n"

    return made_once(tmp_path_factory, "gut", fold) / "atlas"


@pytest.fixture
def run() -> Callable[..., Done]:
    """The command, in this process."""
    return in_this_process


@pytest.fixture
def run_process() -> Callable[..., Done]:
    """The command, in a process of its own."""
    return in_own_process


@pytest.fixture
def tables() -> Callable[[Path], dict[str, Rows]]:
    return contents
