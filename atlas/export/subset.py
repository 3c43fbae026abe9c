"""Write a subset of an atlas to a folder or a store: structure files, bundles, FASTA or Parquet, with digests.

    DEST/<file>          pdb, cif, fcz: one file per record, in hashed folders if there are more than 10,000
                         tar: ptm_0.60-0.70_plddt_80-90.tar.gz ...
                         fasta: proteins.fasta     3di: that and proteins_ss.fasta
                         parquet: proteins-00000.parquet ..., and an atlas of these proteins (subset_atlas.py)
                         with pae: <file>.pae.json for each structure that has aligned errors
    DEST/manifest.json   atlas, settings, the selection, licences, counts
    DEST/files.jsonl     one line per file: file, bytes, sha256, and for a file of one record its id, source and
                         structure_id
    DEST/members.jsonl   the same of each file in a tar bundle
    DEST/missing.tsv     what is missing, and why (with --ids or --sql, or if a structure could not be written)
    DEST/LICENCE         licences of the data; DEST/CITATION.bib: publications of the methods
    DEST/aria2.txt       for `aria2c -i aria2.txt`, if the address is known at which the files will be
    DEST/SHA256SUMS      for `sha256sum --check SHA256SUMS`; written last

DEST is complete or absent; on a store it is complete when SHA256SUMS exists. Chunks of the selection are written by
processes, and a killed export continues with the chunks that are missing. Memory does not grow with the number of
proteins.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from foldatlas.atlas.export.chunk_writers import ChunkWriter, pae_files_of
from foldatlas.atlas.export.chunks import ROWS, chunks_of
from foldatlas.atlas.export.destination import Destination, Request, refuse_destination, written_to
from foldatlas.atlas.export.file_names import folder_levels, with_file_names
from foldatlas.atlas.export.formats import FORMATS, STRUCTURE_FORMATS
from foldatlas.atlas.export.lists import DIGEST_DIGITS, Asked, Lists, Progress
from foldatlas.atlas.export.processes import in_processes
from foldatlas.atlas.export.selection import check_limit, choose, chosen_digest
from foldatlas.atlas.export.subset_atlas import Rates, located_sql, rates_of
from foldatlas.atlas.folder import now
from foldatlas.atlas.index.views import protein_columns
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.query import query_errors
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.version import program_version

FILES_PER_FOLDER: Final = 10_000
PROTEINS_PER_PARQUET_FILE: Final = 16_384
PROTEINS_PER_PARQUET_GROUP: Final = 1_024

RECORDS_PER_PROCESS: Final = 5_000  # at least: a process starts in about a second, in which one writes 1,000 files


@dataclass(frozen=True)
class Exported:
    """The result of an export.

    `missing` counts rows of missing.tsv by reason: unknown, refused, failed, repeated, pending, excluded (by the
    condition or the limit) or unwritable (beyond the limits of the format). `folder` is the folder or address.
    """

    folder: Path | str
    proteins: int
    files: int
    bytes: int
    missing: dict[str, int]
    ids_read_as: str | None = field(default=None, compare=False)  # a description of how the file of ids was read
    resumed: int = field(default=0, compare=False)  # chunks that an earlier try had finished


def export(
    atlas: str | Path,
    dest: str | Path,
    *,
    format: str,
    members: str | None = None,
    where: str | None = None,
    sql: str | None = None,
    ids: str | Path | None = None,
    order_by: str | None = None,
    limit: int | None = None,
    licence: str | None = None,
    base_url: str | None = None,
    pae: bool = False,
    workers: int = 1,
    progress: Progress = lambda done, total: None,
) -> Exported:
    """Export folded records of `atlas` to `dest`, a new folder or `s3://bucket/prefix`.

    where: an SQL condition on the view `proteins` (None: all).
    sql: a query whose result has `structure_id`, or `id` with or without `source` (None: all).
    ids: a file of ids, source:id or structure_id (id_files.py; None: all). Ids without a structure are listed in
        missing.tsv.
    limit: export only the first records by `order_by`.
    order_by: a column of `proteins`, optionally followed by ASC or DESC. NULL comes last, and equal values are ordered
        by id, source and structure_id.
    members: the format of the files in tar bundles: pdb (None), cif or fcz.
    licence: the licence of the data, for LICENCE and manifest.json (None: "unknown").
    base_url: the address at which the files of `dest` will be, for aria2.txt.
    pae: also write the predicted aligned errors of each structure that has them, with pdb, cif and fcz.
    workers: the largest number of processes; fewer are started for few proteins. With more than one, a script must
        guard its main module (`if __name__ == "__main__"`), as for all processes that Python starts by spawn.
    progress: called as `progress(done, total)` with numbers of records.

    Raise UsageError, ForeignFolderError (`dest` is not empty), QueryError, NotAnAtlasError, DamagedAtlasError.
    """
    if format not in FORMATS:
        raise UsageError(f"{format!r} is not an export format: choose one of {', '.join(FORMATS)}")
    if members is not None and format != "tar":
        raise UsageError(f"--members is for --format tar, it is {format}: omit it")
    members = members or "pdb"
    if members not in STRUCTURE_FORMATS:
        raise UsageError(
            f"{members!r} is not a format of files in bundles: choose one of {', '.join(STRUCTURE_FORMATS)}"
        )
    if pae and format not in STRUCTURE_FORMATS:
        raise UsageError(f"--pae is for --format {', '.join(STRUCTURE_FORMATS)}, it is {format}: omit it")
    if base_url is not None and ("://" not in base_url or not base_url.isprintable() or " " in base_url):
        raise UsageError(f"{base_url!r} is not an address: give one like https://example.org/subset")
    if workers < 1:
        raise UsageError(f"workers must be 1 or more, it is {workers}")
    check_limit(order_by, limit)
    asked = Asked(format, members, where, sql, ids, order_by, limit, licence, base_url, pae, workers, progress)
    with Atlas.open(atlas) as opened:
        refuse_destination(dest, opened.folder)
        cursor = opened.cursor(where or "")
        ids_read_as = choose(opened, cursor, where=where, sql=sql, ids=ids, order_by=order_by, limit=limit)
        rows, digest = chosen_digest(cursor)
        request = Request(
            version=program_version(),
            atlas=opened.folder.uri,
            format=(f"{format}:{members}" if format == "tar" else format) + (":pae" if pae else ""),
            rows=rows,
            digest=digest,
            created=now(),
        )
        with written_to(dest) as place:
            destination = place.begin(request)
            rates = rates_of(opened.folder) if format == "parquet" else None
            num_chunks, resumed = _write_chunks(opened, cursor, destination, asked, rates)
            lists = Lists(destination, num_chunks, asked)
            lists.write(opened, cursor, rates, ids_read_as)
    shown = dest if isinstance(dest, str) and destination.storage.root is None else Path(dest)
    return Exported(shown, lists.proteins, lists.files, lists.bytes, dict(lists.num_missing), ids_read_as, resumed)


def _write_chunks(
    opened: Atlas, cursor: Any, destination: Destination, asked: Asked, rates: Rates | None
) -> tuple[int, int]:
    """Write every chunk of the selection. Return the number of chunks, and how many were finished before."""
    format, total = asked.format, destination.request.rows
    subset: dict[str, Any] = {}
    rows = ROWS
    columns = "id, source, structure_id, structure_file, structure_row"
    if format == "parquet":
        model, version = opened.header.settings.model, opened.header.format
        subset = {
            "columns": {column.name: column.metadata for column in protein_columns(model, version)},
            "model": model,
            "prefix": destination.request.digest[:DIGEST_DIGITS],
            "rates": rates,
            "rows_per_group": PROTEINS_PER_PARQUET_GROUP,
        }
        sql, rows = "FROM located", PROTEINS_PER_PARQUET_FILE
        creation = f"CREATE OR REPLACE TEMP TABLE located AS {located_sql(version)}"
    elif format in ("fasta", "3di"):
        creation, sql = "", f"SELECT {columns}, description FROM chosen"
    else:
        in_bundles = format == "tar"
        ending = asked.members if in_bundles else format
        levels = 0 if in_bundles else folder_levels(total, FILES_PER_FOLDER)
        creation = f"CREATE OR REPLACE TEMP TABLE named AS {with_file_names('chosen', f'.{ending}', levels)}"
        sql = f"SELECT {columns}, mean_plddt, ptm, model, file_name FROM named"
    if creation:
        with query_errors():
            interruptible_call(cursor, lambda: cursor.execute(creation))
    with_pae = asked.pae or (format == "parquet" and opened.header.format >= IMPORTED_FORMAT)
    pae = pae_files_of(opened.folder) if with_pae else {}
    atlas, target = opened.folder.storage, destination.storage
    writer = ChunkWriter(atlas, target, format, asked.members, destination.resumed, subset, pae)
    done = num_chunks = resumed = 0
    asked.progress(0, total)
    processes = 1 if format == "fasta" else min(asked.workers, max(1, total // RECORDS_PER_PROCESS))
    for written in in_processes(writer, chunks_of(cursor, sql, rows), processes):
        num_chunks += 1
        done += written.rows
        resumed += written.was_finished
        asked.progress(done, total)
    return num_chunks, resumed
