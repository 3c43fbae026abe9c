"""Damage to every file of an atlas with searches, clusters and an annotation: each is named and mended.

In place of the model, folding writes the made structures of the atlas again.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import duckdb
import novelty_atlas as given
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.published import index_of
from foldatlas.jobs import verify as job
from foldatlas.jobs.annotate import annotate
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import novelty
from foldatlas.jobs.verify import repair, verify
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import DIGEST_KEY
from foldatlas.schemas.tables import NEEDED_TABLES

TABLES = (*NEEDED_TABLES, "pae")
INDEX = "atlas.duckdb"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the atlas and the FASTA file of its plan. Read only."""
    place = tmp_path_factory.mktemp("every_file")
    folder = AtlasFolder(place / "atlas")
    given.write_atlas(folder, given.proteins(), tables=TABLES)
    given.reference(place / "reference")
    novelty(folder.root, [place / "reference"])
    cluster(folder.root)
    (place / "biome.csv").write_text("id,biome\nknown,soil\nnovel1,sea\n")
    annotate(folder.root, place / "biome.csv", key="id")
    shutil.rmtree(place / "reference")
    return place


@pytest.fixture
def atlas(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may damage. A repair folds without a model."""

    def fold(folder: AtlasFolder, *others: object) -> None:
        fresh = AtlasFolder(folder.uri)
        [plan] = fresh.plans()
        given.fold_missing(fresh, plan, given.proteins(), tables=TABLES)

    monkeypatch.setattr(job, "_model_of", lambda *others: object())
    monkeypatch.setattr(job, "_fold", fold)
    shutil.copytree(made / "atlas", tmp_path / "atlas")
    return tmp_path / "atlas"


def files(atlas: Path, suffix: str) -> list[str]:
    found = [path.relative_to(atlas).as_posix() for path in sorted(atlas.rglob(f"*{suffix}"))]
    assert found
    return found


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def faulty(atlas: Path, *, quick: bool = False) -> set[str]:
    return {fault.where for fault in verify(atlas, quick=quick).faults}


def test_the_atlas_has_every_kind_of_file(made: Path) -> None:
    atlas = made / "atlas"
    kinds = {name.partition("/")[0] for name in files(atlas, "")} - {"atlas.json", INDEX}
    assert kinds >= {"plans", "records", "sequences", "manifest", *TABLES, "novelty", "clusters", "annotations"}
    assert all(name.endswith((".json", ".parquet", INDEX)) for name in files(atlas, "") if (atlas / name).is_file())
    assert all(f'"{DIGEST_KEY}"' in (atlas / name).read_text() for name in files(atlas, ".json"))
    found = verify(atlas)
    assert (found.faults, found.notes) == ([], [])


@pytest.mark.parametrize("damage", [flip, Path.unlink])
def test_every_table_is_named_and_mended(atlas: Path, made: Path, damage: Callable[[Path], None]) -> None:
    """All at once. Records, sequences and the annotation are as they were, byte by byte or by row; runs are dropped."""
    names = files(atlas, ".parquet")
    for name in names:
        damage(atlas / name)
    assert faulty(atlas) >= set(names)
    assert repair(atlas).faults == []
    for name in (name for name in names if name.startswith(("records/", "sequences/"))):
        assert (atlas / name).read_bytes() == (made / "atlas" / name).read_bytes()
    with index_of(AtlasFolder(atlas)).open({}) as index:
        assert index.execute("SELECT id, biome FROM annotation.biome").fetchall() == [
            ("known", "soil"),
            ("novel1", "sea"),
        ]
        [(structures,)] = index.execute("SELECT count(*) FROM scores").fetchall()
    assert structures == len({protein.sequence for protein in given.proteins().values()})
    assert not list(atlas.glob("novelty/*/run.json")) + list(atlas.glob("clusters/*/run.json"))


def test_a_flipped_bit_of_every_document_is_corrected(atlas: Path, made: Path) -> None:
    """Each is named by itself; then all at once are mended."""
    names = files(atlas, ".json")
    for name in names:
        flip(atlas / name)
        if name == "atlas.json":
            with pytest.raises(DamagedAtlasError, match=name):
                verify(atlas)
        else:
            assert name in faulty(atlas, quick=True)
        shutil.copyfile(made / "atlas" / name, atlas / name)
    for name in names:
        flip(atlas / name)
    assert repair(atlas).faults == []
    assert all((atlas / name).read_bytes() == (made / "atlas" / name).read_bytes() for name in names)


def test_documents_cut_short_are_mended(atlas: Path) -> None:
    """Those of shards and of runs; a plan and an annotation need a copy, and nothing is dropped for them."""
    names = files(atlas, ".json")
    needed = {name for name in names if name.startswith(("plans/", "annotations/"))}
    others = set(names) - needed - {"atlas.json"}
    for name in others:
        cut(atlas / name)
    assert faulty(atlas, quick=True) == others
    assert repair(atlas).faults == []
    entries = files(atlas, ".0.json")
    for name in needed:
        cut(atlas / name)
    assert faulty(atlas, quick=True) == needed
    assert {fault.where for fault in repair(atlas).faults} >= needed
    assert files(atlas, ".0.json") == entries


def test_a_duplicated_row_is_mended(atlas: Path) -> None:
    """In the index, in a table of each kind, and in all of them at once."""
    with duckdb.connect(str(atlas / INDEX)) as index:
        index.execute("INSERT INTO scores FROM scores LIMIT 1")
    assert faulty(atlas) == {INDEX}
    assert repair(atlas).faults == []
    for name in files(atlas, ".parquet"):
        duplicate_row(atlas / name)
    assert faulty(atlas) >= set(files(atlas, ".parquet"))
    assert repair(atlas).faults == []


def duplicate_row(path: Path) -> None:
    rows = pq.read_table(path)
    pq.write_table(pa.concat_tables([rows, rows.slice(0, 1)]), path)


def test_unprotected_documents_are_noted(atlas: Path) -> None:
    """As an earlier program wrote them, without digests."""
    names = files(atlas, ".json")
    for name in names:
        text = (atlas / name).read_text()
        (atlas / name).write_text(text[: text.rindex(',\n "' + DIGEST_KEY)] + "\n}\n")
    found = verify(atlas)
    assert found.faults == []
    assert [note for note in found.notes if note.startswith(f"{len(names)} documents of {len(names)} have no digest")]
