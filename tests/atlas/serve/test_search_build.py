"""The search database: what it covers, and that it follows the atlas without being built anew."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path

import made_families
import msgspec
import numpy as np
import pytest
from built_atlas import Built

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.serve.search import build, worker
from foldatlas.atlas.serve.search.build import build_search, search_folder
from foldatlas.atlas.serve.search.documents import SearchDatabase, read_database
from foldatlas.atlas.serve.search.requests import Embedding, Failed, Found, Job
from foldatlas.atlas.serve.search.segments import SegmentArrays
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.errors import UsageError


def rows_of(root: Path, database: SearchDatabase) -> dict[uuid.UUID, str]:
    """The sequence of each structure of a database."""
    found: dict[uuid.UUID, str] = {}
    for segment in database.segments:
        arrays = SegmentArrays(root, segment)
        for row in range(segment.structures):
            found[uuid.UUID(bytes=arrays.structure_id(row))] = arrays.sequence(row)
    assert len(found) == database.structures  # none twice
    return found


def test_each_structure_of_a_protein_is_covered_once(indexed: Built, tmp_path: Path) -> None:
    """Plans overlap, some proteins failed, and some shards are not committed."""
    database = build_search(indexed.root, tmp_path)
    found = rows_of(tmp_path, database)
    with Atlas.open(indexed.root) as atlas:
        expected = {name for (name,) in atlas.sql("SELECT DISTINCT structure_id FROM proteins").rows()}
    assert found.keys() == expected
    assert all(indexed.sequences[name.bytes] == sequence for name, sequence in found.items())
    [segment] = database.segments
    arrays = SegmentArrays(tmp_path, segment)
    for row in (0, 7, segment.structures - 1):
        begin, end = arrays.offsets[row : row + 2]
        alphas = indexed.positions[arrays.structure_id(row)]
        first_atoms = np.rint(alphas.astype(float) * 100)[1] / 100  # of residue 1, as stored
        np.testing.assert_allclose(arrays.c_alphas[begin], first_atoms, atol=1e-3)
        assert end - begin == len(arrays.sequence(row))


def names(database: SearchDatabase) -> set[str]:
    return {segment.name for segment in database.segments}


def test_a_grown_atlas_keeps_its_segments(tmp_path: Path) -> None:
    """What is unchanged is not written again; small segments are united with what is new."""
    root = tmp_path / "atlas"
    proteins = made_families.families(9, 5)
    folder = made_families.make_atlas(root, proteins[:30])
    first = build_search(root, root / "search", segment_residues=2_000)
    assert len(first.segments) == 2 and build_search(root, root / "search", segment_residues=2_000).segments == (
        first.segments
    )
    made_families.add_plan(folder, proteins[30:], "more")
    build_index(folder)
    grown = build_search(root, root / "search", segment_residues=2_000)
    assert names(first) < names(grown) and grown.structures == len(proteins)
    united = build_search(root, root / "search", segment_residues=10**6)  # nothing is new: all stay
    assert united.segments == grown.segments
    made_families.add_plan(folder, made_families.families(1, 2, seed=9), "last")
    build_index(folder)
    united = build_search(root, root / "search", segment_residues=10**6)
    assert len(united.segments) == 1 and united.structures == len(proteins) + 3
    assert sorted(path.name for path in (root / "search" / "segments").iterdir()) == [united.segments[0].name]


def test_an_interrupted_build_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "atlas"
    made_families.make_atlas(root, made_families.families(6, 5))
    add_file, begun = build._add_file, []

    def interrupted(writer: object, folder: AtlasFolder, file: object, wanted: dict) -> None:
        if len(begun) == 1:
            raise KeyboardInterrupt
        begun.append(file)
        add_file(writer, folder, file, wanted)

    monkeypatch.setattr(build, "_add_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        build_search(root, root / "search", segment_residues=1_000)
    assert read_database(root / "search") is None
    [kept] = (root / "search" / "segments").iterdir()  # nothing half-written
    begun.clear()
    monkeypatch.setattr(build, "_add_file", lambda *given: (begun.append(given[2]), add_file(*given)))
    database = build_search(root, root / "search", segment_residues=1_000)
    assert len(begun) == len(database.segments) - 1 == 1 and kept.name in names(database)


def test_a_damaged_file_is_left_out_and_tried_again(copy: Callable[[], Built]) -> None:
    built = copy()
    build_index(built.folder)
    whole = build_search(built.root, built.root / "whole")
    victim = sorted((built.root / "structures").iterdir())[1]
    content = victim.read_bytes()
    victim.write_bytes(content[:-100])
    damaged = build_search(built.root, built.root / "search")
    assert list(damaged.unreadable) == [f"structures/{victim.name}"]
    assert 0 < damaged.structures < whole.structures
    victim.write_bytes(content)
    mended = build_search(built.root, built.root / "search")
    assert mended.unreadable == {} and mended.segments == whole.segments


def test_verify_leaves_the_database_alone(copy: Callable[[], Built]) -> None:
    """It is derived, as the index is: its files are not unknown files of the atlas."""
    built = copy()
    build_index(built.folder)
    before = verify(built.folder, deep=False).notes
    build_search(built.root, built.root / "search")
    assert verify(built.folder, deep=False).notes == before


def test_one_run_writes_at_a_time(indexed: Built, tmp_path: Path) -> None:
    with build._locked(tmp_path), pytest.raises(UsageError, match="another run"):
        build_search(indexed.root, tmp_path)


def test_an_atlas_on_a_store_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local folder"):
        search_folder(AtlasFolder("s3://found/atlas"))
    assert search_folder(AtlasFolder("s3://found/atlas"), tmp_path) == tmp_path


def test_a_database_that_is_replaced_meanwhile(indexed: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A search that finds the old segments deleted reads the new document; a damaged database fails with a reason."""
    root = tmp_path / "search"
    new = build_search(indexed.root, root)
    old = SearchDatabase(1, "", "", "", _renamed(new))
    documents = [old, new, new]
    monkeypatch.setattr(worker, "_limit", lambda job: None)
    monkeypatch.setattr(worker, "read_database", lambda root: documents.pop(0))
    vector = np.ones(8, "<f4").tobytes()
    job = Job(Embedding(vector), str(root), str(tmp_path), 3, 1, 1_000, 1 << 30, 60, 1 << 30)
    with open(tmp_path / "messages", "wb") as messages:
        result = worker.answer(job, messages)
        assert isinstance(result, Found) and len(result.hits) == 3
        shutil.rmtree(root / "segments")
        documents[:] = [new, new]
        assert worker.answer(job, messages) == Failed(
            "damaged", "the search database cannot be read: run `foldatlas index --search`"
        )


def _renamed(database: SearchDatabase) -> tuple:
    return tuple(msgspec.structs.replace(segment, name="0" * 32) for segment in database.segments)
