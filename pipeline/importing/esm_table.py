"""Proteins of a table of ESM Atlas v1 (Lance) as files to import: a file a protein, whether the table has it or not.

The files are in a temporary folder of this machine. Their content, and so the plan, depends on the table's rows and
the wanted ids alone.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from foldatlas.atlas.export.id_files import names_in
from foldatlas.atlas.importing.esm_atlas import ENDING, Wanted, absent_file, find_rows, with_id
from foldatlas.atlas.storage.scratch import work_folder
from foldatlas.pipeline.sources.find import cut_ranges, find_sources
from foldatlas.pipeline.sources.record_stream import open_records
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import Outcome

MAX_SEQUENCE: Final = 65_534  # residues, as of other imports
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_.-]+")
_MAX_NAME: Final = 80


@dataclass(frozen=True)
class TableFiles:
    """The folder of the files, the identity of their source, and how many proteins the table has of those wanted."""

    folder: Path
    identity: str
    found: int
    wanted: int


@contextlib.contextmanager
def files_of_table(table: str | Path, wanted: str | Path, *, pae: bool) -> Iterator[TableFiles]:
    """Write the files of the proteins that the file `wanted` names, FASTA or a list of ids, and remove them at the end.

    `pae`: with the table's PAE.
    Raise UsageError for a file that cannot be read, or a table that is not one of ESM Atlas v1.
    """
    asked = wanted_in(wanted)
    if not asked.ids:
        raise UsageError(f"{wanted} names no protein: give FASTA, or a list of ids")
    identity = f"{Path(table).resolve().as_uri()}#{Path(wanted).name}"
    with work_folder() as work:
        folder = work / "proteins"
        folder.mkdir()
        left = dict.fromkeys(asked.ids)
        numbers = {name: number for number, name in enumerate(left)}
        for names, content in find_rows(table, asked, pae=pae):
            for name in names:
                if name in left:
                    del left[name]
                    _write(folder, numbers[name], name, with_id(content, name))
        for name in left:
            _write(folder, numbers[name], name, absent_file(name))
        yield TableFiles(folder, identity, len(numbers) - len(left), len(numbers))


def wanted_in(path: str | Path) -> Wanted:
    """Return what a file asks for: the sequences of FASTA, or ids. Refused records of FASTA are left out."""
    wanted = Wanted()
    try:
        with Path(path).open("rb") as file:
            head = file.read(2)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give FASTA, or a list of ids") from error
    if head[:1] != b">" and head not in (b"\x1f\x8b", b"\x28\xb5"):  # gzip, zst
        with names_in(path) as names:
            for name in names.names:
                wanted.add_id(name)
        return wanted
    for range_ in cut_ranges(find_sources([str(path)])):
        with open_records(range_.source, range_.start, range_.end) as stream:
            for batch in stream.batches(MAX_SEQUENCE):
                columns = (batch.column(name).to_pylist() for name in ("id", "sequence", "outcome"))
                for name, sequence, outcome in zip(*columns, strict=True):
                    if outcome == Outcome.ACCEPTED:
                        wanted.add_sequence(name, sequence)
    return wanted


def _write(folder: Path, number: int, name: str, content: bytes) -> None:
    path = folder / f"{number:08d}-{_UNSAFE.sub('_', name)[:_MAX_NAME]}{ENDING}"
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))  # the same content is the same version of the source
