"""The records of a FASTA file that can be used, one after another, where no atlas is made."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from foldatlas.pipeline.fasta import Reader
from foldatlas.pipeline.sources import SourceFile, is_unchanged, open_source, what_it_is
from foldatlas.pipeline.validation import Record, check
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome

NO_LIMIT: Final = 1 << 31  # residues: what fits is the device's to say


def accepted(source: SourceFile, refused: Counter[str]) -> Iterator[Record]:
    """Accepted records of a source; the others are counted in `refused`, by reason.

    Raises SourceError at the end of a file that is damaged, has no record, or changed meanwhile.
    """
    num_records = 0
    with open_source(source) as stream:
        reader = Reader(stream)
        for raw in reader:
            num_records += 1
            record = check(raw, NO_LIMIT)
            if record.outcome == Outcome.ACCEPTED:
                yield record
            else:
                refused[record.outcome] += 1
    if reader.error:
        raise SourceError(f"{source.path} is damaged after {num_records} records ({reader.error}): get it again")
    if not num_records:
        raise SourceError(f"{source.path} has no FASTA record: {what_it_is(source)}")
    if not is_unchanged(source):
        raise SourceError(f"{source.path} changed while it was read: run again when it is complete")
