"""Bundles, 3Di, subsets that are atlases, and the lists of an export, each read by another program."""

import hashlib
import json
import subprocess
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import gemmi
import mini3di
import numpy as np
import pytest
from Bio import SeqIO
from Bio.PDB import PDBParser

from foldatlas.atlas.export import subset
from foldatlas.atlas.export.bundles import bin_name
from foldatlas.atlas.export.subset import export
from foldatlas.atlas.export.subset_atlas import located_sql, not_in_atlas
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.merge import merge_atlases
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.verify.atlas import verify
from foldatlas.schemas.errors import QueryError, UsageError


def rows_of(atlas: Path, sql: str) -> list[tuple[Any, ...]]:
    with Atlas.open(atlas) as opened:
        return opened.query(sql).rows()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def fasta(path: Path) -> list[Any]:
    with path.open() as file:
        return list(SeqIO.parse(file, "fasta"))


def check_sums(dest: Path) -> None:
    done = subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=dest, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    summed = {line.split("  ", 1)[1] for line in (dest / "SHA256SUMS").read_text().splitlines()}
    assert summed == {str(path.relative_to(dest)) for path in dest.rglob("*") if path.is_file()} - {"SHA256SUMS"}


@pytest.mark.parametrize(("members", "read"), [("pdb", gemmi.read_pdb_string), ("cif", gemmi.cif.read_string)])
def test_bundles_hold_each_structure_once(
    indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, members: str, read: Callable[[str], Any]
) -> None:
    monkeypatch.setattr(subset, "ROWS", 30)  # several parts in each bundle
    done = export(indexed.root, tmp_path / "out", format="tar", members=members)
    export(indexed.root, tmp_path / "files", format=members)
    single = {
        (file["id"], file["source"]): (tmp_path / "files" / file["file"]).read_bytes()
        for file in lines(tmp_path / "files" / "files.jsonl")
    }
    scores = rows_of(indexed.root, "SELECT id, source, ptm, mean_plddt FROM proteins")
    bins = {(id, source): bin_name(ptm, plddt) for id, source, ptm, plddt in scores}
    listed = lines(tmp_path / "out" / "members.jsonl")
    assert len(listed) == len(single) == done.proteins and done.files == len(set(bins.values())) > 10
    by_name = {(one["file"], one["member"]): one for one in listed}
    found = 0
    for path in (tmp_path / "out").glob("*.tar.gz"):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member).read()  # type: ignore[union-attr]
                one = by_name[path.name, member.name]
                key = one["id"], one["source"]
                assert content == single[key] and path.name == f"{bins[key]}.tar.gz"
                assert hashlib.sha256(content).hexdigest() == one["sha256"] and len(content) == one["bytes"]
                assert member.isreg() and member.name.startswith(f"{bins[key]}/") and ".." not in member.name.split("/")
                found += 1
                if found % 40 == 0:
                    read(content.decode())
        assert subprocess.run(["gzip", "--test", path]).returncode == 0
        names = subprocess.run(["tar", "-tzf", path], capture_output=True, text=True, check=True).stdout.splitlines()
        assert len(names) == sum(one["file"] == path.name for one in listed)
    assert found == len(listed)
    check_sums(tmp_path / "out")


@pytest.mark.parametrize(
    ("ptm", "plddt", "name"),
    [
        (0.0, 0.0, "ptm_0.00-0.10_plddt_0-10"),
        (np.float32(0.7), np.float32(70), "ptm_0.70-0.80_plddt_70-80"),
        (0.699, 69.99, "ptm_0.60-0.70_plddt_60-70"),
        (np.float32(0.3), 89.999, "ptm_0.30-0.40_plddt_80-90"),
        (1.0, 100.0, "ptm_0.90-1.00_plddt_90-100"),
        (None, float("nan"), "ptm_unknown_plddt_unknown"),
    ],
)
def test_bins_are_named_by_their_limits(ptm: float | None, plddt: float, name: str) -> None:
    assert bin_name(ptm, plddt) == name


def test_3di_states_are_those_of_mini3di(indexed: Any, tmp_path: Path) -> None:
    """mini3di encodes the PDB files of the same proteins. Both FASTA files have the same records, in one order."""
    where = "length BETWEEN 8 AND 40 AND num_unknown = 0"
    export(indexed.root, tmp_path / "states", format="3di", where=where)
    export(indexed.root, tmp_path / "pdb", format="pdb", where=where)
    sequences, states = (fasta(tmp_path / "states" / name) for name in ("proteins.fasta", "proteins_ss.fasta"))
    files = lines(tmp_path / "pdb" / "files.jsonl")
    assert len(files) == len(sequences) > 50
    assert [one.description for one in sequences] == [one.description for one in states]
    assert [one.id for one in sequences] == [file["id"].split()[0] for file in files]
    encoder = mini3di.Encoder()
    for sequence, state, file in zip(sequences, states, files, strict=True):
        (chain,) = PDBParser(QUIET=True).get_structure("x", tmp_path / "pdb" / file["file"])[0]
        assert str(state.seq) == encoder.build_sequence(encoder.encode_chain(chain)), file["id"]
        assert len(state.seq) == len(sequence.seq)
    check_sums(tmp_path / "states")


def test_a_parquet_export_is_an_atlas(indexed: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It opens, is sound, has the same records, scores, runs and coordinates, and can be exported and merged."""
    monkeypatch.setattr(subset, "PROTEINS_PER_PARQUET_FILE", 50)
    done = export(indexed.root, tmp_path / "out", format="parquet", where="length < 70 AND id <> 'a2'")
    check_sums(tmp_path / "out")
    result = verify(AtlasFolder(tmp_path / "out"))
    assert result.faults == [] and result.notes == [] and result.proteins > 100
    moved = {"structure_file", "structure_row", "structure_row_group"}
    columns = [name for (name,) in rows_of(indexed.root, "SELECT column_name FROM (DESCRIBE proteins)")]
    same = ", ".join(name for name in columns if name not in moved)
    joined = "FROM proteins JOIN structures USING (structure_id) ORDER BY source, id"
    sql = f"SELECT {same}, sequence, x, y, z, plddt {joined}"
    kept = "(SELECT * FROM proteins WHERE length < 70 AND id <> 'a2') AS proteins"
    assert rows_of(tmp_path / "out", sql) == rows_of(indexed.root, sql.replace("FROM proteins", f"FROM {kept}"))
    offsets = 'SELECT source, "offset", id, length, sequence_crc64, outcome, state FROM records'
    condition = "WHERE state = 'folded' AND NOT superseded AND length < 70 AND id <> 'a2' ORDER BY ALL"
    assert rows_of(tmp_path / "out", f"{offsets} ORDER BY ALL") == rows_of(indexed.root, f"{offsets} {condition}")
    assert done.proteins == rows_of(tmp_path / "out", "SELECT count(*) FROM proteins")[0][0]
    export(tmp_path / "out", tmp_path / "again", format="pdb")
    export(indexed.root, tmp_path / "first", format="pdb", where="length < 70 AND id <> 'a2'")
    again, first = ({f["id"] + f["source"]: f["sha256"] for f in lines(tmp_path / name / "files.jsonl")}
                    for name in ("again", "first"))  # fmt: skip
    assert again == first
    export(indexed.root, tmp_path / "rest", format="parquet", where="length >= 70 OR id = 'a2'")
    merge_atlases([tmp_path / "out", tmp_path / "rest"], tmp_path / "all")
    counts = "SELECT count(*), count(DISTINCT structure_id), sum(length) FROM proteins"
    assert rows_of(tmp_path / "all", counts) == rows_of(indexed.root, counts)
    assert verify(AtlasFolder(tmp_path / "all")).faults == []


def test_an_empty_parquet_export_is_an_atlas(indexed: Any, tmp_path: Path) -> None:
    export(indexed.root, tmp_path / "out", format="parquet", where="length < 0")
    assert rows_of(tmp_path / "out", "SELECT count(*) FROM proteins") == [(0,)]
    assert verify(AtlasFolder(tmp_path / "out")).faults == []


def test_records_of_two_versions_at_one_offset_are_counted() -> None:
    """Concurrent drivers may leave two current versions of a file: of two records at one offset the atlas takes one."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE chosen AS FROM (VALUES ('f', 'a', 1), ('f', 'a', 1), ('f', 'b', 2), ('f', 'c', 3), "
        "('g', 'c', 3)) "
        "AS chosen(source, id, structure_id)"
    )
    connection.execute(
        "CREATE TABLE records AS SELECT *, 'folded' AS state, false AS superseded, 9 AS length FROM (VALUES "
        "('f', 'a', 1, 0), ('f', 'a', 1, 0), ('f', 'b', 2, 10), ('f', 'c', 3, 10), ('g', 'c', 3, 10)) "
        'AS records(source, id, structure_id, "offset")'
    )
    connection.execute(f"CREATE TABLE located AS {located_sql(1)}")
    kept = connection.execute("SELECT source, id FROM located WHERE in_atlas ORDER BY ALL").fetchall()
    assert kept == [("f", "a"), ("f", "b"), ("g", "c")] and not_in_atlas(connection) == 2
    connection.close()


@pytest.mark.parametrize("key", ["structure_id", "id, source", "id", "structure_id::VARCHAR AS structure_id, 1 AS n"])
def test_sql_selects_by_its_keys(indexed: Any, tmp_path: Path, key: str) -> None:
    condition = "mean_plddt > 60 AND length > 30"
    done = export(indexed.root, tmp_path / "out", format="fasta", sql=f"SELECT {key} FROM proteins WHERE {condition};")
    named = {"id": "id", "id, source": "(id, source)"}.get(key, "structure_id")
    selected = f"SELECT id FROM proteins WHERE {named} IN (SELECT {named} FROM proteins WHERE {condition})"
    expected = sorted(id for (id,) in rows_of(indexed.root, selected))
    read = [record.id for record in fasta(tmp_path / "out" / "proteins.fasta")]
    assert sorted(read) == expected and len(expected) > 20
    assert done.missing == {} and not (tmp_path / "out" / "missing.tsv").exists()


def test_sql_lists_what_no_protein_has(indexed: Any, tmp_path: Path) -> None:
    known, unknown = rows_of(indexed.root, "SELECT min(structure_id) FROM proteins")[0][0], uuid.UUID(int=5)
    sql = f"SELECT unnest(['{known}', '{unknown}', NULL, 'no uuid', '{known}']) AS structure_id"
    done = export(indexed.root, tmp_path / "out", format="fasta", sql=sql, where="length > 0")
    assert done.proteins >= 1 and done.missing == {"unknown": 2}
    names = [line.split("\t")[0] for line in (tmp_path / "out" / "missing.tsv").read_text().splitlines()[1:]]
    assert names == [str(unknown), "no uuid"]


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("SELECT length FROM proteins", "--sql must return a column structure_id or id, it returns length"),
        ("SELECT nosuch FROM proteins", "nosuch"),
        ("DROP TABLE records", "not a query"),
        ("SELECT id FROM proteins; SELECT 1", "2 statements"),
        ("SELECT 1::INT / 'x' AS id", "x"),
        ("", "empty"),
    ],
)
def test_wrong_sql_is_refused_and_leaves_nothing(indexed: Any, tmp_path: Path, sql: str, message: str) -> None:
    with pytest.raises(QueryError, match=message):
        export(indexed.root, tmp_path / "out", format="fasta", sql=sql)
    assert list(tmp_path.iterdir()) == []


def test_licence_citation_and_addresses(indexed: Any, tmp_path: Path) -> None:
    where = "id IN ('a1', 'CON', 'sp|P12345|odd/../name')"
    stated = {"licence": "CC BY 4.0", "base_url": "https://x.org/a%20b/"}
    export(indexed.root, tmp_path / "out", format="pdb", where=where, **stated)
    export(indexed.root, tmp_path / "plain", format="fcz", where=where)
    check_sums(tmp_path / "out")
    assert "in this folder: CC BY 4.0\n" in (tmp_path / "out" / "LICENCE").read_text()
    assert "in this folder: unknown\n" in (tmp_path / "plain" / "LICENCE").read_text()
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["licence"] == "CC BY 4.0"
    assert json.loads((tmp_path / "plain" / "manifest.json").read_text())["licence"] == "unknown"
    assert not (tmp_path / "plain" / "aria2.txt").exists()
    cited = [(tmp_path / name / "CITATION.bib").read_text().count("@article") for name in ("out", "plain")]
    assert cited == [1, 2]
    entries = (tmp_path / "out" / "aria2.txt").read_text().splitlines()
    files = lines(tmp_path / "out" / "files.jsonl")
    assert entries[::3] == [f"https://x.org/a%20b/{file['file']}" for file in files]
    assert entries[1::3] == [f"  out={file['file']}" for file in files]
    assert entries[2::3] == [f"  checksum=sha-256={file['sha256']}" for file in files]


@pytest.mark.parametrize("address", ["x.org/a", "https://x.org/a b", "https://x.org/\n  dir=/etc"])
def test_an_address_that_is_none_is_refused(indexed: Any, tmp_path: Path, address: str) -> None:
    with pytest.raises(UsageError, match="is not an address"):
        export(indexed.root, tmp_path / "out", format="pdb", base_url=address)


def test_licences_of_references_are_named(tmp_path: Path) -> None:
    """Where a reference's licence was not stated it is `unknown`."""
    from foldatlas.atlas.export.credits import citation_text, licence_text

    references = [
        {"reference": "pdb\x1b[31m", "version": 2, "search": "structures", "licences": ["CC0"]},
        {"reference": "mine", "version": 1, "search": "sequences", "licences": ["unknown"]},
    ]
    text = licence_text(None, "nano", "1.0", references)
    assert "reference pdb\\x1b[31m, version 2; licence: CC0\n" in text
    assert "reference mine, version 1; licence: unknown\n" in text
    cited = citation_text("pdb", "nano", references, clustered=True)
    assert [name for name in ("ade2574", "gki524", "s41587-023-01773-0", "nbt.3988", "btad153") if name in cited] == [
        "ade2574", "gki524", "s41587-023-01773-0", "nbt.3988"
    ]  # fmt: skip
