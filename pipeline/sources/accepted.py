"""The accepted records of a FASTA file, one after another, where no atlas is made."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final

from foldatlas.pipeline.sources.find import FASTA, SourceFile, SourceWarning, what_it_is
from foldatlas.pipeline.sources.nucleotides import Census, Kind, is_nucleotides, kind_of
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.pipeline.sources.validation import Record
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.wording import counted

CENSUS_RECORDS: Final = 1_000
NO_LIMIT: Final = 1 << 31  # residues: the device's memory is the limit


def accepted(source: SourceFile, refused: Counter[str]) -> Iterator[Record]:
    """Yield the accepted records of a source; count the others in `refused`, by reason.

    Doubtful records are nucleotides or proteins as most of the first CENSUS_RECORDS are (nucleotides.Census).
    Raise SourceError at the end of a file that is damaged, has no record, or changed meanwhile. Warn of an empty one.
    """
    num_records = 0
    with open_records(source) as stream:
        for record in _checked(source, (record for record, _ in stream.records(NO_LIMIT))):
            num_records += 1
            if record.outcome == Outcome.ACCEPTED:
                yield record
            else:
                refused[record.outcome] += 1
        if stream.error:
            raise SourceError(
                f"{source.name} is damaged after {counted(num_records, 'record')} ({stream.error}): copy it again"
            )
        if source.is_empty:
            warnings.warn(f"{source.name} is empty: no record was read from it", SourceWarning, stacklevel=2)
        elif not num_records:
            raise SourceError(f"{source.name} has no FASTA record: {what_it_is(source)}")
        stream.finish(digest=False)


def _checked(source: SourceFile, records: Iterator[Record]) -> Iterator[Record]:
    """Return the records, with those refused as nucleotides that are doubtful and nucleotides by the others."""
    if source.format != FASTA:
        return records
    first = list(islice(records, CENSUS_RECORDS))
    kinds = [Kind.NUCLEOTIDES if record.outcome == Outcome.NUCLEOTIDES else _kind(record) for record in first]
    verdict = Census(kinds.count(Kind.PROTEIN), kinds.count(Kind.NUCLEOTIDES)).verdict
    everything: Iterable[Record] = chain(first, records)
    if verdict is Kind.PROTEIN:
        return iter(everything)
    return (
        record._replace(outcome=str(Outcome.NUCLEOTIDES), sequence=None)
        if _kind(record) is Kind.DOUBTFUL and is_nucleotides((record.sequence or "").encode("ascii"), verdict)
        else record
        for record in everything
    )


def _kind(record: Record) -> Kind | None:
    """Return what the letters of an accepted record show; None for a refused one."""
    return None if record.sequence is None else kind_of(record.sequence.encode("ascii"))
