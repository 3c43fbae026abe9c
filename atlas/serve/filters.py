"""Filters of proteins as SQL with parameters, and keyset cursors.

Pages are in the order of structure_id, id and source, in which DuckDB finds the rows after a key by the sorted table of
structures. A cursor is the key of the last row of a page, so pages stay right while the index is replaced.
"""

import base64
import binascii
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any, Final

from foldatlas.atlas.index.views import HIGH_CONFIDENCE, MAX_NOVEL_TM, MIN_NOVEL_LENGTH
from foldatlas.atlas.sql.text import literal
from foldatlas.schemas.errors import UsageError

ORDER: Final = "structure_id, id, source"
MAX_CURSOR_LENGTH: Final = 4_096  # characters
MAX_DECIMAL: Final = 1e30  # beyond, numbers are written with an exponent

# SQL of what is novel: against a demonstration, nothing is.
NOVEL: Final = (
    f"coalesce({HIGH_CONFIDENCE} AND length >= {MIN_NOVEL_LENGTH} AND tm_query < {MAX_NOVEL_TM}, false) AND NOT "
    "coalesce((SELECT bool_or(demo) FROM novelty_runs WHERE is_latest AND search = 'structures'), false)"
)

# Field of ProteinFilter -> SQL; ? is its value.
_CONDITIONS: Final[dict[str, str]] = {
    "min_length": "length >= ?",
    "max_length": "length <= ?",
    "min_plddt": "mean_plddt >= ?",
    "max_plddt": "mean_plddt <= ?",
    "min_ptm": "ptm >= ?",
    "max_ptm": "ptm <= ?",
    "min_fraction_confident": "fraction_confident >= ?",
    "min_tm": "tm_query >= ?",
    "max_tm": "tm_query <= ?",
    "min_identity": "identity_max >= ?",
    "max_identity": "identity_max <= ?",
    "cluster90": "cluster90 = ?",
    "cluster30": "cluster30 = ?",
    "cluster_structure": "cluster_structure = ?",
    "structure_id": "structure_id = ?",
    "sequence_crc64": "sequence_crc64 = ?",
    "source": "source = ?",
}
OF_RECORDS: Final = ("source", "sequence_crc64", "fragment")  # fields on columns of records; the others: of `scores`
OF_BIT: Final = "get_bit(?::BLOB::BIT, {}::INTEGER) = 1"  # SQL of whether the bit of a row is set in a parameter
_FLAGS: Final[dict[str, str]] = {
    "high_confidence": f"coalesce({HIGH_CONFIDENCE}, false)",
    "novel": NOVEL,
    "representative": "coalesce(is_representative30, false)",
    "fragment": "coalesce(is_fragment, false)",
}


@dataclass(frozen=True, slots=True)
class ProteinFilter:
    """Conditions on proteins, all of which must hold; None is no condition. Columns are those of the view `proteins`.

    A protein without a value (not searched, not clustered, an imported one without a score) meets no condition on it.
    """

    min_length: int | None = None
    max_length: int | None = None
    min_plddt: float | None = None
    max_plddt: float | None = None
    min_ptm: float | None = None
    max_ptm: float | None = None
    min_fraction_confident: float | None = None
    min_tm: float | None = None
    max_tm: float | None = None
    min_identity: float | None = None
    max_identity: float | None = None
    cluster90: uuid.UUID | None = None
    cluster30: uuid.UUID | None = None
    cluster_structure: uuid.UUID | None = None
    structure_id: uuid.UUID | None = None
    sequence_crc64: str | None = None
    source: str | None = None
    high_confidence: bool | None = None
    novel: bool | None = None
    representative: bool | None = None
    fragment: bool | None = None

    def conditions(self) -> dict[str, str]:
        """Return SQL on the columns of `proteins` for each field that is a condition."""
        found = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None:
                continue
            if field.name in _FLAGS:
                found[field.name] = _FLAGS[field.name] if value else f"NOT ({_FLAGS[field.name]})"
            else:
                shown = number_sql(value) if isinstance(value, int | float) else literal(str(value))
                found[field.name] = _CONDITIONS[field.name].replace("?", shown)
        return found

    def sql(self) -> str:
        """Return a condition on the columns of `proteins`."""
        return _all(self.conditions().values())

    def sql_of(self, *, records: bool) -> str:
        """Return the part of the condition that is on columns of records, or the other, which is on `scores`."""
        return _all(sql for name, sql in self.conditions().items() if (name in OF_RECORDS) == records)


@dataclass(frozen=True, slots=True)
class Matching:
    """The proteins that meet a filter, as a bit for each row of `scores` of an index, and one for each of `records`.

    `records` is None if all records of a structure meet the filter as it does.
    """

    structures: bytes
    records: bytes | None


def _all(conditions: Iterable[str]) -> str:
    return " AND ".join(f"({condition})" for condition in ["true", *conditions])


def number_sql(value: float) -> str:
    """Return a finite number as SQL: a decimal, which DuckDB compares with a FLOAT as a FLOAT, so that 0.7 is 0.7."""
    if isinstance(value, int):
        return str(value)
    text = format(Decimal(repr(value)), "f") if abs(value) < MAX_DECIMAL else repr(value)
    return text.removesuffix(".0")


@dataclass(frozen=True, slots=True)
class Key:
    """The place of a row in the order of pages."""

    structure_id: uuid.UUID
    id: str
    source: str

    def text(self) -> str:
        """Return the key as a cursor: letters, digits, - and _."""
        return base64.urlsafe_b64encode(
            json.dumps([self.structure_id.hex, self.id, self.source], separators=(",", ":")).encode()
        ).decode().rstrip("=")  # fmt: skip

    def sql(self) -> tuple[str, list[Any]]:
        """Return the condition that a row comes after this key, and its parameters."""
        return (
            "structure_id >= ? AND (structure_id > ? OR (id > ? OR (id = ? AND source > ?)))",
            [self.structure_id, self.structure_id, self.id, self.id, self.source],
        )


def parse_cursor(text: str) -> Key:
    """Return the key of a cursor. Raise UsageError for a text that is not one."""
    try:
        if len(text) > MAX_CURSOR_LENGTH:
            raise ValueError
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        identity, name, source = json.loads(raw)
        if not all(isinstance(part, str) for part in (identity, name, source)):
            raise ValueError
        name.encode()  # no halves of surrogate pairs
        source.encode()
        return Key(uuid.UUID(hex=identity), name, source)
    except (ValueError, TypeError, binascii.Error, RecursionError):
        raise UsageError("the cursor is not one of this server: begin again without it") from None
