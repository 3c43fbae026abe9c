"""The records of a FASTA file that can be used, one after another, where no atlas is made."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from foldatlas.pipeline.sources.find import SourceFile, what_it_is
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.pipeline.sources.validation import Record
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.records import Outcome
from foldatlas.schemas.wording import counted

NO_LIMIT: Final = 1 << 31  # residues: what fits is the device's to say


def accepted(source: SourceFile, refused: Counter[str]) -> Iterator[Record]:
    """Accepted records of a source; the others are counted in `refused`, by reason.

    Raises SourceError at the end of a file that is damaged, has no record, or changed meanwhile.
    """
    num_records = 0
    with open_records(source) as stream:
        for record, _ in stream.records(NO_LIMIT):
            num_records += 1
            if record.outcome == Outcome.ACCEPTED:
                yield record
            else:
                refused[record.outcome] += 1
        if stream.error:
            raise SourceError(
                f"{source.name} is damaged after {counted(num_records, 'record')} ({stream.error}): get it again"
            )
        if not num_records:
            raise SourceError(f"{source.name} has no FASTA record: {what_it_is(source)}")
        stream.finish(digest=False)
