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

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from foldatlas.atlas.export.bundles import END, ENDING
from foldatlas.atlas.export.chunk_writers import FASTA, THREE_DI, ChunkWriter, pae_files_of
from foldatlas.atlas.export.chunks import ROWS, chunks_of
from foldatlas.atlas.export.credits import UNKNOWN, citation_text, licence_text, origins_of, reference_licences
from foldatlas.atlas.export.destination import Destination, Request, refuse_destination, written_to
from foldatlas.atlas.export.file_names import folder_levels, with_file_names
from foldatlas.atlas.export.formats import FORMATS, STRUCTURE_FORMATS
from foldatlas.atlas.export.journal import Chunk, WrittenFile, parts_folder, read_chunk
from foldatlas.atlas.export.processes import in_processes
from foldatlas.atlas.export.selection import check_limit, choose, chosen_digest, missing_of_ids, missing_of_sql
from foldatlas.atlas.export.subset_atlas import Rates, commit_atlas, located_sql, not_in_atlas, rates_of
from foldatlas.atlas.export.subset_stages import carry_stages
from foldatlas.atlas.export.text_file import TextFile
from foldatlas.atlas.folder import EXPORT_LISTS, now
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.index.views import protein_columns
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.query import query_errors
from foldatlas.atlas.sql.text import escape_controls
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.version import program_version

FILES_PER_FOLDER: Final = 10_000
PROTEINS_PER_PARQUET_FILE: Final = 16_384
PROTEINS_PER_PARQUET_GROUP: Final = 1_024

RECORDS_PER_PROCESS: Final = 5_000  # at least: a process starts in about a second, in which one writes 1,000 files

Progress = Callable[[int, int], None]

_JSON: Final = msgspec.json.Encoder()
_DIGEST_DIGITS: Final = 16


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


@dataclass(frozen=True)
class _Asked:
    """The arguments of an export."""

    format: str
    members: str
    where: str | None
    sql: str | None
    ids: str | Path | None
    order_by: str | None
    limit: int | None
    licence: str | None
    base_url: str | None
    pae: bool
    workers: int
    progress: Progress


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
    asked = _Asked(format, members, where, sql, ids, order_by, limit, licence, base_url, pae, workers, progress)
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
            lists = _Lists(destination, num_chunks, asked)
            lists.write(opened, cursor, rates, ids_read_as)
    shown = dest if isinstance(dest, str) and destination.storage.root is None else Path(dest)
    return Exported(shown, lists.proteins, lists.files, lists.bytes, dict(lists.num_missing), ids_read_as, resumed)


def _write_chunks(
    opened: Atlas, cursor: Any, destination: Destination, asked: _Asked, rates: Rates | None
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
            "prefix": destination.request.digest[:_DIGEST_DIGITS],
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


class _Lists:
    """Joins parts of files and writes the lists of an export whose chunks are all finished."""

    def __init__(self, destination: Destination, num_chunks: int, asked: _Asked):
        self._storage: Storage = destination.storage
        self._request = destination.request
        self._resumed = destination.resumed
        self._num_chunks = num_chunks
        self._asked = asked
        self.proteins = self.files = self.bytes = 0
        self.num_missing: Counter[str] = Counter()

    def write(self, opened: Atlas, cursor: Any, rates: Rates | None, ids_read_as: str | None) -> None:
        """Write all files that are not of a chunk; SHA256SUMS last. `rates` are given for an exported atlas."""
        if self._resumed:
            for name in EXPORT_LISTS:
                self._storage.delete(name)
        references = reference_licences(cursor)
        settings = opened.header.settings
        origins = origins_of(cursor) if opened.header.format >= IMPORTED_FORMAT else []
        atlas_files = [] if rates is None else self._write_atlas(opened, cursor, rates)
        with contextlib.ExitStack() as stack:
            sums = TextFile(self._storage, "SHA256SUMS", stack)
            with contextlib.ExitStack() as lists:
                listing = TextFile(self._storage, "files.jsonl", lists)
                aria2 = TextFile(self._storage, "aria2.txt", lists) if self._asked.base_url is not None else None
                for file in self._all_files(atlas_files):
                    listing.write(_JSON.encode(file) + b"\n")
                    sums.write(f"{file.sha256}  {file.file}\n".encode())
                    if aria2 is not None:
                        aria2.write(self._aria2_entry(file))
                    self.files += 1
                    self.bytes += file.bytes
            written = ["files.jsonl", *(["aria2.txt"] if self._asked.base_url is not None else [])]
            written += self._write_members()
            written += self._write_missing(cursor)
            clustered = bool(cursor.execute("SELECT count(*) FROM chosen WHERE cluster90 IS NOT NULL").fetchall()[0][0])
            texts = {
                "LICENCE": licence_text(self._asked.licence, settings.model, program_version(), references, origins),
                "CITATION.bib": citation_text(
                    self._asked.format, settings.model, references, origins, clustered=clustered
                ),
                "manifest.json": self._manifest(opened, cursor, ids_read_as, references, origins),
            }
            for name, text in texts.items():
                with self._storage.building(name) as path:
                    path.write_text(text, encoding="utf-8")
            for name in sorted([*written, *texts]):
                sums.write(f"{self._storage.sha256(name)}  {name}\n".encode())

    def _chunks(self) -> Iterator[Chunk]:
        for number in range(self._num_chunks):
            chunk = read_chunk(self._storage, number)
            assert chunk is not None, "every chunk was written"
            yield chunk

    def _all_files(self, atlas_files: list[WrittenFile]) -> Iterator[WrittenFile]:
        """Yield every file of the export, in the order of the selection, and count proteins."""
        wholes = {FASTA: b""} if self._asked.format in ("fasta", "3di") else {}
        if self._asked.format == "3di":
            wholes[THREE_DI] = b""
        for chunk in self._chunks():
            self.proteins += chunk.proteins
            yield from chunk.files
            for part in chunk.parts:
                wholes.setdefault(part.whole, END if part.whole.endswith(ENDING) else b"")
        for name in sorted(wholes):
            yield self._join(name, wholes[name])
        yield from atlas_files

    def _join(self, name: str, end: bytes) -> WrittenFile:
        """Write a file from its parts, in the order of the chunks."""
        with self._storage.building(name) as path, path.open("wb") as file:
            for part in self._storage.files(parts_folder(name)):
                file.write(self._storage.read(part.name))
            file.write(end)
        return self._written(name)

    def _written(self, name: str) -> WrittenFile:
        return WrittenFile(name, self._storage.size(name), self._storage.sha256(name))

    def _aria2_entry(self, file: WrittenFile) -> bytes:
        assert self._asked.base_url is not None
        address = f"{self._asked.base_url.rstrip('/')}/{quote(file.file, safe='/~')}"
        return f"{address}\n  out={file.file}\n  checksum=sha-256={file.sha256}\n".encode()

    def _write_members(self) -> list[str]:
        if self._asked.format != "tar":
            return []
        with contextlib.ExitStack() as stack:
            members = TextFile(self._storage, "members.jsonl", stack)
            for chunk in self._chunks():
                for member in chunk.members:
                    members.write(_JSON.encode(member) + b"\n")
        return ["members.jsonl"]

    def _write_missing(self, cursor: Any) -> list[str]:
        """Write missing.tsv, with control characters escaped, if something is missing."""
        with contextlib.ExitStack() as stack:
            file: TextFile | None = None
            for row in self._missing(cursor):
                if file is None:
                    file = TextFile(self._storage, "missing.tsv", stack)
                    file.write(b"name\twhy\tdetail\tsource\n")
                file.write("\t".join(map(escape_controls, row)).encode() + b"\n")
                self.num_missing[row[1]] += 1
        return [] if file is None else ["missing.tsv"]

    def _missing(self, cursor: Any) -> Iterator[tuple[str, str, str, str]]:
        if self._asked.ids is not None:
            yield from missing_of_ids(cursor, limited=self._asked.limit is not None)
        if self._asked.sql is not None:
            yield from missing_of_sql(cursor)
        for chunk in self._chunks():
            for one in chunk.unwritable:
                yield one.id, "unwritable", one.why, one.source

    def _write_atlas(self, opened: Atlas, cursor: Any, rates: Rates) -> list[WrittenFile]:
        """Complete the exported atlas with its documents, derived stages and index; return its files."""
        folder = commit_atlas(
            self._storage,
            (chunk.atlas for chunk in self._chunks() if chunk.atlas is not None),
            settings=opened.header.settings,
            created=self._request.created,
            digest=self._request.digest[:_DIGEST_DIGITS],
            max_length=max((plan.max_length for plan in opened.folder.plans()), default=0),
            runs=rates.runs,
        )
        carry_stages(opened.folder, cursor, folder, f"export-{self._request.digest[:_DIGEST_DIGITS]}")
        build_index(folder)
        tables = [
            WrittenFile(file.path, file.bytes, file.sha256)
            for chunk in self._chunks()
            if chunk.atlas is not None
            for file in chunk.atlas.files()
        ]
        listed = {file.file for file in tables} | {file.file for chunk in self._chunks() for file in chunk.files}
        others = [file.name for file in self._storage.files() if file.name not in listed]
        return tables + [self._written(name) for name in others]

    def _manifest(
        self,
        opened: Atlas,
        cursor: Any,
        ids_read_as: str | None,
        references: list[dict[str, Any]],
        origins: list[dict[str, Any]],
    ) -> str:
        asked = self._asked
        manifest = {
            "created": self._request.created,
            "version": program_version(),
            "atlas": opened.folder.uri,
            "settings": opened.header.settings,
            "format": asked.format,
            "members": asked.members if asked.format == "tar" else None,
            **({"pae": True} if asked.pae else {}),
            "where": asked.where,
            "sql": asked.sql,
            "ids": None if asked.ids is None else str(asked.ids),
            "ids_read_as": ids_read_as,
            "order_by": asked.order_by,
            "limit": asked.limit,
            "licence": asked.licence or UNKNOWN,
            "references": references,
            **({"origins": origins} if origins else {}),
            "proteins": self.proteins,
            "files": self.files,
            "bytes": self.bytes,
            "missing": dict(self.num_missing),
            **({"not_in_atlas": not_in_atlas(cursor)} if asked.format == "parquet" else {}),
            "listing": "files.jsonl",
        }
        return msgspec.json.format(_JSON.encode(manifest), indent=1).decode() + "\n"
