"""Write a subset of an atlas to a folder: structure files, FASTA or Parquet, with digests.

    DEST/<file>          pdb, cif, fcz: one file per record, in numbered subfolders if there are more than 10,000
                         fasta: proteins.fasta     parquet: proteins-00000.parquet ...
    DEST/manifest.json   atlas, settings, the selection, counts
    DEST/files.jsonl     one line per file: file, bytes, sha256, and for a file of one record its id, source and
                         structure_id
    DEST/missing.tsv     what is missing, and why (with --ids, or if a structure could not be written)
    DEST/SHA256SUMS      for `sha256sum --check SHA256SUMS`

The folder is written under a hidden name and renamed, so that DEST is complete or absent. Memory does not grow with the
number of proteins.
"""

import contextlib
import difflib
import hashlib
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import duckdb
import msgspec
import pyarrow as pa

from foldatlas.atlas.export.fasta_files import fasta_text
from foldatlas.atlas.export.file_names import with_file_names
from foldatlas.atlas.export.formats import FORMATS, STRUCTURE_FORMATS
from foldatlas.atlas.export.id_files import names_in
from foldatlas.atlas.export.structure_files import structure_writer
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index.views import protein_columns
from foldatlas.atlas.parquet.coordinates import decode_structures
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.parquet.structures import StructureLocation, StructureReader, by_row_group
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.query import query_errors, read_only
from foldatlas.atlas.sql.records_by_name import find_records
from foldatlas.atlas.sql.result_formats import escape_controls
from foldatlas.atlas.sql.text import quoted
from foldatlas.atlas.storage.addresses import is_address
from foldatlas.atlas.storage.commit import hidden, hidden_owner, owner_is_dead
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.schemas.errors import ForeignFolderError, QueryError, UsageError
from foldatlas.schemas.records import REFUSALS, Outcome, format_structure_id
from foldatlas.schemas.tables import FORMAT_VERSION, STRUCTURES
from foldatlas.schemas.version import program_version

FILES_PER_FOLDER: Final = 10_000
PROTEINS_PER_PARQUET_FILE: Final = 100_000
PROTEINS_PER_PARQUET_GROUP: Final = 1_024

_ROWS_PER_BATCH: Final = 10_000
_JSON: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    `missing` counts rows of missing.tsv by reason: unknown, refused, failed, repeated, pending, excluded (by the
    condition or the limit) or unwritable (beyond the limits of the format).
    """

    folder: Path
    proteins: int
    files: int
    bytes: int
    missing: dict[str, int]
    ids_read_as: str | None = field(default=None, compare=False)  # a description of how the file of ids was read


@dataclass
class _Folder:
    """The export folder during writing: open files of the listing and digests, and counts for `Exported`."""

    root: Path
    listing: IO[bytes]
    sums: IO[bytes]
    missing: IO[bytes] | None = None
    proteins: int = 0
    files: int = 0
    bytes: int = 0
    num_missing: Counter[str] = field(default_factory=Counter)

    def add_file(self, name: str, size: int, sha256: str, proteins: int, **more: str) -> None:
        self.listing.write(_JSON.encode({"file": name, "bytes": size, "sha256": sha256, **more}) + b"\n")
        self.add_sum(name, sha256)
        self.files += 1
        self.bytes += size
        self.proteins += proteins

    def add_sum(self, name: str, sha256: str) -> None:
        self.sums.write(f"{sha256}  {name}\n".encode())

    def close(self) -> None:
        """Close the two lists, so that their digests can be computed."""
        self.listing.close()
        if self.missing is not None:
            self.missing.close()

    def add_missing(self, name: str, why: str, detail: str, source: str) -> None:
        """Add a row to missing.tsv, with control characters escaped."""
        if self.missing is None:
            self.missing = (self.root / "missing.tsv").open("xb")
            self.missing.write(b"name\twhy\tdetail\tsource\n")
        cells = map(escape_controls, (name, why, detail, source))
        self.missing.write("\t".join(cells).encode() + b"\n")
        self.num_missing[why] += 1


def export(
    atlas: str | Path,
    dest: str | Path,
    *,
    format: str,
    where: str | None = None,
    ids: str | Path | None = None,
    order_by: str | None = None,
    limit: int | None = None,
) -> Exported:
    """Export folded records of `atlas` to the new folder `dest`.

    where: an SQL condition on the view `proteins` (None: all).
    ids: a file of ids, source:id or structure_id (id_files.py; None: all). Ids without a structure are listed in
        missing.tsv.
    limit: export only the first records by `order_by`.
    order_by: a column of `proteins`, optionally followed by ASC or DESC. NULL comes last, and equal values are ordered
        by id, source and structure_id.

    Raise UsageError, ForeignFolderError (`dest` is not empty), QueryError, NotAnAtlasError, DamagedAtlasError.
    """
    if format not in FORMATS:
        raise UsageError(f"{format!r} is not an export format: choose one of {', '.join(FORMATS)}")
    if is_address(dest):
        raise UsageError(f"{dest}: an export is written to a local folder: give one, and copy it afterwards")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit {limit} must be 1 or more: it counts the proteins to export")
    if order_by is not None and limit is None:
        raise UsageError("--order-by decides which proteins --limit keeps: give --limit too")
    dest = Path(dest)
    with Atlas.open(atlas) as opened:
        _refuse_dest(dest, opened.folder)
        cursor = opened.cursor(where or "")
        order = None if limit is None else f"{_order(cursor, order_by)} LIMIT {limit}"
        num_proteins, ids_read_as = _choose(cursor, where, ids, order)
        with (
            _new_folder(dest) as root,
            (root / "SHA256SUMS").open("xb") as sums,
            (root / "files.jsonl").open("xb") as listing,
            contextlib.closing(_Folder(root, listing, sums)) as folder,
        ):
            if ids is not None:
                _write_missing(cursor, folder, limited=limit is not None)
            if format in STRUCTURE_FORMATS:
                _write_structures(opened, cursor, folder, num_proteins, format)
            elif format == "fasta":
                _write_fasta(opened, cursor, folder, num_proteins)
            else:
                _write_parquet(opened, cursor, folder)
            folder.close()
            manifest = {
                "created": now(),
                "version": program_version(),
                "atlas": opened.folder.uri,
                "settings": opened.header.settings,
                "format": format,
                "where": where,
                "ids": None if ids is None else str(ids),
                "ids_read_as": ids_read_as,
                "order_by": order_by,
                "limit": limit,
                "proteins": folder.proteins,
                "files": folder.files,
                "bytes": folder.bytes,
                "missing": dict(folder.num_missing),
                "listing": "files.jsonl",
            }
            (root / "manifest.json").write_bytes(msgspec.json.format(_JSON.encode(manifest), indent=1) + b"\n")
            for name in ("files.jsonl", "manifest.json", "missing.tsv"):
                if (root / name).exists():
                    folder.add_sum(name, file_sha256(root / name))
    return Exported(dest, folder.proteins, folder.files, folder.bytes, dict(folder.num_missing), ids_read_as)


def _refuse_dest(dest: Path, atlas: AtlasFolder) -> None:
    if dest.is_symlink() or (dest.exists() and not dest.is_dir()):
        raise ForeignFolderError(f"{dest} is a file: give a new folder for the export")
    if dest.is_dir() and (first := next(iter(sorted(dest.iterdir())), None)) is not None:
        raise ForeignFolderError(f"{dest} is not empty (it contains {first.name!r}): give a new folder for the export")
    if atlas.storage.contains(dest):
        raise UsageError(f"{dest} is inside the atlas {atlas.uri}: give a folder outside it")


@contextlib.contextmanager
def _new_folder(dest: Path) -> Iterator[Path]:
    """Create a hidden folder beside `dest`, which becomes `dest` if the block succeeds and is deleted otherwise."""
    try:
        dest.parent.mkdir(parents=True, exist_ok=True)
        for old in dest.parent.iterdir():
            owner = hidden_owner(old) if old.name.startswith(f".{dest.name}.") else None
            if owner is not None and owner_is_dead(owner):
                shutil.rmtree(old, ignore_errors=True)
        root = hidden(dest.absolute())
        root.mkdir()
    except OSError as error:
        raise UsageError(f"{dest} cannot be created ({error}): give another folder for the export") from error
    try:
        yield root
        try:
            root.rename(dest)
        except OSError as error:
            raise ForeignFolderError(f"{dest} was created by another process ({error}): give a new folder") from error
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _order(cursor: Any, order_by: str | None) -> str:
    """Return ORDER BY for `order_by`, a column of `proteins`, optionally with ASC or DESC; refuse any other SQL."""
    ties = "id, source, structure_id"
    if order_by is None:
        return f"ORDER BY {ties}"
    words = order_by.split()
    if len(words) not in (1, 2) or (len(words) == 2 and words[1].upper() not in ("ASC", "DESC")):
        raise UsageError(f"--order-by {order_by!r} is not a column of proteins, optionally followed by ASC or DESC")
    columns = {name.lower(): name for name in cursor.sql("FROM proteins").columns}
    name = words[0].lower().removeprefix('"').removesuffix('"')
    if name not in columns:
        near = [column for column in columns if name and name in column] or difflib.get_close_matches(name, columns)
        meant = f"did you mean {' or '.join(near[:3])}?" if near else f"choose one of {', '.join(columns.values())}"
        raise QueryError(f"--order-by {order_by!r}: proteins has no column {words[0]!r}: {meant}")
    return f"ORDER BY {quoted(columns[name])} {words[1].upper() if len(words) == 2 else 'ASC'} NULLS LAST, {ties}"


def _choose(cursor: Any, where: str | None, ids: str | Path | None, order: str | None) -> tuple[int, str | None]:
    """Create the temporary table `chosen` of rows of `proteins`; with `ids`, also `wanted` and `found`
    (sql/records_by_name.py).

    Return the number of rows and how `ids` was read. `order` is an ORDER BY with a LIMIT.
    """
    conditions = []
    ids_read_as = None
    if where is not None:
        if not where.strip():
            raise QueryError("the condition is empty: give one like 'mean_plddt > 70', or omit it")
        with query_errors(wrapped=False):
            duckdb.SQLExpression(
                where
            )  # raises unless `where` is a single expression; "true) ... (" would change the statement
        conditions.append(f"(\n{where}\n)")
    if ids is not None:
        with names_in(ids) as file:
            ids_read_as = file.read_as
            interruptible_call(cursor, lambda: find_records(cursor, file.names))
        if file.first_may_be_header:  # if no record has this name, it is a header
            cursor.execute("DELETE FROM wanted WHERE number = 0 AND number NOT IN (SELECT number FROM found)")
        conditions.append(
            "(source, id, structure_id) IN (SELECT source, id, structure_id FROM found WHERE state = 'folded')"
        )
    statement = "SELECT * FROM proteins" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
    with query_errors():
        if len(cursor.extract_statements(statement)) != 1:
            raise QueryError(f"--where {where!r} is not a condition: give one like 'mean_plddt > 70'")
        ordered = statement if order is None else f"{statement} {order}"
        interruptible_call(cursor, lambda: cursor.execute(f"CREATE TEMP TABLE chosen AS {ordered}"))
    # fetchone would leave the statement open
    return int(cursor.execute("SELECT count(*) FROM chosen").fetchall()[0][0]), ids_read_as


def _write_missing(cursor: Any, folder: _Folder, *, limited: bool) -> None:
    """Write to missing.tsv each requested name without an exported protein, one row per record with that name."""
    rows = cursor.execute(
        "WITH given AS (SELECT DISTINCT found.number FROM found SEMI JOIN chosen USING (source, id, structure_id) "
        "WHERE found.state = 'folded') "
        "SELECT wanted.name, found.state, found.outcome, found.source, failures.error FROM wanted "
        "ANTI JOIN given USING (number) LEFT JOIN found USING (number) LEFT JOIN failures USING (structure_id) "
        'ORDER BY wanted.number, found.source, found."offset"'
    )
    while batch := rows.fetchmany(_ROWS_PER_BATCH):
        for name, state, outcome, source, error in batch:
            if state is None:
                folder.add_missing(name, "unknown", "no record has this id", "")
            elif state == "folded":
                why = "it does not meet the condition" + (" or is beyond the limit" if limited else "")
                folder.add_missing(name, "excluded", why, source)
            elif state == "refused":
                folder.add_missing(name, state, f"{outcome}: {REFUSALS[Outcome(outcome)]}", source)
            else:
                details = {"failed": error, "pending": "it is not folded yet", "repeated": "its first record counts"}
                folder.add_missing(name, state, details[state], source)


def _selected(opened: Atlas, cursor: Any, sql: str, columns: list[str] | None) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield rows of `sql` with their rows of the structures files, one row group at a time."""
    ordered = read_only(cursor, f"{sql} ORDER BY structure_file, structure_row, id, source")
    with StructureReader(opened.folder.storage, columns) as reader:
        for batch in ordered.batches():
            table = pa.table(batch)
            identities: Any = table.column("structure_id").combine_chunks()
            locations = map(
                StructureLocation,
                identities.storage.to_pylist(),
                table.column("structure_file").to_pylist(),
                table.column("structure_row").to_pylist(),
            )
            begin = 0
            for together in by_row_group(locations):
                yield table.slice(begin, len(together)), reader.rows(together)
                begin += len(together)


def _write_structures(opened: Atlas, cursor: Any, folder: _Folder, num_proteins: int, format: str) -> None:
    naming = f"CREATE TEMP TABLE named AS {with_file_names('chosen', '.' + format)}"
    with query_errors():
        interruptible_call(cursor, lambda: cursor.execute(naming))
    sql = "SELECT id, source, structure_id, mean_plddt, ptm, model, structure_file, structure_row, file_name FROM named"
    spread = num_proteins > FILES_PER_FOLDER
    with structure_writer(format) as content_of:
        for rows, stored in _selected(opened, cursor, sql, None):
            for row, structure in zip(rows.to_pylist(), decode_structures(stored), strict=True):
                described = {"model": row["model"], "mean_plddt": row["mean_plddt"], "ptm": row["ptm"]}
                try:
                    content = content_of(structure, name=row["id"], **described)
                except UsageError as error:
                    folder.add_missing(row["id"], "unwritable", str(error), row["source"])
                    continue
                name = row["file_name"]
                if spread:
                    name = f"{folder.files // FILES_PER_FOLDER:05d}/{name}"
                    if folder.files % FILES_PER_FOLDER == 0:
                        (folder.root / name).parent.mkdir()
                with (folder.root / name).open("xb") as file:
                    file.write(content)
                folder.add_file(
                    name,
                    len(content),
                    hashlib.sha256(content).hexdigest(),
                    1,
                    id=row["id"],
                    source=row["source"],
                    structure_id=format_structure_id(structure.structure_id),
                )


def _write_fasta(opened: Atlas, cursor: Any, folder: _Folder, num_proteins: int) -> None:
    name = "proteins.fasta"
    sql = "SELECT id, source, description, structure_id, structure_file, structure_row FROM chosen"
    with (folder.root / name).open("xb") as file:
        for rows, stored in _selected(opened, cursor, sql, ["structure_id", "sequence"]):
            sequences = stored.column("sequence").to_pylist()
            for row, sequence in zip(rows.to_pylist(), sequences, strict=True):
                file.write(fasta_text(row["id"], row["description"], sequence).encode())
    path = folder.root / name
    folder.add_file(name, path.stat().st_size, file_sha256(path), num_proteins)


def _write_parquet(opened: Atlas, cursor: Any, folder: _Folder) -> None:
    parts = _parquet_groups(opened, cursor)
    first = next(parts, None)
    number = 0
    while first is not None:
        name, metadata = f"proteins-{number:05d}.parquet", {"model": opened.header.settings.model}
        with ParquetFile(folder.root, name, "structures", metadata=metadata, schema=first.schema) as file:
            while first is not None and file.rows < PROTEINS_PER_PARQUET_FILE:
                file.write(first)
                first = next(parts, None)
        assert file.entry is not None
        folder.add_file(file.entry.path, file.entry.bytes, file.entry.sha256, file.rows)
        number += 1


def _parquet_groups(opened: Atlas, cursor: Any) -> Iterator[pa.Table]:
    """Yield the chosen rows with their sequences and stored coordinates, one row group at a time."""
    columns = protein_columns(opened.header.settings.model)
    waiting: list[pa.Table] = []

    def joined() -> pa.Table:
        schema = pa.schema(
            [waiting[0].schema.field(column.name).with_metadata(column.metadata) for column in columns]
            + [STRUCTURES.field(name) for name in STRUCTURES.names if name != "structure_id"],
            metadata={"foldatlas.table": "proteins", "foldatlas.format": str(FORMAT_VERSION)},
        )
        return pa.concat_tables(waiting).combine_chunks().cast(schema)

    num_waiting = 0
    for rows, stored in _selected(opened, cursor, "FROM chosen", None):
        for name in STRUCTURES.names:
            if name != "structure_id":
                rows = rows.append_column(name, stored.column(name))
        waiting.append(rows)
        num_waiting += rows.num_rows
        if num_waiting >= PROTEINS_PER_PARQUET_GROUP:
            yield joined()
            waiting, num_waiting = [], 0
    if waiting:
        yield joined()
