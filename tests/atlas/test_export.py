"""Exports: read back by gemmi, Biopython, DuckDB and sha256sum."""

import hashlib
import importlib.util
import io
import json
import re
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import duckdb
import foldcomp
import gemmi
import modelcif.reader
import numpy as np
import pyarrow.parquet as pq
import pytest
from Bio import SeqIO
from hypothesis import given, settings
from hypothesis import strategies as st

from foldatlas.atlas.export import subset as export_module
from foldatlas.atlas.export.file_names import folder_levels, with_file_names
from foldatlas.atlas.export.formats import FORMATS
from foldatlas.atlas.export.subset import Exported, export
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.schemas.errors import DamagedAtlasError, ForeignFolderError, NotAnAtlasError, QueryError, UsageError
from foldatlas.schemas.records import ATOMS, THREE_LETTER, format_structure_id, structure_id
from foldatlas.schemas.tables import STRUCTURES

# `tests` is no package: the readers are loaded from their file
_spec = importlib.util.spec_from_file_location("readers", Path(__file__).with_name("readers.py"))
assert _spec and _spec.loader
readers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readers)

RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def rows_of(atlas_root: Path, sql: str) -> list[tuple]:
    with Atlas.open(atlas_root) as atlas:
        return atlas.query(sql).rows()


def listing(dest: Path) -> list[dict]:
    return [json.loads(line) for line in (dest / "files.jsonl").read_text().splitlines()]


def check_digests(dest: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dest, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summed = {line.split("  ", 1)[1] for line in (dest / "SHA256SUMS").read_text().splitlines()}
    assert summed == {str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file()} - {"SHA256SUMS"}


def read_fasta(dest: Path) -> list[tuple[str, str]]:
    with (dest / "proteins.fasta").open() as file:
        return [(record.id, str(record.seq)) for record in SeqIO.parse(file, "fasta")]


def missing(dest: Path) -> list[list[str]]:
    header, *rows = [line.split("\t") for line in (dest / "missing.tsv").read_text().splitlines()]
    assert header == ["name", "why", "detail", "source"] and all(len(row) == 4 for row in rows)
    return rows


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_structure_files_of_everything(built, indexed, tmp_path: Path, format: str) -> None:
    done = export(indexed.root, tmp_path / "out", format=format)
    records = rows_of(indexed.root, "SELECT id, source, structure_id, mean_plddt FROM proteins")
    files = listing(tmp_path / "out")
    assert done == Exported(tmp_path / "out", len(records), len(files), sum(f["bytes"] for f in files), {})
    assert sorted((f["id"], f["source"], f["structure_id"]) for f in files) == sorted(
        (r[0], r[1], str(r[2])) for r in records
    )
    check_digests(tmp_path / "out")
    for file in files:
        path = tmp_path / "out" / file["file"]
        assert path.stat().st_size == file["bytes"] and path.parent == tmp_path / "out"
        chain = gemmi.read_structure(str(path))[0]["A"]
        assert path.suffix == f".{format}"
        identity = next(r[2] for r in records if str(r[2]) == file["structure_id"]).bytes
        names = [(r.seqid.num, r.name, a.name) for r in chain for a in r]
        assert names == [
            (number, THREE_LETTER[letter], atom)
            for number, letter in enumerate(built.sequences[identity], 1)
            for atom in ATOMS[letter]
        ]
        positions = np.array([a.pos.tolist() for r in chain for a in r])
        np.testing.assert_allclose(positions, built.positions[identity], atol=0.0056)
        b_factors = np.array([r[0].b_iso for r in chain])
        np.testing.assert_allclose(b_factors, built.plddt[identity], atol=0.0056)
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["model"] == "nano-untrained" and manifest["proteins"] == len(records)
    assert manifest["where"] is None and manifest["missing"] == {} and manifest["format"] == format


def test_mmcif_files_are_read_by_modelcif_whatever_the_id(indexed, tmp_path: Path) -> None:
    export(indexed.root, tmp_path / "out", format="cif", where="num_unknown > 0 OR id NOT SIMILAR TO '[ab][0-9]+'")
    records = {
        (r[0], str(r[1])): r[2:]
        for r in rows_of(indexed.root, "SELECT id, structure_id, mean_plddt, ptm FROM proteins")
    }
    files = listing(tmp_path / "out")
    assert {file["id"] for file in files} >= {"sp|P12345|odd/../name", "CON", "Case", "x" * 300, "a4", "a5"}
    for file in files:
        with (tmp_path / "out" / file["file"]).open(encoding="ascii") as text:
            (system,) = modelcif.reader.read(text)
        (entity,) = system.entities
        assert entity.description == file["id"]
        (model,) = system.model_groups[0]
        plddt, ptm = (metric.value for metric in model.qa_metrics[:2])
        assert (plddt, ptm) == pytest.approx(records[file["id"], file["structure_id"]], abs=0.0051)
        assert len(model.qa_metrics) == 2 + len(entity.sequence)


@pytest.mark.parametrize("format", ["pdb", "cif"])
def test_every_reader_finds_every_atom_of_the_extremes(extremes, tmp_path: Path, format: str) -> None:
    """One residue, unknown residues and 1,200 residues, by gemmi, Biopython, fixed columns and python-modelcif."""
    export(extremes.root, tmp_path / "out", format=format)
    files = listing(tmp_path / "out")
    assert sorted(file["id"] for file in files) == ["long", "one", "one_unknown", "unknown"]
    for file in files:
        text = (tmp_path / "out" / file["file"]).read_text(encoding="ascii")
        identity = uuid.UUID(file["structure_id"]).bytes
        sequence = extremes.sequences[identity]
        for reader, read in readers.READERS[format].items():
            rows, numbers = read(text)
            assert rows == readers.expected(sequence, [len(sequence)]), (reader, file["id"])
            np.testing.assert_allclose(numbers[:, :3], extremes.positions[identity], atol=0.0056)
        if format == "cif":
            (system,) = modelcif.reader.read(io.StringIO(text))
            (model,) = system.model_groups[0]
            found = [(atom.seq_id, atom.atom_id) for atom in model.get_atoms()]
            assert found == [(number, atom) for _, number, _, atom in readers.expected(sequence, [len(sequence)])]


def test_foldcomp_files_or_the_reason(indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The atlas holds random walks, none of which foldcomp gives back, and residues it does not know."""
    done = export(indexed.root, tmp_path / "out", format="fcz")
    details = [detail for _, _, detail, _ in missing(tmp_path / "out")]
    num_records = rows_of(indexed.root, "SELECT count(*) FROM proteins")[0][0]
    assert done.proteins + len(details) == num_records and done.missing == {"unwritable": len(details)}
    for reason in ("this structure has one", "only standard residues, not", "A (limit 0.5 A)"):
        assert any(reason in detail for detail in details), reason
    monkeypatch.setattr("foldatlas.atlas.writers.foldcomp_files.MAX_RMSD", 1e9)
    done = export(indexed.root, tmp_path / "any", format="fcz", where="length > 1 AND num_unknown = 0")
    files = listing(tmp_path / "any")
    assert done.proteins == len(files) > 100 and done.missing == {}
    for file in files[:10]:
        content = (tmp_path / "any" / file["file"]).read_bytes()
        name, text = foldcomp.decompress(content)
        assert name == file["id"] and len(content) == file["bytes"] and file["file"].endswith(".fcz")
        sql = f"SELECT sequence FROM sequences WHERE structure_id = '{file['structure_id']}'"
        residues = [residue.name for residue in gemmi.read_pdb_string(text)[0][0]]
        assert residues == [THREE_LETTER[letter] for letter in rows_of(indexed.root, sql)[0][0]]
    check_digests(tmp_path / "any")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"pip install 'foldatlas\[foldcomp\]'"):
        export(indexed.root, tmp_path / "none", format="fcz")
    assert not (tmp_path / "none").exists()


def test_file_names_of_hostile_ids(indexed, tmp_path: Path) -> None:
    export(indexed.root, tmp_path / "out", format="pdb")
    by_id: dict[str, list[str]] = {}
    for file in listing(tmp_path / "out"):
        by_id.setdefault(file["id"], []).append(file["file"])
    assert by_id["a1"] == ["a1.pdb"]
    assert re.fullmatch(r"sp_P12345_odd_\.\._name~[0-9a-f]{16}\.pdb", by_id["sp|P12345|odd/../name"][0])
    assert re.fullmatch(r"_CON~[0-9a-f]{16}\.pdb", by_id["CON"][0])
    assert re.fullmatch(r"Case~[0-9a-f]{16}\.pdb", by_id["Case"][0]) and by_id["case"][0].startswith("case~")
    assert len(by_id["a0"]) == len(set(by_id["a0"])) == 2  # of two sources
    assert len(by_id["x" * 300][0]) == 100 + 17 + 4


ids = st.one_of(
    st.text(min_size=0, max_size=120),
    st.text("abAB./\\:~-_ \n", max_size=6),
    st.sampled_from(["CON", "con.pdb", "nul", "COM1", "..", ".", "-rf", "a" * 200, "lpt9.x", "~", "e\u0301"]),
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(ids.filter(lambda text: "\0" not in text), st.sampled_from(["s", "t"])), min_size=1, max_size=12)
)
def test_names_are_safe_distinct_and_the_same_whatever_the_order(records: list[tuple[str, str]]) -> None:
    def names(given_records: list[tuple[str, str]]) -> list[tuple[str, str, str]]:
        connection = duckdb.cursor()
        connection.execute("CREATE OR REPLACE TEMP TABLE t (id VARCHAR, source VARCHAR, structure_id VARCHAR)")
        connection.executemany("INSERT INTO t VALUES (?, ?, 'i')", [list(r) for r in given_records])
        rows = connection.execute(f"SELECT id, source, file_name FROM ({with_file_names('t', '.pdb')})").fetchall()
        connection.close()
        return sorted(rows)

    made = names(records)
    files = [file for _, _, file in made]
    assert [(id, source) for id, source, _ in made] == sorted(records)
    assert len({file.lower() for file in files}) == len(files)
    for id, _, file in made:
        assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,100}(~[0-9a-f]{16})?\.pdb", file)
        assert not RESERVED.match(file) and len(file) < 130
        assert "~" in file or file == f"{id}.pdb"
    assert names(records[::-1]) == made


def test_many_files_go_into_hashed_folders(indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_module, "FILES_PER_FOLDER", 50)
    export(indexed.root, tmp_path / "out", format="pdb")
    export(indexed.root, tmp_path / "few", format="pdb", where="length < 60")
    check_digests(tmp_path / "out")
    files = {file["id"] + file["source"]: file["file"] for file in listing(tmp_path / "out")}
    assert len(files) > 150 and len({file.partition("/")[0] for file in files.values()}) > 60
    for file in files.values():
        folder, _, name = file.partition("/")
        assert folder == hashlib.sha256(name.encode()).hexdigest()[:2]
    fewer = {file["id"] + file["source"]: file["file"] for file in listing(tmp_path / "few")}
    same = [key for key in fewer if not key.lower().startswith("case")]  # two ids that differ by case, or one of them
    assert len(same) > 50 and [files[key] for key in same] == [fewer[key] for key in same]


@pytest.mark.parametrize(
    ("num_files", "levels"), [(0, 0), (10_000, 0), (10_001, 1), (2_560_000, 1), (2_560_001, 2), (655_360_001, 3)]
)
def test_folders_are_nested_as_files_need(num_files: int, levels: int) -> None:
    assert folder_levels(num_files, 10_000) == levels
    duckdb_sql = with_file_names("(SELECT 'a' AS id, 's' AS source, 'i' AS structure_id)", ".pdb", levels)
    ((name,),) = duckdb.sql(f"SELECT file_name FROM ({duckdb_sql})").fetchall()
    digest = hashlib.sha256(b"a.pdb").hexdigest()
    assert name == "/".join([*(digest[2 * level : 2 * level + 2] for level in range(levels)), "a.pdb"])


def test_fasta_is_what_was_folded(built, indexed, tmp_path: Path) -> None:
    export(indexed.root, tmp_path / "out", format="fasta", where="length > 60")
    text = (tmp_path / "out" / "proteins.fasta").read_text()
    assert all(len(line) <= 60 for line in text.splitlines() if not line.startswith(">")) and "\x1b" not in text
    read = sorted(read_fasta(tmp_path / "out"))
    sql = "SELECT id, sequence FROM proteins JOIN sequences USING (structure_id) WHERE proteins.length > 60"
    assert read == sorted(rows_of(indexed.root, sql)) and len(read) > 10
    assert '>sp|P12345|odd/../name a description, "quoted" [31m red\n' in text
    (file,) = listing(tmp_path / "out")
    assert file["file"] == "proteins.fasta"
    check_digests(tmp_path / "out")


def test_parquet_has_all_columns_and_the_coordinates_as_stored(indexed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(export_module, "PROTEINS_PER_PARQUET_FILE", 100)
    monkeypatch.setattr(export_module, "PROTEINS_PER_PARQUET_GROUP", 30)
    done = export(indexed.root, tmp_path / "out", format="parquet", where="num_unknown < 3")
    paths = sorted((tmp_path / "out").glob("*.parquet"))
    names = [file["file"] for file in listing(tmp_path / "out")]
    assert len(paths) > 1 and len(names) == done.files and {path.name for path in paths} < set(names)
    schema = pq.read_schema(paths[0])
    assert schema.metadata[b"model"] == b"nano-untrained"
    assert schema.field("mean_plddt").metadata[b"range"] == b"0 to 100"
    for name in ("sequence", "x", "y", "z", "plddt"):
        assert schema.field(name).type == STRUCTURES.field(name).type
        assert schema.field(name).metadata == STRUCTURES.field(name).metadata
    back = duckdb.sql(f"SELECT * FROM '{tmp_path}/out/*.parquet' ORDER BY source, id")
    sql = (
        "SELECT proteins.*, sequence, x, y, z, plddt FROM proteins JOIN structures USING (structure_id) "
        "WHERE num_unknown < 3 ORDER BY source, id"
    )
    with Atlas.open(indexed.root) as atlas:
        result = atlas.query(sql)
        assert back.columns == result.columns and list(map(str, back.types)) == result.types
        assert back.fetchall() == result.rows()
    check_digests(tmp_path / "out")


def test_ids_in_every_form_and_what_is_missing_and_why(built, indexed, tmp_path: Path) -> None:
    a = built.given[0]["file:///data/a.fasta"]
    by_hash = format_structure_id(structure_id(a[10].sequence))  # two records have it
    pending = rows_of(indexed.root, "SELECT id FROM records WHERE state = 'pending'")[0][0]
    names = ["a1", "a1", "a0", "b.fasta:a0", "file:///data/a.fasta:a2", by_hash.replace("-", ""),
             "sp|P12345|odd/../name", "nope\tx", "digits", "a30", "b40", pending,
             "a13", "a17", "'; DROP TABLE records; --"]  # fmt: skip
    (tmp_path / "ids.txt").write_bytes("\r\n".join(names).encode() + b"\n\n  \n\xff\n")
    done = export(indexed.root, tmp_path / "out", format="pdb", ids=tmp_path / "ids.txt")
    found = sorted((f["id"], f["source"][-7:]) for f in listing(tmp_path / "out"))
    assert found == sorted(
        [("a1", "a.fasta"), ("a0", "a.fasta"), ("a0", "b.fasta"), ("a2", "a.fasta"), ("a10", "a.fasta"),
         ("a11", "a.fasta"), ("sp|P12345|odd/../name", "a.fasta"), ("a13", "a.fasta"), ("a17", "a.fasta")]
    )  # fmt: skip
    rows = {name: (why, detail) for name, why, detail, _ in missing(tmp_path / "out")}
    assert rows == {
        "nope\\tx": ("unknown", "no record has this id"),
        "digits": ("refused", "digit: the sequence holds digits"),
        "a30": ("failed", "out of memory"),
        "b40": ("failed", "out of memory"),
        pending: ("pending", "it is not folded yet"),
        "'; DROP TABLE records; --": ("unknown", "no record has this id"),
        "\\xff": ("unknown", "no record has this id"),
    }
    assert done.missing == {"unknown": 3, "refused": 1, "failed": 2, "pending": 1}
    check_digests(tmp_path / "out")


def test_ids_and_a_condition_together(indexed, tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_text("a3\na0\n")  # a3 is one residue long
    done = export(indexed.root, tmp_path / "out", format="fasta", ids=tmp_path / "ids.txt", where="length > 1")
    assert done.proteins == 2 and done.missing == {"excluded": 1}
    assert missing(tmp_path / "out")[0][:2] == ["a3", "excluded"]


def test_a_protein_that_pdb_cannot_hold_does_not_stop_the_rest(indexed, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("foldatlas.atlas.writers.pdb_files.MAX_RESIDUES", 80)
    done = export(indexed.root, tmp_path / "out", format="pdb")
    long = rows_of(indexed.root, "SELECT count(*) FROM proteins WHERE length > 80")[0][0]
    assert done.missing == {"unwritable": long} and long > 0
    assert {row[1] for row in missing(tmp_path / "out")} == {"unwritable"}
    check_digests(tmp_path / "out")


@pytest.mark.parametrize(
    "where",
    ["", "length >", "nosuch = 1", "true) UNION ALL (FROM proteins WHERE (true", "1; DROP TABLE records",
     "true ORDER BY id", "count(*) > 1", "id", "true, false",
     "(WITH q AS (COPY proteins TO '{file}') SELECT true)", "true /*", "id IN (SELECT 1) LIMIT 1"],
)  # fmt: skip
def test_invalid_condition_is_refused_and_leaves_nothing(indexed, tmp_path: Path, where: str) -> None:
    with pytest.raises(QueryError):
        export(indexed.root, tmp_path / "out", format="fasta", where=where.format(file=tmp_path / "written"))
    assert list(tmp_path.iterdir()) == []


def test_conditions_may_look_into_parquet_and_end_in_a_comment(indexed, tmp_path: Path) -> None:
    where = "structure_id IN (SELECT structure_id FROM sequences WHERE sequence LIKE 'M%') -- those that begin well"
    done = export(indexed.root, tmp_path / "out", format="fasta", where=where)
    read = read_fasta(tmp_path / "out")
    assert done.proteins == len(read) > 0 and all(sequence.startswith("M") for _, sequence in read)


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_chosen_is_an_export_of_nothing(indexed, tmp_path: Path, format: str) -> None:
    (tmp_path / "out").mkdir()  # an empty folder may be there
    done = export(indexed.root, tmp_path / "out", format=format, where="length < 0")
    assert done.proteins == 0 and json.loads((tmp_path / "out" / "manifest.json").read_text())["proteins"] == 0
    check_digests(tmp_path / "out")


def test_dest_and_atlas_are_never_harmed(indexed, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name, error in (
        ("full", "'mine.txt'"),
        ("file", "is a file"),
        ("link", "is a file"),
        ("file/x", "cannot be created"),
    ):
        with pytest.raises(UsageError, match=error):
            export(indexed.root, tmp_path / name, format="pdb")
    with pytest.raises(ForeignFolderError):
        export(indexed.root, tmp_path / "full", format="pdb")
    with pytest.raises(UsageError, match="inside the atlas"):
        export(indexed.root, indexed.root / "out", format="pdb")
    with pytest.raises(
        UsageError, match="'mol2' is not an export format: choose one of pdb, cif, fcz, tar, fasta, 3di"
    ):
        export(indexed.root, tmp_path / "out", format="mol2")
    with pytest.raises(UsageError, match="ids file"):
        export(indexed.root, tmp_path / "out", format="pdb", ids=tmp_path / "nothing.txt")
    with pytest.raises(NotAnAtlasError):
        export(tmp_path / "full", tmp_path / "out", format="pdb")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "full", "link"]
    assert not (indexed.root / "out").exists()


def test_a_damaged_file_stops_the_export_and_leaves_nothing(copy: Callable, tmp_path: Path) -> None:
    built = copy()
    build_index(built.folder)
    path = next((built.root / "structures").iterdir())
    path.write_bytes(path.read_bytes()[:-100])
    before = set(tmp_path.iterdir())
    with pytest.raises(DamagedAtlasError, match="foldatlas verify"):
        export(built.root, tmp_path / "out", format="pdb")
    assert set(tmp_path.iterdir()) == before
