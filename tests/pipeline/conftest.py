"""What pipeline tests share: a cost model, proteins, and a worker that needs no network."""

import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.folding.models import settings_of
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import Planned, make_plan
from foldatlas.pipeline.sources.pipes import Spool
from foldatlas.pipeline.workers.supervisor import WorkerSpec, end_children
from foldatlas.schemas.records import STANDARD_RESIDUES

FAKE_CHILD = (sys.executable, "-P", str(Path(__file__).with_name("fake_child.py")))


@pytest.fixture
def worker() -> Iterator[WorkerSpec]:
    """A worker whose child is tests/pipeline/fake_child.py."""
    yield WorkerSpec("nano", settings_of("nano"), "cpu", command=FAKE_CHILD, min_deadline_seconds=20.0)
    end_children()


@pytest.fixture
def costs() -> CostModel:
    return CostModel(lambda length: length * length + 1, 1e6, 34.0, 80.0)


@pytest.fixture
def folder(tmp_path: Path) -> AtlasFolder:
    return AtlasFolder(tmp_path / "atlas")


@pytest.fixture
def plan(folder: AtlasFolder, costs: CostModel) -> Callable[..., Planned]:
    """Plan sources into `folder`, for nano, with the options of make_plan."""

    def make(*sources: object, max_length: int = 1280, **options: Any) -> Planned:
        with Spool(folder) as spool:
            return make_plan(
                [str(source) for source in sources], folder, settings_of("nano"), costs,
                max_length=max_length, spool=spool, **options,
            )  # fmt: skip

    return make


@pytest.fixture
def planned(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel, write_fasta: Callable[..., str]
) -> Callable[..., AtlasFolder]:
    """Plan sequences into an atlas of their own, for `worker`. Not folded."""

    def make(sequences: list[str], name: str | Path = "atlas") -> AtlasFolder:
        folder = AtlasFolder(tmp_path / name)
        make_plan([write_fasta(sequences, "proteins.fasta")], folder, worker.settings, costs, max_length=1280)
        return folder

    return make


@pytest.fixture
def proteins() -> list[str]:
    """60 distinct sequences of 40 to 120 residues, none of them poison."""
    letters = random.Random(7)
    harmless = STANDARD_RESIDUES.replace("D", "").replace("N", "").replace("F", "").replace("V", "")
    return ["M" + "".join(letters.choices(harmless, k=letters.randint(39, 119))) for _ in range(60)]


@pytest.fixture
def write_fasta(tmp_path: Path) -> Callable[..., str]:
    def write(sequences: list[str], name: str = "in.fasta") -> str:
        path = tmp_path / name
        path.write_text("".join(f">p{number} protein\n{text}\n" for number, text in enumerate(sequences)))
        return str(path)

    return write
