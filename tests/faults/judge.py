"""Is an atlas what it should be? Held against the clean one, and against what must become of each record.

Reads the JSON documents, Parquet files and index itself, by pyarrow and duckdb; `foldatlas verify` is asked besides.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq
from proteins import Expected

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.verify.atlas import verify

COORDINATE_UNITS = 1  # stored in hundredths of an angstrom: 0.01 A
SCORE_TOLERANCE = 2e-3  # of float32 scores after coordinates and pLDDT that may differ in their last digit
FROM_OUTSIDE = "SIGKILL"  # a protein that fails anyway may be in hand when the harness kills the process

PLACES = {"structure_file", "structure_row", "run_id", "source"}  # what may differ between two atlases


@dataclass
class Verdict:
    """What is wrong, a line each. `lost`: a record or structure that should be there; `duplicated`: one that stands
    twice; `corrupt`: a value that differs, or a fault that `verify` finds; `stray`: a file or process left behind."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    stray: list[str] = field(default_factory=list)

    def add(self, other: "Verdict", name: str) -> None:
        for kind in ("lost", "duplicated", "corrupt", "stray"):
            getattr(self, kind).extend(f"{name}: {line}" for line in getattr(other, kind))

    def line(self) -> str:
        return f"{len(self.lost)} lost, {len(self.duplicated)} duplicated, {len(self.corrupt)} corrupt"

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.corrupt or self.stray)


@dataclass
class Contents:
    """An atlas as it was read: rows of its files, and of its index. `searches` are those of searches of structures."""

    structures: list[dict[str, Any]]
    failures: list[dict[str, Any]]
    records: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    searches: list[dict[str, Any]]
    shards: set[str]
    committed: set[str]


def read(atlas: Path) -> Contents:
    newest: dict[str, tuple[int, dict[str, Any]]] = {}
    for path in (atlas / "manifest").glob("[!.]*.json"):
        entry = json.loads(path.read_bytes())
        known = newest.get(entry["shard"])
        if known is None or entry["generation"] > known[0]:
            newest[entry["shard"]] = entry["generation"], entry

    def rows(table: str) -> list[dict[str, Any]]:
        return [
            row
            for _, entry in newest.values()
            for row in pq.read_table(atlas / entry["files"][table]["path"]).to_pylist()
        ]

    plans = [json.loads(path.read_bytes()) for path in (atlas / "plans").glob("[!.]*.json")]
    with duckdb.connect(str(atlas / "atlas.duckdb"), read_only=True) as connection:
        records, scores, searches = (connection.sql(f"from {table}").to_arrow_table().to_pylist() for table in INDEXED)
    return Contents(
        structures=rows("structures"),
        failures=rows("failures"),
        records=records,
        scores=scores,
        searches=searches,
        shards={shard["name"] for plan in plans for shard in plan["shards"]},
        committed=set(newest),
    )


INDEXED = ("records", "scores", "novelty")


def judge(atlas: Path, clean: Contents, expected: Sequence[Expected], place: str | None = None) -> Verdict:
    """Compares; `clean` are the contents of the atlas of the same proteins that nothing disturbed. `place` is where
    `verify` looks, if `atlas` is a copy."""
    verdict = Verdict()
    try:
        found = read(atlas)
    except (OSError, duckdb.Error, KeyError, ValueError) as error:
        verdict.corrupt.append(f"it cannot be read: {error}")
        return verdict
    verdict.lost += [f"shard {name} is not committed" for name in found.shards - found.committed]
    _judge_records(found, clean, expected, verdict)
    _judge_structures(found, clean, verdict)
    _judge_failures(found, expected, verdict)
    result = verify(AtlasFolder(place or atlas))
    verdict.corrupt += map(str, result.faults)
    verdict.stray += result.notes
    verdict.stray += [f"{path.name} is left" for path in atlas.rglob(".*")]
    return verdict


def _twice(keys: Iterable[Any], what: str) -> list[str]:
    return [f"{what} {key} stands {count} times" for key, count in Counter(keys).items() if count > 1]


def _judge_records(found: Contents, clean: Contents, expected: Sequence[Expected], verdict: Verdict) -> None:
    verdict.duplicated += _twice(((row["source"], row["offset"]) for row in found.records), "record")
    by_place = {row["offset"]: row for row in found.records}
    for record, row in zip(expected, (by_place[place] for place in sorted(by_place)), strict=False):
        if (row["id"], row["state"]) != (record.id, record.state):
            verdict.lost.append(f"record {row['id']} is {row['state']}, not {record.id}, {record.state}")
    if len(by_place) < len(expected):
        verdict.lost.append(f"{len(expected) - len(by_place)} records are not there")
    elif len(by_place) > len(expected):
        verdict.corrupt.append(f"{len(by_place) - len(expected)} records too many")
    for row in clean.records:
        there = by_place.get(row["offset"])
        if there is not None:
            differ = [name for name in row if name not in PLACES and there[name] != row[name]]
            verdict.corrupt += [f"record {row['id']}: {name} differs" for name in differ]


def _judge_structures(found: Contents, clean: Contents, verdict: Verdict) -> None:
    for rows, reference, what in (
        (found.structures, clean.structures, "structure"),
        (found.scores, clean.scores, "scores of"),
        (found.searches, clean.searches, "search of"),
    ):
        verdict.duplicated += _twice((row["structure_id"] for row in rows), what)
        there = {row["structure_id"]: row for row in rows}
        wanted = {row["structure_id"]: row for row in reference}
        verdict.lost += [f"{what} {identity}" for identity in wanted.keys() - there.keys()]
        verdict.corrupt += [f"{what} {identity} should not be" for identity in there.keys() - wanted.keys()]
        for identity in wanted.keys() & there.keys():
            for name, value in wanted[identity].items():
                if name not in PLACES and not _alike(value, there[identity][name]):
                    verdict.corrupt.append(f"{what} {identity}: {name} differs")


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, list):
        if len(one) != len(other):
            return False
        return bool(np.abs(np.array(one, np.int64) - np.array(other, np.int64)).max(initial=0) <= COORDINATE_UNITS)
    if isinstance(one, float):
        return abs(one - other) <= SCORE_TOLERANCE * max(1.0, abs(one))
    return bool(one == other)


def _judge_failures(found: Contents, expected: Sequence[Expected], verdict: Verdict) -> None:
    import hashlib
    import uuid

    wanted = {
        uuid.UUID(bytes=hashlib.md5(record.sequence.encode(), usedforsecurity=False).digest()): record
        for record in expected
        if record.state == "failed"
    }
    verdict.duplicated += _twice((row["structure_id"] for row in found.failures), "failure of")
    there = {row["structure_id"]: row["error"] for row in found.failures}
    for identity, record in wanted.items():
        if identity not in there:
            verdict.lost.append(f"the failure of {record.id}")
        elif record.reason not in there[identity] and FROM_OUTSIDE not in there[identity]:
            verdict.corrupt.append(f"the failure of {record.id} says {there[identity]!r}")
    verdict.lost += [f"{identity} failed: {there[identity]}" for identity in there.keys() - wanted.keys()]
