"""What the next version of a database of structures contains: files, chains and entries.

Entries of the previous version keep their order; new ones follow, sorted by file, member and number, so that the result
does not depend on the order in which processes read the files.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from foldatlas.atlas.reference.chains import CANDIDATE
from foldatlas.atlas.reference.identical import find_identical
from foldatlas.atlas.reference.read import Staged
from foldatlas.atlas.reference.reader import Reference
from foldatlas.schemas.reference_tables import LEFT

FileKey = tuple[str, str]  # source, member

PER_RESIDUE: Final = ("c_alphas", "states", "secondary")


@dataclass
class Candidate:
    """A staged chain without its arrays, which begin at index `begin` of the scratch arrays."""

    row: dict[str, Any]
    begin: int

    @property
    def key(self) -> tuple[str, str, int]:
        return self.row["source"], self.row["member"], self.row["number"]


@dataclass
class Scratch:
    """Arrays of all staged candidates, concatenated, in a folder that is deleted afterwards."""

    c_alphas: npt.NDArray[np.float32]
    states: npt.NDArray[np.uint8]
    secondary: npt.NDArray[np.uint8]

    def coordinates(self, candidate: Candidate) -> npt.NDArray[np.float32]:
        return self.c_alphas[candidate.begin : candidate.begin + candidate.row["length"]]


@dataclass
class NextVersion:
    """The entries and tables of the next version.

    `kept` are rows of the previous version, in order; `renamed` has, by such a row, the chain that gives its name now;
    `new` are candidates with their names in the database.
    """

    kept: list[int] = field(default_factory=list)
    renamed: dict[int, dict[str, Any]] = field(default_factory=dict)
    new: list[tuple[Candidate, str]] = field(default_factory=list)
    chains: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class FilesAfter:
    """Files of the next version. `used` is the staged table of each file whose chains are used."""

    rows: dict[FileKey, dict[str, Any]]
    used: dict[FileKey, Path]
    removed: dict[FileKey, str]  # files whose chains are removed, and why
    changed: bool


def files_after(before: Reference | None, staged: Staged, named: set[str], *, sync: bool, number: int) -> FilesAfter:
    """Join the files of the previous version with those that were read now.

    A file with the same content keeps its rows; one with other content replaces them; one that could be read before but
    not now keeps them, with the reason in `detail`. Members that are no longer in their archive are removed.
    """
    rows = {(row["source"], row["member"]): row for row in _rows(before, "files")}
    used: dict[FileKey, Path] = {}
    removed: dict[FileKey, str] = {}
    seen: dict[FileKey, Path] = {}
    changed = False
    for path in staged.file_tables():
        for row in pq.read_table(path).to_pylist():
            key = (row["source"], row["member"])
            if key in seen:  # read twice: one of the runs was interrupted
                continue
            seen[key] = path
            old = rows.get(key)
            if old and old["outcome"] == "read" and row["outcome"] != "read":
                rows[key] = {**old, "detail": f"kept: not readable for version {number} ({row['outcome']})"}
            elif old and old["sha256"] == row["sha256"] and old["outcome"] == row["outcome"]:
                rows[key] = {**old, "size": row["size"], "mtime_ns": row["mtime_ns"], "etag": row["etag"]}
            else:
                if old:
                    removed[key] = "changed"
                rows[key] = {**row, "version": number}
                used[key] = path
                changed = True
    # members of an archive that could not be read completely may still be in it
    cut = {source for (source, member), row in rows.items() if row["outcome"] == "unreadable" and not member}
    sources = {source for source, _ in seen} - cut
    for key in [key for key in rows if key[0] in sources and key not in seen]:
        removed[key] = "changed"
        del rows[key]
    if sync:
        for key in [key for key in rows if key[0] not in named]:
            removed[key] = "removed"
            del rows[key]
    return FilesAfter(rows, used, removed, changed)


def _rows(before: Reference | None, table: str) -> list[dict[str, Any]]:
    return before.table(table).to_pylist() if before else []


def gathered(
    staged: Staged, used: dict[FileKey, Path], folder: Path
) -> tuple[list[Candidate], list[dict[str, Any]], Scratch]:
    """Return the staged chains that are used: sorted candidates, with their arrays in scratch files, and others."""
    candidates: list[Candidate] = []
    others: list[dict[str, Any]] = []
    begin = 0
    paths = [folder / name for name in PER_RESIDUE]
    with paths[0].open("wb") as c_alphas, paths[1].open("wb") as states, paths[2].open("wb") as secondary:
        for files in staged.file_tables():
            if files not in set(used.values()):
                continue
            for batch in pq.ParquetFile(staged.chains_of(files)).iter_batches(1_024):
                for row in batch.to_pylist():
                    if used.get((row["source"], row["member"])) != files:
                        continue
                    arrays = [row.pop(name) for name in PER_RESIDUE]
                    if row["outcome"] != CANDIDATE:
                        others.append(row)
                        continue
                    for file, content in zip((c_alphas, states, secondary), arrays, strict=True):
                        file.write(content)
                    candidates.append(Candidate(row, begin))
                    begin += row["length"]
    candidates.sort(key=lambda candidate: candidate.key)
    mapped = [_mapped(paths[0], "<f4", (begin, 3)), *(_mapped(path, "u1", (begin,)) for path in paths[1:])]
    return candidates, others, Scratch(*mapped)


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    return np.memmap(path, dtype, "r", shape=shape) if shape[0] else np.empty(shape, dtype)


def planned(
    before: Reference | None,
    files: FilesAfter,
    candidates: list[Candidate],
    others: list[dict[str, Any]],
    scratch: Scratch,
    number: int,
) -> NextVersion:
    """Return the content of version `number`. A candidate that is identical to an entry is a chain of that entry."""
    plan = NextVersion(files=[files.rows[key] for key in sorted(files.rows)])
    entries = before.entries(["name", "sequence", "structure_id", "version", "source", "member"]) if before else None
    old = entries.to_pylist() if entries else []
    chains = [row for row in _rows(before, "chains") if (row["source"], row["member"]) not in files.removed]
    plan.left = _rows(before, "left")
    _keep(plan, old, chains, files.removed, number)

    by_sequence: dict[str, list[tuple[str, npt.NDArray[np.float32]]]] = {}
    wanted = {candidate.row["sequence"] for candidate in candidates}
    names = set()
    for row in plan.kept:
        name = plan.renamed[row]["name"] if row in plan.renamed else old[row]["name"]
        names.add(name)
        if old[row]["sequence"] in wanted:
            assert before is not None
            by_sequence.setdefault(old[row]["sequence"], []).append((name, before.chain(row)[1]))
    for candidate in candidates:
        kept = by_sequence.setdefault(candidate.row["sequence"], [])
        coordinates = scratch.coordinates(candidate)
        same = find_identical(coordinates, [positions for _, positions in kept])
        if same is not None:
            name, outcome = kept[same][0], "identical"
        else:
            name, outcome = _unique(candidate.row["name"], names), "entry"
            names.add(name)
            kept.append((name, coordinates))
            plan.new.append((candidate, name))
        chains.append(_chain(candidate.row, outcome, name, number))
    chains += [_chain(row, row["outcome"], None, number) for row in others]
    plan.chains = sorted(chains, key=lambda row: (row["source"], row["member"], row["number"]))
    return plan


def _keep(
    plan: NextVersion, old: list[dict[str, Any]], chains: list[dict[str, Any]], removed: dict[FileKey, str], number: int
) -> None:
    """Decide which entries stay. One whose file was removed stays under the name of an identical chain."""
    remaining: dict[str, list[dict[str, Any]]] = {}
    for chain in chains:
        if chain["entry"] is not None:
            remaining.setdefault(chain["entry"], []).append(chain)
    taken = {entry["name"] for entry in old}
    for row, entry in enumerate(old):
        same = remaining.get(entry["name"], [])
        if not same:
            reason = removed[entry["source"], entry["member"]]
            plan.left.append(
                {**{name: entry[name] for name in LEFT.names if name in entry}, "left": number} | {"reason": reason}
            )
            continue
        plan.kept.append(row)
        if not any(chain["outcome"] == "entry" for chain in same):
            first = min(same, key=lambda chain: (chain["source"], chain["member"], chain["number"]))
            first["outcome"] = "entry"
            name = _unique(first["name"], taken)
            taken.add(name)
            plan.renamed[row] = {**first, "name": name}
            for chain in same:
                chain["entry"] = name


def _unique(name: str, taken: set[str]) -> str:
    """Return `name`, or `name#2` and so on if another entry has it."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}#{count}"
    return found


def _chain(row: dict[str, Any], outcome: str, entry: str | None, number: int) -> dict[str, Any]:
    same = {name: row[name] for name in ("source", "member", "number", "chain", "name", "length", "dropped")}
    return {**same, "outcome": outcome, "entry": entry, "version": number}
