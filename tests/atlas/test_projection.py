"""Maps: features, components and placing beside plain ones; the run of the stage; files for other programs."""

import io
import json
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_atlas import SETTINGS, URI_A, Built, Record, draw, write_plan, write_shard

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index, current_accounting
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.projection import layout as layout_module
from foldatlas.atlas.projection import run as run_module
from foldatlas.atlas.projection.components import Components
from foldatlas.atlas.projection.features import NAMES, composition, feature_batches, keys_of
from foldatlas.atlas.projection.layout import Placing, layout
from foldatlas.atlas.projection.points import points
from foldatlas.atlas.projection.protspace import DELIMITER
from foldatlas.atlas.projection.run import project_atlas
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.verify.atlas import verify
from foldatlas.jobs.cli import main
from foldatlas.jobs.project import project
from foldatlas.schemas.errors import Interrupted, QueryError, UsageError
from foldatlas.schemas.records import STANDARD_RESIDUES

MAP = "SELECT structure_id, x, y, is_fitted FROM projection ORDER BY structure_id"


@pytest.fixture
def atlas(indexed: Built, tmp_path: Path) -> AtlasFolder:
    """A copy of the synthetic atlas with an index, of some 200 structures."""
    shutil.copytree(indexed.root, tmp_path / "atlas")
    return AtlasFolder(tmp_path / "atlas")


def rows(folder: AtlasFolder, sql: str) -> list[tuple]:
    with Atlas.open(folder.uri) as opened:
        return opened.query(sql).rows()


def small(path: Path, sequences: list[str], *, embeddings: bool = False) -> AtlasFolder:
    """An atlas of these sequences, folded in one shard."""
    folder = AtlasFolder(path)
    folder.create(SETTINGS)
    if sequences:
        given = [Record(f"p{n}", sequence, offset=100 * n) for n, sequence in enumerate(sequences)]
        plan = write_plan(folder, {URI_A: given}, 1280, 60, "2026-11-01T09:00:00.000+00:00")
        write_shard(Built(folder), plan, 0, np.random.default_rng(1), embeddings=embeddings)
    build_index(folder)
    return folder


def test_a_map_is_made_once_and_joined(atlas: AtlasFolder) -> None:
    """Each structure of a present record has a position. The same command finds the map; verify finds no fault."""
    before = rows(atlas, "FROM scores ORDER BY structure_id")
    made = project(atlas.uri)
    [(proteins, joined)] = rows(
        atlas,
        "SELECT count(*), count(x) FILTER (WHERE isfinite(x) AND isfinite(y)) "
        "FROM proteins LEFT JOIN projection USING (structure_id)",
    )
    assert proteins == joined > 150 and made.is_new and made.features == "composition"
    ids = rows(atlas, "SELECT DISTINCT structure_id FROM proteins ORDER BY 1")
    assert [row[:1] for row in rows(atlas, MAP)] == ids and made.structures == made.fitted == len(ids)
    assert rows(atlas, "FROM scores ORDER BY structure_id") == before
    [(run, method, settings, used)] = rows(
        atlas, "SELECT run, method, settings, used FROM projection_runs WHERE is_latest"
    )
    assert (run, method, used) == (made.run, "tsne", list(NAMES))
    assert json.loads(settings)["libraries"].keys() == {"openTSNE", "scikit-learn", "numpy", "scipy"}
    assert current_accounting(atlas) is not None
    assert not project(atlas.uri).is_new
    assert [str(fault) for fault in verify(atlas).faults] == []


def test_queries_of_the_documents_have_answers(atlas: AtlasFolder) -> None:
    """Those of docs/sql.md on maps."""
    text = (Path(__file__).parents[2] / "docs" / "sql.md").read_text(encoding="utf-8")
    block = text.partition("## Maps\n")[2].partition("```sql\n")[2].partition("```")[0]
    statements = [sql.replace("938293.PRJEB85.HG003686_6", "a1") for sql in block.split(";") if sql.strip()]
    project(atlas.uri)
    assert len(statements) == 4 and all(rows(atlas, sql) for sql in statements)


def test_the_same_command_gives_the_same_map(atlas: AtlasFolder, tmp_path: Path) -> None:
    """Bit for bit, in another copy and with other threads; another seed gives another map."""
    shutil.copytree(atlas.root, tmp_path / "again")
    again = AtlasFolder(tmp_path / "again")
    names = [project(atlas.uri, threads=1).run, project(again.uri, threads=2).run]
    assert rows(atlas, MAP) == rows(again, MAP) and names[0] == names[1]
    files = [next((folder.root / "projections" / names[0] / "map").iterdir()) for folder in (atlas, again)]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert project(again.uri, seed=1).run != names[0]
    assert rows(atlas, MAP) != rows(again, MAP)
    assert [latest for (latest,) in rows(again, "SELECT is_latest FROM projection_runs ORDER BY completed")] == [
        False,
        True,
    ]
    back = project(again.uri)  # the first settings again: a run of its own, and the first map
    assert back.is_new and back.run not in names and rows(atlas, MAP) == rows(again, MAP)


def test_a_drawn_part_is_fitted_and_neighbours_place_others(
    atlas: AtlasFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fitted are the structures with the least keys; the others are at the median of their nearest fitted ones."""
    monkeypatch.setattr(run_module, "MAX_FITTED", 60)
    made = project(atlas.uri, seed=5)
    found = rows(atlas, MAP)
    assert (made.fitted, made.structures) == (60, len(found))
    ids = np.frombuffer(b"".join(row[0].bytes for row in found), "V16")
    keys = keys_of(ids, 5)
    fitted = np.array([row[3] for row in found])
    assert set(np.flatnonzero(fitted)) == set(np.argsort(keys)[:60])
    with Atlas.open(atlas.uri) as opened:
        batches = list(feature_batches(opened, "composition"))
    features = {bytes(id): row for batch in batches for id, row in zip(batch.ids_N, batch.features_ND, strict=True)}
    drawn = [id for batch in batches for id in map(bytes, batch.ids_N) if id in {bytes(i) for i in ids[fitted]}]
    components = Components.of(np.array([features[id] for id in drawn]), 50, scaled=True)
    at = {row[0].bytes: row[1:3] for row in found}
    near = components.apply(np.array([features[id] for id in drawn]))
    for id in map(bytes, ids[~fitted]):
        distances = np.linalg.norm(near - components.apply(features[id][None]), axis=1)
        nearest = [at[drawn[row]] for row in np.argsort(distances, kind="stable")[:15]]
        assert at[id] == pytest.approx(tuple(np.median(nearest, axis=0)), abs=1e-4)


def test_features_are_what_their_names_are(indexed: Built) -> None:
    """Composition, length, pLDDT and shape of each structure, beside its sequence and the scores in SQL."""
    with Atlas.open(indexed.root) as opened:
        batches = list(feature_batches(opened, "composition"))
        scores = opened.query(
            "SELECT DISTINCT structure_id, length, mean_plddt, radius_of_gyration, helix_fraction, strand_fraction "
            "FROM proteins"
        ).rows()
    found = {bytes(id): row for batch in batches for id, row in zip(batch.ids_N, batch.features_ND, strict=True)}
    assert found.keys() == {row[0].bytes for row in scores}
    for identity, length, plddt, radius, helix, strand in scores:
        sequence = indexed.sequences[identity.bytes]
        expected = [sequence.count(letter) / len(sequence) for letter in STANDARD_RESIDUES]
        expected += [np.log(length), plddt, radius / (2.2 * length**0.38), helix, strand]
        assert found[identity.bytes] == pytest.approx(expected, abs=1e-5)
    assert composition(["MXX"])[0, STANDARD_RESIDUES.index("M")] == pytest.approx(1 / 3)


def test_embeddings_are_used_where_all_shards_have_them(tmp_path: Path, indexed: Built) -> None:
    generator = np.random.default_rng(3)
    folder = small(tmp_path / "atlas", [draw(generator, 30) for _ in range(25)], embeddings=True)
    assert project(folder.uri).features == "embeddings"
    with Atlas.open(folder.uri) as opened:
        [batch] = feature_batches(opened, "embeddings")
        stored = dict(opened.query("SELECT structure_id, mean FROM embeddings").rows())
    for id, row in zip(batch.ids_N, batch.features_ND, strict=True):
        assert row.tolist() == stored[next(one for one in stored if one.bytes == bytes(id))]
    assert project(folder.uri, features="composition").features == "composition"
    with pytest.raises(UsageError, match=r"embeddings of 3 of 5 shards.*--add-outputs"):
        project_atlas(indexed.folder, features="embeddings")


def test_components_equal_a_singular_value_decomposition() -> None:
    """Of the standardised features, up to signs; missing values are the mean, features without values are dropped."""
    generator = np.random.default_rng(2)
    features = (generator.normal(size=(300, 6)) @ generator.normal(size=(6, 6))).astype(np.float32)
    features[5, 2] = features[9, 2] = np.nan
    features = np.column_stack([features, np.full(300, 4), np.full(300, np.nan)]).astype(np.float32)
    found = Components.of(features, 3, scaled=True)
    assert found.used_U.tolist() == [0, 1, 2, 3, 4, 5] and found.imputed == 2
    plain = features[:, :6].astype(np.float64)
    plain = np.where(np.isnan(plain), np.nanmean(plain, axis=0), plain)
    plain = (plain - plain.mean(axis=0)) / np.nanstd(features[:, :6].astype(np.float64), axis=0)
    left, sizes, _ = np.linalg.svd(plain, full_matrices=False)
    assert np.abs(found.apply(features)) == pytest.approx(np.abs(left[:, :3] * sizes[:3]), abs=1e-4)
    assert found.explained == pytest.approx((sizes[:3] ** 2).sum() / (sizes**2).sum())
    assert np.isfinite(found.apply(np.full((2, 8), np.nan, np.float32))).all()


@pytest.mark.parametrize("number", [1, 2, 5])
def test_tiny_atlases_have_a_map(tmp_path: Path, number: int) -> None:
    generator = np.random.default_rng(number)
    folder = small(tmp_path / "atlas", [draw(generator, 20 + n) for n in range(number)])
    assert project(folder.uri, threads=1).structures == number
    found = rows(folder, MAP)
    assert len({row[1:3] for row in found}) == number and all(np.isfinite(row[1:3]).all() for row in found)
    assert rows(folder, "SELECT method FROM projection_runs") == [("pca",)]


def test_an_empty_atlas_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = small(tmp_path / "atlas", [])
    assert main(["project", folder.uri]) == 2
    assert capsys.readouterr().err == f"foldatlas project: {folder.uri} has no structures to map: fold some first\n"


def test_structures_that_do_not_differ_are_at_one_place() -> None:
    same = Components.of(np.ones((20, 4), np.float32), 50, scaled=True)
    assert (layout(same.apply(np.ones((20, 4), np.float32)), 0, 1) == 0).all()
    line = np.repeat(np.arange(12, dtype=np.float32)[:, None], 3, axis=0)  # each three times, in one dimension
    assert np.isfinite(layout(line, 0, 1)).all()


def test_layout_keeps_groups_together() -> None:
    """Of five groups in ten dimensions; and structures that are placed are with their group."""
    generator = np.random.default_rng(4)
    groups = generator.integers(5, size=400)
    values = (generator.normal(size=(5, 10))[groups] * 6 + generator.normal(size=(400, 10))).astype(np.float32)
    fitted = layout(values[:300], 0, 1)
    placed = Placing(values[:300], fitted, 1).place(values[300:])
    for positions, own in ((fitted, groups[:300]), (placed, groups[300:])):
        distances = np.linalg.norm(positions[:, None] - fitted[None], axis=2)
        nearest = groups[:300][np.argsort(distances, axis=1)[:, 1:6]]
        assert (nearest == own[:, None]).mean() > 0.98


def test_an_unfinished_map_is_not_visible(atlas: AtlasFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped before the mark of completion: nothing in SQL, and the same command makes the map."""

    def stopped(*arguments: object) -> None:
        raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(StageRun, "complete", stopped)
        with pytest.raises(Interrupted):
            project(atlas.uri)
    assert len(list((atlas.root / "projections").glob("*/map/*.parquet"))) == 1
    assert current_accounting(atlas) is not None
    build_index(atlas, full=True)
    assert rows(atlas, MAP) == rows(atlas, "FROM projection_runs") == []
    assert project(atlas.uri).is_new and rows(atlas, MAP)


def test_a_map_survives_growth_and_merging(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    """New proteins have no position until the command is run again; an index from nothing has the same map."""
    generator = np.random.default_rng(6)
    first = atlas_of("first", {f"p{n}": draw(generator, 20 + n) for n in range(12)}, "2026-11-04")
    project(first.uri)
    before = rows(first, MAP)
    build_index(first, full=True)
    assert rows(first, MAP) == before
    other = atlas_of("other", {"new": "MKVLAAGIVGLCAKQ"}, "2026-11-05")
    merge_atlases([first.uri, other.uri], tmp_path / "merged")
    merged = AtlasFolder(tmp_path / "merged")
    assert rows(merged, MAP) == before
    new = "SELECT x FROM proteins LEFT JOIN projection USING (structure_id) WHERE id = 'new'"
    assert rows(merged, new) == [(None,)]
    assert project(merged.uri).structures == len(before) + 1 and rows(merged, new) != [(None,)]
    assert [str(fault) for fault in verify(merged).faults] == []


def test_a_map_of_an_atlas_on_a_store(
    atlas: AtlasFolder, s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="maps")
    stored = AtlasFolder("s3://maps/atlas")
    for file in atlas.storage.files():
        if not file.name.endswith(".duckdb"):
            with stored.storage.building(file.name) as path:
                path.write_bytes(atlas.storage.read(file.name))
    assert project(stored.uri).is_new
    project(atlas.uri)
    assert rows(stored, MAP) == rows(atlas, MAP)
    assert current_accounting(stored) is not None and not project(stored.uri).is_new


def test_wrong_requests_cost_no_work(atlas: AtlasFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "layout", lambda *arguments: pytest.fail("the layout was fitted"))
    with pytest.raises(UsageError, match=r"end in \.parquetbundle"):
        project(atlas.uri, protspace=tmp_path / "map.zip")
    with pytest.raises(UsageError, match="is not a folder"):
        project(atlas.uri, embedding_atlas=tmp_path / "nowhere" / "map.parquet")
    with pytest.raises(UsageError, match="--where is for"):
        project(atlas.uri, where="length > 3")
    with pytest.raises(QueryError, match="the column plddt is called mean_plddt"):
        project(atlas.uri, where="plddt > 3", embedding_atlas=tmp_path / "map.parquet")
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    with pytest.raises(UsageError, match=r"pip install 'foldatlas\[map\]'"):
        project(atlas.uri)


def test_files_of_other_programs_have_the_points(atlas: AtlasFolder, tmp_path: Path) -> None:
    """Distinct identifiers, positions as in SQL, and texts that cannot break the bundle."""
    bundle, table = tmp_path / "map.parquetbundle", tmp_path / "map.parquet"
    project(atlas.uri, protspace=bundle, embedding_atlas=table, where="length >= 20")
    expected = rows(
        atlas,
        "SELECT id, x, y FROM proteins JOIN projection USING (structure_id) WHERE length >= 20 ORDER BY id, source",
    )
    points_table = pq.read_table(table)
    names = points_table.column("identifier").to_pylist()
    assert len(set(names)) == len(names) == len(expected)
    assert [name.rpartition(":")[2] or name for name in names] == [id.rpartition(":")[2] for id, *_ in expected]
    assert "file:///data/a.fasta:a0" in names and "file:///data/b.fasta:a0" in names and "a1" in names
    assert list(zip(*(points_table.column(axis).to_pylist() for axis in "xy"), strict=True)) == [
        row[1:] for row in expected
    ]
    annotations, described, positions = map(pq.read_table, map(io.BytesIO, bundle.read_bytes().split(DELIMITER)))
    assert annotations.schema.metadata[b"protspace_format_version"] == b"2"
    assert annotations.column("protein_id").to_pylist() == positions.column("identifier").to_pylist() == names
    assert positions.column("x").to_pylist() == points_table.column("x").to_pylist()
    assert described.column("dimensions").to_pylist() == [2]
    assert json.loads(described.column("info_json")[0].as_py())["method"] == "tsne"
    texts = annotations.column("description").to_pylist()
    assert any("%1B[31m" in text for text in texts) and not any("\x1b" in text for text in texts)
    assert set(annotations.column("tm_query").to_pylist()) == {""}
    with Atlas.open(atlas.uri) as opened, pytest.raises(UsageError, match="no protein to write that meets"):
        points(opened, "length > 100000")


def test_a_delimiter_in_an_id_does_not_break_a_bundle(tmp_path: Path) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    folder.create(SETTINGS)
    given = [Record(f"x{DELIMITER.decode()}y", "MKVLAAGIVGLC", description="100% | a;b")]
    plan = write_plan(folder, {URI_A: given}, 1280, 60, "2026-11-01T09:00:00.000+00:00")
    write_shard(Built(folder), plan, 0, np.random.default_rng(1))
    build_index(folder)
    project(folder.uri, protspace=tmp_path / "map.parquetbundle")
    parts = (tmp_path / "map.parquetbundle").read_bytes().split(DELIMITER)
    assert len(parts) == 3
    annotations = pq.read_table(io.BytesIO(parts[0]))
    assert annotations.column("protein_id").to_pylist() == ["x---PARQUET%5FDELIMITER---y"]
    assert annotations.column("description").to_pylist() == ["100%25 %7C a%3Bb"]
    assert annotations.column("confidence").type == pa.string()


def test_exact_neighbours_leave_themselves_out() -> None:
    """Also where several structures have equal components, and another is found in a structure's place."""
    values = np.repeat(np.eye(4, dtype=np.float32), 30, axis=0)
    distances, found = layout_module._nearest(values, values, 4, 1)
    assert (distances == 0).all() and (found // 30 == np.arange(120)[:, None] // 30).all()
    assert np.isfinite(layout(values, 0, 1)).all()


PROTSPACE = """
import sys
from pathlib import Path
from protspace.app import ProtSpace
from protspace.data.io.bundle import extract_bundle_to_dir
from protspace.utils.arrow_reader import ArrowReader
folder = extract_bundle_to_dir(Path(sys.argv[1]))
reader = ArrowReader(Path(folder))
[name] = reader.get_projection_names()
print(len(reader.get_projection_data(name)), len(reader.get_protein_ids()), sorted(reader.get_all_annotations()))
print(type(ProtSpace(arrow_dir=folder).create_app()).__name__)
"""


def environment(folder: Path, package: str) -> Path:
    """The folder of programs of a new environment with this package; skip the test where it cannot be installed."""
    venv.create(folder, with_pip=True)
    done = subprocess.run([folder / "bin" / "pip", "install", "-q", package], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"{package} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
    return folder / "bin"


@pytest.mark.long
def test_protspace_opens_a_bundle(atlas: AtlasFolder, tmp_path: Path) -> None:
    """PyPI's protspace reads it, makes its page of it, and adds colours to it by its command."""
    programs = environment(tmp_path / "env", "protspace[frontend]")
    bundle = tmp_path / "map.parquetbundle"
    project(atlas.uri, protspace=bundle)
    done = subprocess.run([programs / "python", "-c", PROTSPACE, bundle], capture_output=True, text=True)
    number = rows(atlas, "SELECT count(*) FROM proteins")[0][0]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{number} {number} [") and "'confidence'" in done.stdout
    assert done.stdout.endswith("\nDash\n")
    styled = subprocess.run(
        [programs / "protspace", "style", bundle, "--generate-template"], capture_output=True, text=True
    )
    assert styled.returncode == 0 and "very high" in styled.stdout + styled.stderr


@pytest.mark.long
def test_embedding_atlas_opens_a_map(atlas: AtlasFolder, tmp_path: Path) -> None:
    """PyPI's embedding-atlas loads it with the given columns, and writes its page with all rows."""
    programs = environment(tmp_path / "env", "embedding-atlas")
    table = tmp_path / "map.parquet"
    project(atlas.uri, embedding_atlas=table)
    command = [programs / "embedding-atlas", table, "--x", "x", "--y", "y", "--text", "identifier"]
    done = subprocess.run([*command, "--export-application", tmp_path / "page"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "page" / "data" / "metadata.json").read_text())
    assert described["props"]["data"]["projection"] == {"x": "x", "y": "y"}
    written = pq.read_table(tmp_path / "page" / "data" / "dataset.parquet")
    assert written.select(["identifier", "x", "y"]).to_pylist() == (
        pq.read_table(table, columns=["identifier", "x", "y"]).to_pylist()
    )
