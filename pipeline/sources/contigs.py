"""Contigs in FASTA -> the proteins of their genes, found by Prodigal (Hyatt et al. 2010, 2012) in metagenomic mode.

Pyrodigal runs Prodigal in this process. It is under the GPL, and so an optional extra that only this module imports. A
gene is a record as in Prodigal's protein file: `contig_7 # start # end # strand # ID=...;partial=00;...`. Its offset is
that of its leftmost nucleotide, so that `(source, offset)` does not depend on how the file was cut into byte ranges. A
contig has no row of its own, unless it is refused; contigs without a gene are counted.
"""

import io
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Final

import numpy as np

from foldatlas.pipeline.interruption import raise_if_stopping
from foldatlas.pipeline.sources.fasta import WHITE_SPACE, RawRecord, Reader
from foldatlas.pipeline.sources.genbank import CodingSequence
from foldatlas.pipeline.sources.headers import read_header
from foldatlas.pipeline.sources.nucleotides import AMBIGUITY_CODES
from foldatlas.pipeline.sources.read_counts import ReadCounts
from foldatlas.pipeline.sources.validation import UPPER, check
from foldatlas.pipeline.workers.devices import usable_cores
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import NUCLEOTIDES, Outcome

# Limits on the contigs that are being processed or waiting. Prodigal needs 20 bytes a nucleotide.
WAITING_BYTES: Final = 1 << 24
WAITING_CONTIGS: Final = 256

_AMBIGUOUS: Final = AMBIGUITY_CODES + b"X"  # IUPAC's codes, and X for masked nucleotides: N to Prodigal
_PLAIN: Final = "".join(sorted(NUCLEOTIDES)).encode()
_GAPS: Final = b"-."
_DNA: Final = bytes.maketrans(b"U", b"T")
_SPACES: Final = np.isin(np.arange(256), list(WHITE_SPACE))


def gene_finder_name() -> str:
    """Return the gene finder and its version, as stored in plans. Raise SourceError where it is not installed."""
    return f"pyrodigal {_pyrodigal().__version__}, metagenomic mode"


def _pyrodigal() -> Any:
    try:
        import pyrodigal
    except ImportError as error:
        raise SourceError(
            "--genes needs Pyrodigal, which is under the GPL and so not installed by default: "
            "pip install 'foldatlas[genes]'"
        ) from error
    return pyrodigal


class ContigReader:
    """Iterates over the genes of the contigs whose '>' lies in [start, end) of a stream, in the order of the contigs.

    Contigs are processed by threads, as many as this process may use cores (devices.usable_cores). After iteration
    `leading_text` and `error` are as in fasta.Reader, and `counts` has the numbers of contigs. Raises SourceError where
    Pyrodigal is not installed, Interrupted when asked to stop.
    """

    def __init__(self, stream: IO[bytes], start: int = 0, end: int | None = None):
        self._reader = Reader(stream, start, end)
        # One for all threads: it keeps no state of a contig. With `mask` no gene crosses a gap of a scaffold (50 N or
        # more), whose length and content are unknown.
        self._finder = _pyrodigal().GeneFinder(meta=True, mask=True)
        self._contigs = 0
        self._contigs_without_genes = 0

    @property
    def leading_text(self) -> bool:
        return self._reader.leading_text

    @property
    def error(self) -> str | None:
        return self._reader.error

    @property
    def counts(self) -> ReadCounts:
        """The contigs read so far."""
        return ReadCounts(contigs=self._contigs, contigs_without_genes=self._contigs_without_genes)

    def __iter__(self) -> Iterator[CodingSequence]:
        waiting: deque[tuple[int, Future[list[CodingSequence]]]] = deque()
        size = 0
        threads = ThreadPoolExecutor(usable_cores(), thread_name_prefix="genes")
        try:
            for raw in self._reader:
                waiting.append((len(raw.text), threads.submit(self._genes_of, raw)))
                size += len(raw.text)
                while size > WAITING_BYTES or len(waiting) > WAITING_CONTIGS:
                    first, future = waiting.popleft()
                    yield from self._counted(future)
                    size -= first
            for _, future in waiting:
                yield from self._counted(future)
        finally:
            threads.shutdown(cancel_futures=True)

    def _counted(self, future: "Future[list[CodingSequence]]") -> list[CodingSequence]:
        raise_if_stopping()
        genes = future.result()
        self._contigs += 1
        self._contigs_without_genes += not genes
        return genes

    def _genes_of(self, raw: RawRecord) -> list[CodingSequence]:
        line, _, body = raw.text.partition(b"\n")
        letters = body.translate(UPPER, WHITE_SPACE)
        if fault := _fault(raw, line, letters):
            return [CodingSequence(raw, None, fault)]
        found = self._finder.find_genes(letters.translate(_DNA))
        if not found:
            return []
        out = io.StringIO()
        found.write_translations(out, read_header(line).id, full_id=True)
        texts = out.getvalue().removeprefix(">").split("\n>")
        offsets = _offsets(raw.offset + len(line) + 2, body, [gene.begin - 1 for gene in found])
        return [
            CodingSequence(RawRecord(offset, text.encode(), 0, False), None, None)
            for offset, text in zip(offsets, texts, strict=True)
        ]


def _fault(raw: RawRecord, line: bytes, letters: bytes) -> Outcome | None:
    """Return why a contig is refused, or None."""
    header = check(raw._replace(text=line + b"\nM", dropped=0), 1).outcome
    if header != Outcome.ACCEPTED:
        return Outcome(header)
    if not letters:
        return Outcome.EMPTY_SEQUENCE
    if b"\0" in letters:
        return Outcome.NUL_BYTE
    others = letters.translate(None, _PLAIN)
    if others.translate(None, _AMBIGUOUS):
        return Outcome.GAP if not others.translate(None, _AMBIGUOUS + _GAPS) else Outcome.NOT_NUCLEOTIDES
    if 2 * len(others.translate(None, b"X")) > len(letters):  # a protein can consist of such letters
        return Outcome.NOT_NUCLEOTIDES
    return Outcome.TOO_LONG if raw.dropped else None


def _offsets(start: int, body: bytes, positions: list[int]) -> list[int]:
    """Return the byte offsets in the file of the letters at `positions` of `body`, which begins at byte `start`.

    All are different: of two genes with the same leftmost nucleotide the second has the next byte.
    """
    spaces = np.flatnonzero(_SPACES[np.frombuffer(body, np.uint8)])
    letters_before = spaces - np.arange(len(spaces))
    offsets: dict[int, None] = {}  # in order, each once
    for position in positions:
        offset = start + position + int(np.searchsorted(letters_before, position, side="right"))
        while offset in offsets:  # two genes of opposite strands may begin at one nucleotide
            offset += 1
        offsets[offset] = None
    return list(offsets)
