"""Contigs in FASTA -> the proteins of their genes, found by Prodigal (Hyatt et al. 2010, 2012) in metagenomic mode.

Pyrodigal runs it in this process. It is under the GPL, so it is an extra that nothing else imports. A gene is a record
as Prodigal's own protein file has it: `contig_7 # start # end # strand # ID=...;partial=00;...`. Its place is that of
its leftmost nucleotide, so `(source, offset)` names it whatever byte ranges the file was cut into. A contig has no row
of its own, unless it is refused; contigs without a gene are counted.
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

# Of the contigs that are at work or wait for it: with what Prodigal needs, 20 bytes a nucleotide, this bounds memory.
WAITING_BYTES: Final = 1 << 24
WAITING_CONTIGS: Final = 256

_AMBIGUOUS: Final = AMBIGUITY_CODES + b"X"  # IUPAC's codes, and X for what was masked: unknown to Prodigal, as N
_PLAIN: Final = "".join(sorted(NUCLEOTIDES)).encode()
_GAPS: Final = b"-."
_DNA: Final = bytes.maketrans(b"U", b"T")
_SPACES: Final = np.isin(np.arange(256), list(WHITE_SPACE))


def gene_finder_name() -> str:
    """What finds genes, with its version, as plans keep it. Raises SourceError where it is not installed."""
    return f"pyrodigal {_pyrodigal().__version__}, metagenomic mode"


def _pyrodigal() -> Any:
    try:
        import pyrodigal
    except ImportError as error:
        raise SourceError(
            "--genes finds genes by Pyrodigal, which is under the GPL and so not installed by default: "
            "pip install 'foldatlas[genes]'"
        ) from error
    return pyrodigal


class ContigReader:
    """Iterates over the genes of the contigs whose '>' lies in [start, end) of a stream, in the order of the contigs.

    Each contig is worked on by a thread of its own, as many at a time as this process may use cores: a worker beside
    others has its share (devices.usable_cores). After iteration
    `leading_text` and `error` are as fasta.Reader has them; `contigs` were read, `contigs_without_genes` of them good
    but without a gene. Raises SourceError without Pyrodigal, Interrupted when asked to stop.
    """

    def __init__(self, stream: IO[bytes], start: int = 0, end: int | None = None):
        self._reader = Reader(stream, start, end)
        # One for all threads: it keeps nothing of a contig. No gene crosses a gap of a scaffold (50 N or more), as one
        # does by default: what it codes for is not known, nor how long it is.
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
    """Why no genes are looked for in a contig, or None."""
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
    if 2 * len(others.translate(None, b"X")) > len(letters):  # a protein can be made of such letters
        return Outcome.NOT_NUCLEOTIDES
    return Outcome.TOO_LONG if raw.dropped else None


def _offsets(start: int, body: bytes, places: list[int]) -> list[int]:
    """Where the letters at `places` stand in the file, if `body` begins at byte `start` of it; each another byte."""
    spaces = np.flatnonzero(_SPACES[np.frombuffer(body, np.uint8)])
    letters_before = spaces - np.arange(len(spaces))
    offsets: dict[int, None] = {}  # in order, each once
    for place in places:
        offset = start + place + int(np.searchsorted(letters_before, place, side="right"))
        while offset in offsets:  # two genes of opposite strands might begin at one nucleotide
            offset += 1
        offsets[offset] = None
    return list(offsets)
