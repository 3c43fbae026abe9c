"""Fixtures: synthetic atlases (helpers/built_atlas.py)."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from built_atlas import SETTINGS, URI_A, Built, Record, build, draw, write_plan, write_shard

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.schemas.records import num_atoms, structure_id


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The atlas without an index. Read only: copy it to change it."""
    return build(tmp_path_factory.mktemp("synthetic") / "atlas")


@pytest.fixture(scope="session")
def indexed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The same with an index, in a folder whose name looks like a pattern. Read only."""
    root = tmp_path_factory.mktemp("indexed") / "at[l]as*"
    shutil.copytree(built.root, root)
    build_index(AtlasFolder(root))
    return dataclasses.replace(built, folder=AtlasFolder(root))


@pytest.fixture(scope="session")
def extremes(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """An atlas of proteins that writers stumble over: one residue, unknown residues, 1,200 residues. Read only."""
    generator = np.random.default_rng(8)
    folder = AtlasFolder(tmp_path_factory.mktemp("extremes") / "atlas")
    folder.create(SETTINGS)
    built = Built(folder)
    sequences = {
        "one": "M",
        "one_unknown": "X",
        "unknown": "XXXMKVXBZUOJXXLLXWXX" * 3,
        "long": draw(generator, 1_200),
    }
    given = [Record(name, sequence, offset=2000 * n) for n, (name, sequence) in enumerate(sequences.items())]
    built.plans = [write_plan(folder, {URI_A: given}, 1_280, 60, "2026-11-01T09:00:00.000+00:00")]
    write_shard(built, built.plans[0], 0, generator)
    build_index(folder)
    return built


@pytest.fixture
def copy(built: Built, tmp_path: Path) -> Callable[[], Built]:
    """Makes a copy of the atlas that a test may damage."""

    def make() -> Built:
        root = tmp_path / f"copy-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(built.root, root)
        return dataclasses.replace(built, folder=AtlasFolder(root))

    return make


@pytest.fixture
def atlas_of(tmp_path: Path) -> Callable[..., AtlasFolder]:
    """Makes an atlas of one file in one shard, at tmp_path / name."""

    def make(
        name: str, proteins: dict[str, str], created: str, *, embeddings: bool = False, folded: bool = True
    ) -> AtlasFolder:
        folder = AtlasFolder(tmp_path / name)
        folder.create(SETTINGS)
        given = [Record(id, sequence, offset=100 * n) for n, (id, sequence) in enumerate(proteins.items())]
        plan = write_plan(folder, {f"file:///data/{name}.fasta": given}, 1280, 60, f"{created}T09:00:00.000+00:00")
        if folded:
            generator = np.random.default_rng(sum(name.encode()))
            write_shard(Built(folder), plan, 0, generator, embeddings=embeddings, run_id=f"run-{name}")
        return folder

    return make


@pytest.fixture(scope="session")
def made() -> Callable[..., StoredStructure]:
    """Makes a structure of a sequence with random coordinates and pLDDT, as an atlas stores them."""

    def make(sequence: str, seed: int = 0) -> StoredStructure:
        generator = np.random.default_rng(seed)
        positions = generator.uniform(-900, 999, (num_atoms(sequence), 3)).round(2).astype(np.float32)
        plddt = generator.uniform(0, 100, len(sequence)).round(2).astype(np.float32)
        return StoredStructure(structure_id(sequence), sequence, positions, plddt)

    return make
