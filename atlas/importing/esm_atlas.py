"""Rows of a table of ESM Atlas v1 (Lance): which are wanted, and the structure of one.

The columns are `header, protein_hash, sequence, ptm, mean_plddt, per_residue_plddt, pae, structure_blob`;
`protein_hash` is the md5 of the sequence, an atlas's structure_id. This layout, and that of the blob (atom37_blob.py),
is from a description: no table of the ESM Atlas was at hand to read. A wanted row becomes a file of its own, an Arrow
stream of one row (`row_file`), which is read like any other structure file: its blob is decoded where a crash is
isolated.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from foldatlas.atlas.importing.atom37_blob import Floats, array_of, check_packages, decoded, positions_of
from foldatlas.atlas.importing.confidence_json import MAX_PAE, MAX_ROUNDED_PAE
from foldatlas.atlas.importing.record import ImportedStructure, Provenance
from foldatlas.atlas.reference.chains import MAX_RESIDUES, StructureFault, safe_title
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.formats import DECLARED, NO_PLDDT
from foldatlas.schemas.records import RESIDUES, structure_id

ORIGIN: Final = "ESM Atlas"
LICENCE: Final = "CC-BY-SA-4.0"
ENDING: Final = ".esmatlas"  # of files of one row
MAGIC: Final = b"ESMATLAS"

_HASH, _HEADER = "protein_hash", "header"
_NEEDED: Final = ("sequence", "structure_blob", _HASH)
_READ: Final = (_HEADER, "sequence", "ptm", "per_residue_plddt", "structure_blob")
_PAE: Final = "pae"
_MAX_PLDDT: Final = 100.0
_ROWS_AT_ONCE: Final = 256
_HASHES_PER_FILTER: Final = 1_000


@dataclass
class Wanted:
    """What is looked up: ids by the md5 of their sequence, 32 hexadecimal digits, and by header."""

    by_hash: dict[str, list[str]] = field(default_factory=dict)
    by_header: dict[str, list[str]] = field(default_factory=dict)

    def add_sequence(self, identifier: str, sequence: str) -> None:
        """Want the structure of a sequence."""
        self.by_hash.setdefault(structure_id(sequence).hex(), []).append(identifier)

    def add_id(self, identifier: str) -> None:
        """Want a structure by the md5 of its sequence (with or without dashes), or else by its header."""
        digits = identifier.replace("-", "").lower()
        if len(digits) == 32 and all(digit in "0123456789abcdef" for digit in digits):
            self.by_hash.setdefault(digits, []).append(identifier)
        else:
            self.by_header.setdefault(identifier, []).append(identifier)

    @property
    def ids(self) -> list[str]:
        return [name for names in (*self.by_hash.values(), *self.by_header.values()) for name in names]


def find_rows(table: str | Path, wanted: Wanted, *, pae: bool = True) -> Iterator[tuple[list[str], bytes]]:
    """Yield the ids that want a row, and its file (`row_file`), for each wanted row that the table has.

    Of several rows of one sequence the first is taken. Where the table has an index of `protein_hash`, it is used;
    otherwise that column is read once. PAE is read if `pae`. Raise UsageError for a folder that is not such a table.
    """
    dataset = _opened(table)
    columns = [name for name in (*_READ, *((_PAE,) if pae else ())) if name in dataset.schema.names]
    version = str(dataset.version)
    left_hashes, left_headers = dict(wanted.by_hash), dict(wanted.by_header)
    if not left_headers and _has_index(dataset):
        yield from _by_index(dataset, left_hashes, columns, version)
        return
    offsets: dict[int, list[str]] = {}
    start = 0
    keys = [_HASH, *([_HEADER] if left_headers else [])]
    for batch in dataset.scanner(columns=keys, scan_in_order=True).to_batches():
        headers = batch.column(_HEADER).to_pylist() if left_headers else []
        for row, value in enumerate(batch.column(_HASH).to_pylist()):
            names = left_hashes.pop(_digits(value), [])
            if headers and (header := headers[row] or ""):
                names = names + left_headers.pop(header, left_headers.pop(header.partition(" ")[0], []))
            if names:
                offsets.setdefault(start + row, []).extend(names)
        start += batch.num_rows
        if not left_hashes and not left_headers:
            break
    places = sorted(offsets)
    for begin in range(0, len(places), _ROWS_AT_ONCE):
        some = places[begin : begin + _ROWS_AT_ONCE]
        rows = dataset.take(some, columns=columns)
        for number, place in enumerate(some):
            yield offsets[place], row_file(rows.slice(number, 1), version)


def _by_index(
    dataset: Any, left: dict[str, list[str]], columns: list[str], version: str
) -> Iterator[tuple[list[str], bytes]]:
    digits = sorted(left)
    for begin in range(0, len(digits), _HASHES_PER_FILTER):
        some = ", ".join(f"'{one}'" for one in digits[begin : begin + _HASHES_PER_FILTER])  # hexadecimal digits
        scanner = dataset.scanner(columns=[_HASH, *columns], filter=f"{_HASH} IN ({some})", batch_size=_ROWS_AT_ONCE)
        for batch in scanner.to_batches():
            rows = pa.Table.from_batches([batch])
            for number, value in enumerate(batch.column(_HASH).to_pylist()):
                names = left.pop(_digits(value), [])
                if names:
                    yield names, row_file(rows.select(columns).slice(number, 1), version)


def _opened(table: str | Path) -> Any:
    check_packages()
    import lance

    try:
        dataset = lance.dataset(str(table))
    except (ValueError, OSError) as error:
        raise UsageError(f"{table} is not a Lance table: {str(error).splitlines()[0]}") from error
    missing = [name for name in _NEEDED if name not in dataset.schema.names]
    if missing:
        raise UsageError(f"{table} is not a table of ESM Atlas v1: it has no column {', '.join(missing)}")
    return dataset


def _has_index(dataset: Any) -> bool:
    is_text = pa.types.is_string(dataset.schema.field(_HASH).type)
    return is_text and any(_HASH in index.field_names for index in dataset.describe_indices())


def _digits(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return str(value or "").replace("-", "").lower()


def row_file(row: pa.Table, version: str) -> bytes:
    """Return the file of one row: MAGIC and an Arrow stream. `version` is that of the table."""
    return _file_of(row, {"version": version})


def _file_of(row: pa.Table, metadata: dict[str, str]) -> bytes:
    sink = io.BytesIO()
    sink.write(MAGIC)
    schema = row.schema.with_metadata(metadata)
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(row.cast(schema).combine_chunks())
    return sink.getvalue()


def with_id(content: bytes, identifier: str) -> bytes:
    """Return the file of a row with the id that asked for it."""
    with pa.ipc.open_stream(memoryview(content)[len(MAGIC) :]) as stream:
        row = stream.read_all()
    known = row.schema.metadata or {}
    return _file_of(row, {**{key.decode(): value.decode() for key, value in known.items()}, "id": identifier})


def absent_file(identifier: str) -> bytes:
    """Return the file of an id without a row, of which `read_row_file` raises `not_found`."""
    return MAGIC + b"\n" + identifier.encode("utf-8", "backslashreplace")


def asked_id(content: bytes) -> str:
    """Return the id that asked for a file of one row, "" if it cannot be read."""
    body = content[len(MAGIC) :]
    if body.startswith(b"\n"):
        return body[1:].decode("utf-8", "replace")
    try:
        with pa.ipc.open_stream(body) as stream:
            known: dict[bytes, bytes] = stream.schema.metadata or {}
            return known.get(b"id", b"").decode("utf-8", "replace")
    except (pa.ArrowException, ValueError, OSError):
        return ""


def is_row_file(content: bytes) -> bool:
    """Return whether `content` is a file of one row."""
    return content.startswith(MAGIC)


def read_row_file(content: bytes) -> ImportedStructure:
    """Return the structure of a row. pLDDT up to 1 is scaled to 100.

    Raise StructureFault: `not_found`, `unreadable`, `empty`, `too_long`, `mixed_plddt`, and what `positions_of` raises.
    """
    if content[len(MAGIC) :].startswith(b"\n"):
        raise StructureFault("not_found", "the table has no structure of this protein")
    try:
        with pa.ipc.open_stream(memoryview(content)[len(MAGIC) :]) as stream:
            known = stream.schema.metadata or {}
            [row] = stream.read_all().to_pylist()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise StructureFault("unreadable", f"the row cannot be read: {error}") from error
    sequence, blob = row.get("sequence"), row.get("structure_blob")
    if not isinstance(sequence, str) or not isinstance(blob, bytes) or not sequence or not blob:
        raise StructureFault("empty", "the row has no sequence or no structure")
    if len(sequence) > MAX_RESIDUES:
        raise StructureFault("too_long", f"{len(sequence):,} residues, more than {MAX_RESIDUES:,}")
    if odd := sorted(set(sequence) - set(RESIDUES)):
        raise StructureFault("other_sequence", f"its sequence has {', '.join(odd)[:40]!r}, which are not residue codes")
    header = safe_title(str(row.get(_HEADER) or ""))
    plddt = _plddt(_numbers(row.get("per_residue_plddt"), "per_residue_plddt", len(sequence)), len(sequence))
    pae, fault = _pae(row.get(_PAE), len(sequence))
    version, asked = (known.get(key, b"").decode("utf-8", "replace") for key in (b"version", b"id"))
    return ImportedStructure(
        sequence=sequence,
        positions=positions_of(blob, sequence),
        plddt=plddt,
        plddt_source=NO_PLDDT if plddt is None or np.isnan(plddt).all() else DECLARED,
        ptm=_ptm(row.get("ptm")),
        pae=pae,
        pae_fault=fault,
        identifier=asked or header.partition(" ")[0],
        title=header,
        provenance=Provenance(model="", version=version, licence=LICENCE, origin=ORIGIN),
    )


def _numbers(value: Any, name: str, most: int) -> Floats | None:
    """Return the numbers of a column, a list or an array in a blob, flat; None for NULL."""
    if value is None:
        return None
    try:
        if isinstance(value, bytes):
            found = decoded(value, most * 8 + 1024)
            return array_of(found, name).astype(np.float32).ravel()
        return np.array(value, np.float32).ravel()
    except (ValueError, TypeError) as error:
        raise StructureFault("unreadable", f"{name} is not an array of numbers: {error}") from error


def _ptm(value: Any) -> float | None:
    if value is None or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)


def _plddt(values: Floats | None, length: int) -> Floats | None:
    if values is None:
        return None
    if len(values) != length:
        raise StructureFault("mixed_plddt", f"it has {len(values):,} pLDDT values, its sequence {length:,} residues")
    known = values[~np.isnan(values)]
    if not ((known >= 0) & (known <= _MAX_PLDDT)).all():
        raise StructureFault("mixed_plddt", f"its pLDDT is {known.min():g} to {known.max():g}, not 0 to 100")
    scale = _MAX_PLDDT if len(known) and known.max() <= 1 else 1.0
    return (values * np.float32(scale)).astype(np.float32)


def _pae(value: Any, length: int) -> tuple[Floats | None, str]:
    """Return PAE [L, L] in angstrom, None without one, and why it is not used, ""."""
    try:
        values = _numbers(value, _PAE, length**2)
    except StructureFault as fault:
        return None, str(fault)
    if values is None:
        return None, ""
    if len(values) != length**2:
        return None, f"PAE has {len(values):,} values, the sequence {length:,} residues"
    if not ((values >= 0) & (values <= MAX_ROUNDED_PAE)).all():
        return None, f"PAE is {values.min():g} to {values.max():g}, not 0 to {MAX_ROUNDED_PAE:g}"
    return np.minimum(values, np.float32(MAX_PAE)).reshape(length, length), ""
