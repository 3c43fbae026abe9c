"""The checked records of a source, or of a range of it, in any format, compression and location."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.pipeline.sources.block_validation import check_block, to_batch
from foldatlas.pipeline.sources.compression import CompressedStream, decompressed
from foldatlas.pipeline.sources.contigs import ContigReader
from foldatlas.pipeline.sources.fasta import RawRecord, Reader
from foldatlas.pipeline.sources.find import CONTIGS, GENBANK, SourceFile, is_unchanged, open_stored
from foldatlas.pipeline.sources.genbank import GenBankReader
from foldatlas.pipeline.sources.read_counts import ReadCounts
from foldatlas.pipeline.sources.remote import RemoteStream
from foldatlas.pipeline.sources.validation import Record, check
from foldatlas.schemas.errors import SourceError

# of formats that are read record by record
RECORDS_PER_BATCH: Final = 5_000
BYTES_PER_BATCH: Final = 16 << 20  # reached only by records with a long header, or that are far too long


class RecordStream:
    """The records of a source, or of a range of it, from `open_records`.

    After iteration `leading_text` says whether text stood before the first record, `error` why the stream could not be
    read to its end, `ignored` whether bytes after the compressed data were ignored, and `counts` has the numbers of
    doubtful records and of contigs.
    """

    def __init__(self, source: SourceFile, stored: object, stream: object, start: int, end: int | None):
        self._source = source
        self._stored = stored
        self._doubtful = 0
        self._stream = stream
        if source.format == GENBANK:
            self._reader: Reader | GenBankReader | ContigReader = GenBankReader(stream)  # type: ignore[arg-type]
        elif source.format == CONTIGS:
            self._reader = ContigReader(stream, start, end)  # type: ignore[arg-type]
        else:
            self._reader = Reader(stream, start, end)  # type: ignore[arg-type]

    @property
    def leading_text(self) -> bool:
        return self._reader.leading_text

    @property
    def error(self) -> str:
        return self._reader.error or ""

    @property
    def counts(self) -> ReadCounts:
        """Counts that outcomes of records do not give: doubtful records, and contigs."""
        counts = ReadCounts(doubtful=self._doubtful)
        return counts + self._reader.counts if isinstance(self._reader, ContigReader) else counts

    @property
    def ignored(self) -> bool:
        return isinstance(self._stream, CompressedStream) and self._stream.has_garbage

    def records(self, max_length: int) -> Iterator[tuple[Record, int]]:
        """Yield each record, checked (`max_length` in residues), and its size in bytes."""
        for raw in self._reader:
            if isinstance(raw, RawRecord):
                yield check(raw, max_length), len(raw.text)
            else:
                yield check(raw.record, max_length, is_fragment=raw.is_fragment, fault=raw.fault), len(raw.record.text)

    def batches(self, max_length: int) -> Iterator[pa.RecordBatch]:
        """Yield the checked records as columns of the staging table without `source`, some thousands at a time."""
        if isinstance(self._reader, Reader):
            for block in self._reader.blocks():
                checked = check_block(block, max_length)
                self._doubtful += checked.doubtful
                yield checked.batch
            return
        records, size = [], 0
        for record, num_bytes in self.records(max_length):
            records.append(record)
            size += num_bytes
            if len(records) == RECORDS_PER_BATCH or size > BYTES_PER_BATCH:
                yield to_batch(records)
                records, size = [], 0
        if records:
            yield to_batch(records)

    def finish(self, *, digest: bool) -> tuple[str, int]:
        """Return the source's sha256 ("" without `digest`) and its size as stored.

        Raise SourceError if the source has changed since it was found.
        """
        sha256, size = "", self._source.size
        if isinstance(self._stored, RemoteStream):
            sha256 = self._stored.sha256()  # computed while reading, since a remote file is not read twice
            size = self._stored.num_bytes
        elif digest:
            sha256 = file_sha256(Path(self._source.path))
        if not is_unchanged(self._source):
            raise SourceError(f"{self._source.name} changed while it was read: run again when it is complete")
        return sha256, size


@contextlib.contextmanager
def open_records(source: SourceFile, start: int = 0, end: int | None = None) -> Iterator[RecordStream]:
    """Open the records of a source whose offset is in [start, end). Raise SourceError for one that cannot be read."""
    with open_stored(source) as stored:
        yield RecordStream(source, stored, decompressed(stored, source.compression), start, end)
