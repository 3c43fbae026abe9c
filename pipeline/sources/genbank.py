"""GenBank flat files cut into entries, and the coding sequences (CDS) of each as protein records.

The feature table is INSDC's (Feature Table Document 11.3, https://www.insdc.org); Biopython reads it. An entry ends
with a line "//" and is read on its own: a damaged entry does not affect others, and one entry is in memory at a time. A
record's offset is that of its CDS line, so `grep -c '^     CDS '` counts the records.

A record's id is the first of /protein_id, /locus_tag and /old_locus_tag that the CDS has. Without them it is /gene, if
there is one, with contig and location as NCBI writes them: `tnpA_NZ_CP012345.1:c1200-301` is on the complement.
"""

import io
import re
import warnings
from collections.abc import Iterator
from typing import IO, Any, Final, NamedTuple

from Bio import BiopythonWarning, SeqIO
from Bio.Data import CodonTable
from Bio.SeqFeature import AfterPosition, BeforePosition, SeqFeature

from foldatlas.pipeline.sources.fasta import RawRecord
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome

MAX_ENTRY_BYTES: Final = 512 << 20  # the longest human chromosome takes some 330 MB

BLOCK_BYTES: Final = 1 << 20
_END: Final = re.compile(rb"^//[ \t\r]*$", re.MULTILINE)
_GENPEPT: Final = re.compile(rb"\s*LOCUS +\S+ +\d+ aa\b")
_LOCUS: Final = re.compile(rb"^LOCUS +(\S+)", re.MULTILINE)
_NAMES: Final = ("protein_id", "locus_tag", "old_locus_tag")
_CODING: Final = re.compile(rb"^     CDS\s", re.MULTILINE)
_STANDARD_TABLE: Final = 1  # of a CDS without /transl_table


class CodingSequence(NamedTuple):
    """A CDS in the form of a FASTA record.

    fault: why it has no protein.
    is_fragment: whether its location extends beyond the entry ('<' or '>').
    """

    record: RawRecord
    is_fragment: bool | None
    fault: Outcome | None


class GenBankReader:
    """Iterates over the coding sequences of a stream, in their order in the file.

    After iteration `error` says why the stream could not be read further, if so; the coding sequences of the entry that
    was being read are then given as `truncated`. `leading_text`, as in fasta.Reader, is always False.
    """

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self.leading_text = False
        self.error: str | None = None

    def _read(self) -> bytes:
        try:
            return self._stream.read(BLOCK_BYTES)
        except (EOFError, OSError) as error:
            self.error = str(error)
            return b""

    def __iter__(self) -> Iterator[CodingSequence]:
        offset, kept = 0, bytearray()  # where the current entry begins, and what was read of it
        searched = 0
        while block := self._read():
            kept += block
            done = 0
            while end := _END.search(kept, searched):
                if end.end() == len(kept):
                    break  # the line may continue in the next block
                yield from _coding_sequences(bytes(kept[done : end.end()]), offset + done)
                done = searched = end.end()
            del kept[:done]
            offset += done
            searched = max(0, kept.rfind(b"\n"))  # "//" has to begin a line
            if len(kept) > MAX_ENTRY_BYTES:
                raise SourceError(
                    f"an entry of a GenBank file is longer than {MAX_ENTRY_BYTES >> 20:,} MiB (at byte {offset:,}): "
                    "give its proteins as FASTA"
                )
        last = bytes(kept)
        if not self.error and (_END.search(last) or not last.strip()):
            yield from _coding_sequences(last, offset)
        else:
            self.error = self.error or "the last entry has no end ('//')"
            for found in _CODING.finditer(last):
                yield _without_protein(offset + found.start(), last, found.start(), Outcome.TRUNCATED)


def _coding_sequences(entry: bytes, offset: int) -> Iterator[CodingSequence]:
    """Yield the coding sequences of one entry, which begins at byte `offset` of the file."""
    starts = [found.start() for found in _CODING.finditer(entry)]
    if not starts:
        return
    try:
        features, parsed = _parse(entry)
        reason = (
            "" if len(features) == len(starts) else f"{len(features)} features of {len(starts)} CDS lines are valid"
        )
    except Exception as error:  # Biopython's parser raises many kinds of errors for unexpected lines
        reason = f"Biopython cannot read the entry: {type(error).__name__}: {error}"
    if _GENPEPT.match(entry):
        reason = "a GenPept entry holds a protein, not nucleotides: use FASTA"
    if reason:
        for start in starts:
            yield _without_protein(offset + start, entry, start, Outcome.NO_TRANSLATION, reason)
        return
    for start, feature in zip(starts, features, strict=True):
        yield _coding_sequence(feature, parsed, offset + start)


def _parse(entry: bytes) -> tuple[list[SeqFeature], Any]:
    """Return the CDS features of an entry, and the entry as Biopython's SeqRecord."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BiopythonWarning)  # of columns and line lengths
        parsed = SeqIO.read(io.StringIO(entry.decode("utf-8", errors="backslashreplace")), "genbank")
    return [feature for feature in parsed.features if feature.type == "CDS"], parsed


def _coding_sequence(feature: SeqFeature, entry: Any, offset: int) -> CodingSequence:
    name = next(filter(None, (_qualifier(feature, name) for name in _NAMES)), "") or _name_by_location(feature, entry)
    description = _qualifier(feature, "product")
    protein = "".join(_qualifier(feature, "translation").split())
    fault, partial = None, _is_partial(feature)
    if not protein:
        if "pseudo" in feature.qualifiers or "pseudogene" in feature.qualifiers:
            fault, reason = Outcome.NO_TRANSLATION, "pseudogene"
        else:
            try:
                protein, reason = _translate(feature, entry.seq), ""
            except Exception as error:
                fault, reason = Outcome.NO_TRANSLATION, f"{type(error).__name__}: {error}"
        if fault:
            description = f"{description} ({reason})".strip()
    header = " ".join([name.replace(" ", "_"), *description.split()]).rstrip()
    return CodingSequence(RawRecord(offset, f"{header}\n{protein}".encode(), 0, False), partial, fault)


def _without_protein(offset: int, entry: bytes, start: int, fault: Outcome, reason: str = "") -> CodingSequence:
    """Return the record of a CDS that could not be read, with an id from its qualifiers as far as they can be found."""
    following = _CODING.search(entry, start + 1)
    text = entry[start : following.start() if following else len(entry)]
    found = next(filter(None, (re.search(rb'/%s="([^"\s]+)"' % name.encode(), text) for name in _NAMES)), None)
    locus = _LOCUS.search(entry)
    name = found[1] if found else (locus[1] if locus else b"entry") + b":" + (text.split(None, 2)[1:2] or [b"?"])[0]
    header = name + b" " + " ".join(reason.split()).encode()
    return CodingSequence(RawRecord(offset, header + b"\n", 0, fault is Outcome.TRUNCATED), None, fault)


def _name_by_location(feature: SeqFeature, entry: Any) -> str:
    """Return the id of a CDS without one of _NAMES: gene, contig and location."""
    contig = next((name for name in (entry.id, entry.name) if name and not name.startswith("<unknown")), "entry")
    parts = feature.location.parts if feature.location else []
    ranges = (
        f"c{int(part.end)}-{int(part.start) + 1}" if part.strand == -1 else f"{int(part.start) + 1}-{int(part.end)}"
        for part in parts
    )
    return "_".join(filter(None, (_qualifier(feature, "gene"), f"{contig}:{','.join(ranges)}")))


def _qualifier(feature: SeqFeature, name: str) -> str:
    values = feature.qualifiers.get(name, [""])
    return " ".join(str(values[0]).split())


def _is_partial(feature: SeqFeature) -> bool:
    parts = feature.location.parts if feature.location else []
    ends = [end for part in parts for end in (part.start, part.end)]
    return any(isinstance(end, BeforePosition | AfterPosition) for end in ends)


def _translate(feature: SeqFeature, letters: Any) -> str:
    """Return the protein of a CDS without /translation, by its own table and reading frame.

    A start codon of the table is methionine where the gene's start is in the entry (INSDC 7.5.5). Raise the
    errors of Biopython for missing nucleotides, and for a table that does not exist.
    """
    table = int(_qualifier(feature, "transl_table") or _STANDARD_TABLE)
    frame = int(_qualifier(feature, "codon_start") or 1) - 1
    coding = feature.extract(letters)[frame:]
    coding = coding[: len(coding) // 3 * 3]
    protein = str(coding.translate(table=table))
    starts = CodonTable.unambiguous_dna_by_id[table].start_codons
    begins_here = not isinstance(_first_position(feature), BeforePosition | AfterPosition)
    if begins_here and not frame and str(coding[:3]).upper() in starts:
        protein = "M" + protein[1:]
    return protein


def _first_position(feature: SeqFeature) -> object:
    """Return where translation begins. The parts of a location are in the order in which they are translated."""
    assert feature.location is not None  # otherwise extract() has raised
    first = feature.location.parts[0]
    return first.end if first.strand == -1 else first.start
