"""The files of an export that are not of a chunk: joined parts, lists, licences, digests, and the exported atlas."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from foldatlas.atlas.export.bundles import END, ENDING
from foldatlas.atlas.export.chunk_writers import FASTA, THREE_DI
from foldatlas.atlas.export.credits import UNKNOWN, citation_text, licence_text, origins_of, reference_licences
from foldatlas.atlas.export.destination import Destination
from foldatlas.atlas.export.journal import Chunk, WrittenFile, parts_folder, read_chunk
from foldatlas.atlas.export.selection import missing_of_ids, missing_of_sql
from foldatlas.atlas.export.subset_atlas import Rates, commit_atlas, not_in_atlas
from foldatlas.atlas.export.subset_stages import carry_stages
from foldatlas.atlas.export.text_file import TextFile
from foldatlas.atlas.folder import EXPORT_LISTS
from foldatlas.atlas.index.build import build_index
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.sql.text import escape_controls
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.formats import IMPORTED_FORMAT
from foldatlas.schemas.version import program_version

DIGEST_DIGITS: Final = 16  # of the selection's digest, in names of files

Progress = Callable[[int, int], None]

_JSON: Final = msgspec.json.Encoder()


@dataclass(frozen=True)
class Asked:
    """The arguments of an export, as `subset.export` describes them."""

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


class Lists:
    """Joins parts of files and writes the lists of an export whose chunks are all finished."""

    def __init__(self, destination: Destination, num_chunks: int, asked: Asked):
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
            digest=self._request.digest[:DIGEST_DIGITS],
            max_length=max((plan.max_length for plan in opened.folder.plans()), default=0),
            runs=rates.runs,
        )
        carry_stages(opened.folder, cursor, folder, f"export-{self._request.digest[:DIGEST_DIGITS]}")
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
