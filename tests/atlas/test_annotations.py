"""Annotations: the joined rows against the user's table, through hostile tables, updates, merges and stores."""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from built_atlas import Built

from foldatlas.atlas.annotations.annotate import add_annotation
from foldatlas.atlas.annotations.documents import annotations_of, sweep_annotations
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index, current_accounting
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.jobs.annotate import annotate, default_name, drop
from foldatlas.jobs.cli import main
from foldatlas.schemas.errors import UsageError

TABLE = [
    ["ID", "Biome", 'evil "name"; drop table records--', "", "source", "biome", "code", "depth", "share"],
    ["a0", "soil", "'; DROP TABLE records; --", "x", "field", "B1", "007", "12", "0.5"],
    ["a0", "sea, \"deep\"\nline", "", "y", "field", "B2", "010", "-3", "1e-3"],
    ["Case", "soil", "=1+1", "\x01", "s", "b3", "1", "0", "2"],
    ["nothere", "soil", "", "", "", "", "2", "7", ".5"],
    ["", "no key", "", "", "", "", "3", "1", "1"],
]  # fmt: skip


@pytest.fixture
def atlas(copy: Callable[[], Built]) -> AtlasFolder:
    folder = copy().folder
    build_index(folder)
    return folder


def write_csv(path: Path, rows: list[list[str]], delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    return path


def query(folder: AtlasFolder, sql: str) -> list[tuple]:
    with Atlas.open(folder.uri) as opened:
        return opened.query(sql).rows()


def no_faults(folder: AtlasFolder) -> None:
    found = verify(folder)
    assert [str(fault) for fault in found.faults] == []
    assert not [note for note in found.notes if "annotations" in note]


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "parquet"])
def test_a_table_is_joined_by_id(atlas: AtlasFolder, tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"Biomes 2026.{kind}"
    if kind == "csv":
        write_csv(path, TABLE)
    elif kind == "tsv.gz":
        plain = write_csv(tmp_path / "plain", TABLE, "\t")
        path.write_bytes(gzip.compress(plain.read_bytes()))
    else:
        columns = [[value or None for value in column] for column in zip(*TABLE[1:], strict=True)]
        arrays = [pa.array(column, pa.string()) for column in columns[:7]]
        arrays += [pa.array([int(v) for v in columns[7]]), pa.array([float(v) for v in columns[8]])]
        pq.write_table(pa.Table.from_arrays(arrays, names=TABLE[0]), path)
    annotation = annotate(atlas.uri, path, key="id")
    assert (annotation.name, annotation.rows, annotation.null_keys, annotation.repeated_keys) == (
        "biomes_2026",
        4,
        1,
        1,
    )
    names = [column.name for column in annotation.columns]
    assert names == ["id", "Biome", 'evil "name"; drop table records--', "column_4", "source_2", "biome_2", "code",
                     "depth", "share"]  # fmt: skip
    assert [column.given for column in annotation.columns] == TABLE[0]
    evil = '"evil ""name""; drop table records--"'
    rows = query(
        atlas,
        f"SELECT id, parse_filename(source), Biome, {evil}, column_4, source_2, biome_2, code, depth, share "
        "FROM biomes_2026 ORDER BY id, source, biome_2",
    )
    first = ("soil", "'; DROP TABLE records; --", "x", "field", "B1", "007", 12, 0.5)
    second = ('sea, "deep"\nline', None, "y", "field", "B2", "010", -3, 0.001)
    third = ("soil", "=1+1", "\x01", "s", "b3", "1", 0, 2.0)
    files = ["a.fasta", "b.fasta"]  # the id a0 is in both
    assert rows == [
        ("Case", "a.fasta", *third),
        *(("a0", file, *row) for file in files for row in (first, second)),
    ]
    assert query(atlas, "SELECT name, key, rows, null_keys FROM annotations") == [("biomes_2026", "id", 4, 1)]
    no_faults(atlas)


def test_every_kind_of_key(atlas: AtlasFolder, tmp_path: Path) -> None:
    identity = query(atlas, "SELECT structure_id FROM proteins WHERE id = 'Case'")[0][0]
    path = write_csv(tmp_path / "t.csv", [["md5", "v"], [identity.hex, "1"], [str(identity), "2"], ["zz", "3"]])
    found = annotate(atlas.uri, path, key="structure_id", column="md5", name="by_hash")
    assert (found.rows, found.invalid_keys) == (2, 1)
    assert query(atlas, "SELECT id, v FROM by_hash ORDER BY v") == [("Case", 1), ("Case", 2)]
    path = write_csv(tmp_path / "u.csv", [["accession", "v"], ["P12345", "x"], ["a1", "y"]])
    annotate(atlas.uri, path, key="accession")
    assert query(atlas, "SELECT id, accession, v FROM u ORDER BY v") == [
        ("sp|P12345|odd/../name", "P12345", "x"),
        ("a1", "a1", "y"),
    ]
    path = write_csv(tmp_path / "m.csv", [["MGYP", "v"], ["MGYP000000000012", "x"], ["12", "y"], ["MGYPx", "z"]])
    found = annotate(atlas.uri, path, key="mgyp")
    assert (found.rows, found.invalid_keys, found.repeated_keys) == (2, 1, 1)
    assert query(atlas, "SELECT mgyp, v FROM annotation.m ORDER BY v") == [(12, "x"), (12, "y")]


def test_replace_drop_and_updates(atlas: AtlasFolder, tmp_path: Path) -> None:
    """Annotations do not touch the large tables, and survive both kinds of index build."""
    path = write_csv(tmp_path / "biome.csv", TABLE)
    annotate(atlas.uri, path, key="id")
    assert query(atlas, "SELECT runs FROM settings") == [(1,)]
    with pytest.raises(UsageError, match="--replace"):
        annotate(atlas.uri, path, key="id")
    other = write_csv(tmp_path / "other.csv", [["id", "new"], ["Case", "1"]])
    annotate(atlas.uri, other, key="id", name="biome", replace=True)
    annotate(atlas.uri, path, key="id", name="second")
    build_index(atlas, full=True)
    assert query(atlas, "SELECT id, new FROM biome") == [("Case", 1)]
    assert query(atlas, "SELECT count(*) FROM second") == [(5,)]
    assert len(list((atlas.root / "annotations" / "biome").glob("*.parquet"))) == 1
    no_faults(atlas)
    drop(atlas.uri, "biome")
    assert query(atlas, "SELECT name FROM annotations") == [("second",)]
    assert not list((atlas.root / "annotations" / "biome").glob("*.parquet"))
    with pytest.raises(UsageError, match="it has second"):
        drop(atlas.uri, "biome")
    annotate(atlas.uri, other, key="id", name="biome")
    assert annotations_of(atlas)[0].generation == 3
    no_faults(atlas)


def test_an_index_without_an_annotation_is_stale(atlas: AtlasFolder, tmp_path: Path) -> None:
    assert current_accounting(atlas) is not None
    add_annotation(atlas, write_csv(tmp_path / "t.csv", [["id", "v"], ["a0", "1"]]), name="t", key="id")
    assert current_accounting(atlas) is None
    assert [fault.kind for fault in verify(atlas).faults] == ["stale_index"]
    with duckdb.connect(str(atlas.index_path), read_only=True) as connection:
        before = connection.execute("SELECT contents, stages FROM settings").fetchall()
    build_index(atlas)
    with duckdb.connect(str(atlas.index_path), read_only=True) as connection:
        assert connection.execute("SELECT contents, stages FROM settings").fetchall() == before  # for older programs


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (b"", {}, "no header"),
        (b"a,b\n1,2\n", {}, "no column 'id'.*'a', 'b'"),
        (b"id,id\n1,2\n", {}, "2 columns 'id'"),
        (b"id,v\n,2\n", {}, "no row with a valid key"),
        (b"id,v\na0,2\n", {"name": "proteins"}, "a table proteins of its own"),
        (b"id,v\na0,2\n", {"name": "structures"}, "a table structures of its own"),
        (b"id,v\na0,2\n", {"name": "../up"}, "not a name of an annotation"),
        (b"id,v\na0,2\n", {"name": "select"}, "a word of SQL"),
        (b"id,v\na0,2\n", {"column": "w"}, "no column 'w'"),
    ],
)
def test_a_bad_table_changes_nothing(
    atlas: AtlasFolder, tmp_path: Path, content: bytes, options: dict[str, str], expected: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    before = atlas.index_path.stat().st_mtime_ns
    with pytest.raises(UsageError, match=expected):
        annotate(atlas.uri, path, key="id", **options)
    assert atlas.index_path.stat().st_mtime_ns == before and not (atlas.root / "annotations").exists()


def test_files_that_are_no_tables(atlas: AtlasFolder, tmp_path: Path) -> None:
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    for name, expected in (("t.parquet", "cannot be read"), ("t.xlsx", "ends with"), ("gone.csv", "no such file")):
        with pytest.raises(UsageError, match=expected):
            annotate(atlas.uri, tmp_path / name, key="id")


def test_malformed_rows_and_bytes_are_counted(
    atlas: AtlasFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "t.tsv"
    path.write_bytes(b"\xef\xbb\xbfid\tv\x07\na0\tcaf\xe9\nCase\tone\ttoo many\na1\t\n")
    assert main(["annotate", atlas.uri, str(path), "--key", "id"]) == 0
    out, err = capsys.readouterr()
    assert "2 of 2 keys match a protein" in out
    assert "left out 1 row with another number of fields" in err and "is called 'v_'" in err
    assert query(atlas, "SELECT DISTINCT id, v_ FROM t ORDER BY id") == [("a0", "caf\\xe9"), ("a1", None)]
    assert main(["annotate", atlas.uri]) == 0
    assert capsys.readouterr().out == "t  2 rows by id, of t.tsv: v_\n"
    assert main(["annotate", atlas.uri, "--drop", "t"]) == 0
    assert main(["annotate", atlas.uri, str(path)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("foldatlas annotate: give --key")


def test_names_from_files() -> None:
    names = {"Biome.csv": "biome", "Pfam-A 37.tsv.gz": "pfam_a_37", "2026.csv": "table_2026", "æ.csv": "table"}
    assert {given: default_name(Path(given)) for given in names} == names


def test_leftovers_are_swept(atlas: AtlasFolder, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "t.csv", [["id", "v"], ["a0", "1"]])
    annotate(atlas.uri, path, key="id")
    inside = atlas.root / "annotations" / "t"
    kept = set(inside.iterdir())
    host = next(inside.glob("*.parquet")).name.split(".")[1].rsplit("_", 2)[0]
    (inside / f"rows.{host}_4194305_ab.parquet").write_bytes(b"of a dead process")
    (inside / f".rows.{host}_4194305_ab.parquet.{host}_4194305_ab.part").write_bytes(b"unfinished")
    assert sweep_annotations(atlas) == 2
    assert set(inside.iterdir()) == kept
    no_faults(atlas)


def test_damage_is_found(atlas: AtlasFolder, tmp_path: Path) -> None:
    annotate(atlas.uri, write_csv(tmp_path / "t.csv", [["id", "v"], ["a0", "1"]]), key="id")
    [table] = (atlas.root / "annotations" / "t").glob("*.parquet")
    content = table.read_bytes()
    table.write_bytes(content[:-1] + b"X")
    [fault] = verify(atlas).faults
    assert fault.where == f"annotations/t/{table.name}" and "--name t --replace" in str(fault.next_step)
    table.write_bytes(content)
    document = atlas.root / "annotations" / "t" / "0.json"
    document.write_text(document.read_text().replace('"t"', '"u"'))
    assert any(fault.where == "annotations/t/0.json" for fault in verify(atlas).faults)


def test_merged_atlases_unite_annotations(atlas_of: Callable[..., AtlasFolder], tmp_path: Path) -> None:
    folders = [atlas_of("one", {"p": "MKLV", "q": "MKLW"}, "2026-11-01"), atlas_of("two", {"r": "MKLA"}, "2026-11-02")]
    for folder, rows in zip(folders, ([["p", "1"], ["q", "2"]], [["r", "3"], ["q", "2"]]), strict=True):
        build_index(folder)
        annotate(folder.uri, write_csv(tmp_path / "biome.csv", [["id", "v"], *rows]), key="id")
    annotate(folders[1].uri, write_csv(tmp_path / "x.csv", [["id", "w"], ["r", "a"], ["r", "a"]]), key="id")
    merge_atlases([folder.root for folder in folders], tmp_path / "merged")
    merged = AtlasFolder(tmp_path / "merged")
    assert query(merged, "SELECT id, v FROM biome ORDER BY id") == [("p", 1), ("q", 2), ("r", 3)]
    assert query(merged, "SELECT id, w FROM x") == [("r", "a"), ("r", "a")]
    no_faults(merged)
    annotate(folders[0].uri, write_csv(tmp_path / "x.csv", [["id", "z"], ["p", "a"]]), key="id")
    with pytest.raises(UsageError, match=r"annotation x of .* drop one"):
        merge_atlases([folder.root for folder in folders], tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_two_processes_replace_the_same_annotation(
    atlas: AtlasFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A generation that another process took meanwhile is not overwritten: the next one is committed."""
    from foldatlas.atlas.annotations import annotate as module

    path = write_csv(tmp_path / "t.csv", [["id", "v"], ["a0", "1"]])
    original = module.commit_annotation
    raced = []

    def commit(folder: AtlasFolder, annotation: object) -> bool:
        if not raced:
            raced.append(True)
            add_annotation(folder, path, name="t", key="id")
        return original(folder, annotation)

    monkeypatch.setattr(module, "commit_annotation", commit)
    assert add_annotation(atlas, path, name="t", key="id").generation == 1
    build_index(atlas)
    no_faults(atlas)


def test_an_annotation_of_an_atlas_on_a_store(
    s3: Any, built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLDATLAS_CACHE", str(tmp_path / "cache"))
    s3.create_bucket(Bucket="atlases")
    stored = AtlasFolder(f"s3://atlases/{tmp_path.name}")
    for file in built.folder.storage.files():
        with stored.storage.building(file.name) as path:
            path.write_bytes(built.folder.storage.read(file.name))
    build_index(stored)
    annotate(stored.uri, write_csv(tmp_path / "t.csv", TABLE), key="id")
    annotate(stored.uri, write_csv(tmp_path / "t.csv", TABLE[:2]), key="id", replace=True)
    assert query(stored, "SELECT DISTINCT id, Biome FROM t") == [("a0", "soil")]
    assert current_accounting(stored) is not None
    no_faults(stored)
    drop(stored.uri, "t")
    assert query(stored, "SELECT count(*) FROM annotations") == [(0,)]
    assert [file.name for file in stored.storage.files("annotations") if file.name.endswith("parquet")] == []
