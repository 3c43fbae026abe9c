"""Build the next version of a database of known sequences from FASTA records, in bounded memory.

Each file is staged as Parquet; DuckDB then keeps one row per distinct sequence. An entry has the name of the first
record with its sequence, in the order of version, file and offset.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.reference.reader import Reference, newest
from foldatlas.atlas.reference.version import Written, write_version
from foldatlas.atlas.sql.text import literal
from foldatlas.atlas.storage.commit import replacing
from foldatlas.schemas.reference_tables import FILES, LEFT, RECORDS, SEQUENCE_ENTRIES, ReferenceVersion
from foldatlas.schemas.tables import STAGING

_ROWS: Final = 50_000  # read and written at a time
_MEMORY: Final = "4GB"  # limit of DuckDB, which then uses temporary files in the staging folder
# What became of a record, in SQL over `ranked`: its own reason, or whether it is the first of its sequence.
_OUTCOME: Final = "CASE WHEN structure_id IS NULL THEN outcome WHEN rank = 1 THEN 'entry' ELSE 'identical' END"


class SequenceFile(NamedTuple):
    """A FASTA file. `read` returns its validated records (`schemas.tables.STAGING` without the source)."""

    source: str
    size: int
    mtime_ns: int
    etag: str
    read: Callable[[], Iterable[pa.RecordBatch]]

    @property
    def version(self) -> tuple[str, int, int, str]:
        return self.source, self.size, self.mtime_ns, self.etag


def build_sequences(
    folder: ReferenceFolder, files: Sequence[SequenceFile], *, licence: str, sync: bool = False
) -> ReferenceVersion | None:
    """Commit the next version: the previous one with the records of `files`. Return None if nothing would change.

    A changed file replaces its older records. With `sync`, records of files that are not in `files` are removed.
    """
    before = newest(folder)
    number = before.version + 1 if before else 1
    rows = {row["source"]: row for row in (before.table("files").to_pylist() if before else [])}
    known = {(row["source"], row["size"], row["mtime_ns"], row["etag"]) for row in rows.values()}
    gone = {source: "removed" for source in rows if sync and source not in {file.source for file in files}}
    waiting = [file for file in files if file.version not in known]
    if not waiting and not gone:
        return None
    folder.staging.mkdir(parents=True, exist_ok=True)
    staged = []
    for file in waiting:
        path = folder.staging / f"{hashlib.sha256(repr(file.version).encode()).hexdigest()[:32]}.parquet"
        if not path.exists():  # staged by an interrupted run
            _stage(file, path)
        staged.append(path)
        if file.source in rows:
            gone[file.source] = "changed"
        rows[file.source] = _file_row(file, path, licence, number)
    rows = {source: row for source, row in rows.items() if gone.get(source) != "removed"}

    def write(target: Path) -> Written:
        return _written(target, folder.staging, before, staged, rows, gone, number)

    document = write_version(folder, before.document if before else None, "sequences", write)
    shutil.rmtree(folder.staging)
    return document


def _stage(file: SequenceFile, path: Path) -> None:
    fields = [field for field in STAGING if field.name != "source"]
    schema = pa.schema([pa.field("source", pa.string()), *fields])
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for batch in file.read():
            table = pa.Table.from_batches([batch])
            source = pa.array([file.source] * table.num_rows, pa.string())
            columns = [source if name == "source" else table.column(name) for name in schema.names]
            writer.write_table(pa.table(columns, schema=schema))


def _file_row(file: SequenceFile, path: Path, licence: str, number: int) -> dict[str, Any]:
    count = pq.read_metadata(path).num_rows
    return {
        "source": file.source,
        "member": "",
        "size": file.size,
        "mtime_ns": file.mtime_ns,
        "etag": file.etag,
        "sha256": "",
        "outcome": "read" if count else "empty",
        "detail": "",
        "chains": count,
        "licence": licence,
        "version": number,
    }


def _written(
    target: Path,
    work: Path,
    before: Reference | None,
    staged: list[Path],
    files: dict[str, dict[str, Any]],
    gone: dict[str, str],
    number: int,
) -> Written:
    connection = duckdb.connect(
        config={"temp_directory": str(work / "spill"), "memory_limit": _MEMORY, "arrow_lossless_conversion": True}
    )
    with connection:
        _prepare(connection, before, staged, files, gone, number)
        entries, residues, digest, licences = _write_entries(connection, target)
        _write_query(
            connection,
            f'SELECT source, "offset", name, structure_id, {_OUTCOME} AS outcome, version '
            'FROM ranked ORDER BY version, source, "offset"',
            target / "records.parquet",
            RECORDS,
        )
        left = []
        if before:
            columns = ["name", "structure_id", "version", "source"]
            connection.register("old_entries", before.entries(columns))
            found = connection.execute(
                "SELECT name, structure_id, version, source FROM old_entries ANTI JOIN "
                "(SELECT structure_id FROM ranked WHERE structure_id IS NOT NULL) USING (structure_id) ORDER BY name"
            ).fetchall()
            left = before.table("left").to_pylist()
            left += [
                {"name": name, "structure_id": identity, "version": version, "source": source}
                | {"left": number, "reason": gone.get(source, "changed"), "member": ""}
                for name, identity, version, source in found
            ]
        for row in left:
            row["structure_id"] = getattr(row["structure_id"], "bytes", row["structure_id"])
        chains = dict(
            connection.execute(f"SELECT {_OUTCOME} AS o, count(*) FROM ranked GROUP BY o ORDER BY o").fetchall()
        )
        [(new,)] = connection.execute("SELECT count(*) FROM entries WHERE version = ?", [number]).fetchall()
    for name, rows, schema in (("files", [files[source] for source in sorted(files)], FILES), ("left", left, LEFT)):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), target / f"{name}.parquet", compression="zstd")
    outcomes: dict[str, int] = {}
    for row in files.values():
        outcomes[row["outcome"]] = outcomes.get(row["outcome"], 0) + 1
    num_left = sum(row["left"] == number for row in left)
    return Written(digest, licences, entries, residues, new, num_left, chains, dict(sorted(outcomes.items())))


def _prepare(
    connection: Any,
    before: Reference | None,
    staged: list[Path],
    files: dict[str, dict[str, Any]],
    gone: dict[str, str],
    number: int,
) -> None:
    """Make `ranked`, every live record with its place among those of its sequence, and `entries`."""
    connection.register("gone", pa.table({"source": pa.array(list(gone), pa.string())}))
    licences = [(source, row["licence"]) for source, row in files.items()]
    connection.register(
        "licences",
        pa.table({"source": pa.array([s for s, _ in licences]), "licence": pa.array([name for _, name in licences])}),
    )
    new = ", ".join(literal(str(path)) for path in staged)
    parts, texts = [], []
    if before:
        records, entries = (literal(str(before.data / f"{name}.parquet")) for name in ("records", "entries"))
        parts.append(
            f'SELECT source, "offset", name, structure_id, outcome, version FROM read_parquet({records}) '
            "WHERE source NOT IN (SELECT source FROM gone)"
        )
        texts.append(f"SELECT structure_id, title, sequence, version, name FROM read_parquet({entries})")
    if staged:
        parts.append(
            f'SELECT source, "offset", id AS name, structure_id, outcome, {number}::INTEGER AS version '
            f"FROM read_parquet([{new}])"
        )
        texts.append(
            f"SELECT structure_id, description AS title, sequence, {number}::INTEGER AS version, NULL AS name "
            f"FROM read_parquet([{new}]) WHERE sequence IS NOT NULL"
        )
    connection.execute(
        "CREATE TABLE ranked AS SELECT *, row_number() OVER "
        '(PARTITION BY structure_id ORDER BY version, source, "offset") AS rank '
        f"FROM ({' UNION ALL '.join(parts)})"
    )
    connection.execute(
        "CREATE TABLE texts AS SELECT structure_id, arg_min(title, version) AS title, "
        f"any_value(sequence) AS sequence, min(version) AS version FROM ({' UNION ALL '.join(texts)}) "
        "GROUP BY structure_id"
    )
    connection.execute(
        "CREATE TABLE entries AS SELECT ranked.name, texts.title, texts.sequence, "
        "length(texts.sequence)::INTEGER AS length, structure_id, texts.version, licence, ranked.source, "
        'ranked."offset" FROM ranked JOIN texts USING (structure_id) JOIN licences USING (source) WHERE rank = 1'
    )


def _write_entries(connection: Any, target: Path) -> tuple[int, int, str, list[str]]:
    digest = hashlib.sha256()
    licences: set[str] = set()
    entries = residues = 0
    reader = connection.sql(
        "SELECT name, title, sequence, length, structure_id, version, licence, source FROM entries "
        'ORDER BY version, source, "offset"'
    ).to_arrow_reader(_ROWS)
    with (
        pq.ParquetWriter(target / "entries.parquet", SEQUENCE_ENTRIES, compression="zstd") as writer,
        DatabaseWriter(target / "amino_acids") as amino_acids,
    ):
        for batch in reader:
            table = pa.Table.from_batches([batch]).cast(SEQUENCE_ENTRIES)
            writer.write_table(table)
            columns = [table.column(name).to_pylist() for name in ("name", "sequence", "licence", "version")]
            amino_acids.write(sequence.encode("ascii") for sequence in columns[1])
            for row in zip(*columns, strict=True):
                digest.update(("\t".join(map(str, row)) + "\n").encode())
            licences.update(columns[2])
            entries += table.num_rows
            residues += sum(map(len, columns[1]))
    return entries, residues, digest.hexdigest(), sorted(licences)


def _write_query(connection: Any, sql: str, path: Path, schema: pa.Schema) -> None:
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in connection.sql(sql).to_arrow_reader(_ROWS):
            writer.write_table(pa.Table.from_batches([batch]).cast(schema))
