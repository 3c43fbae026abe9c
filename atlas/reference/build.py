"""Build the next version of a database of structures from staged chains.

A version is written completely beside the others and then committed, so readers of older ones are not affected. Entries
of the previous version keep their order; new ones follow, sorted by file, member and number, so that the result does
not depend on the order in which processes read the files.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.reference.chains import CANDIDATE
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.identical import find_identical
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.reference.read import Staged
from foldatlas.atlas.reference.reader import Reference, newest
from foldatlas.atlas.reference.version import Written, write_version
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.reference_tables import CHAINS, FILES, LEFT, STATE_ALPHABET, STRUCTURE_ENTRIES, ReferenceVersion

FileKey = tuple[str, str]  # source, member

_LETTERS: Final = np.frombuffer(STATE_ALPHABET.encode(), dtype=np.uint8)
_PER_RESIDUE: Final = ("c_alphas", "states", "secondary")
_ROWS: Final = 8_192  # entries written at a time


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
class Plan:
    """The content of the next version. `kept` are rows of the previous version, in order."""

    kept: list[int] = field(default_factory=list)
    renamed: dict[int, dict[str, Any]] = field(
        default_factory=dict
    )  # row of the previous version -> chain that gives its name now
    new: list[tuple[Candidate, str]] = field(default_factory=list)  # with the name in the database
    chains: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    left: list[dict[str, Any]] = field(default_factory=list)


def build_structures(
    folder: ReferenceFolder, staged: Staged, named: Sequence[str], *, sync: bool = False, demo: bool = False
) -> ReferenceVersion | None:
    """Commit the next version: the previous one with the staged chains. Return None if nothing would change.

    With `sync`, chains of files that are not in `named` (sources) are removed.
    """
    before = newest(folder)
    number = before.version + 1 if before else 1
    files = files_after(before, staged, set(named), sync=sync, number=number)
    if before and not files.changed and not files.removed:
        return None
    scratch_folder = folder.staging / "scratch"
    scratch_folder.mkdir(parents=True, exist_ok=True)
    try:
        candidates, others, scratch = _gathered(staged, files.used, scratch_folder)
        plan = _planned(before, files, candidates, others, scratch, number)

        def write(target: Path) -> Written:
            return _written(target, before, plan, scratch, number)

        return write_version(folder, before.document if before else None, "structures", write, demo=demo)
    finally:
        for path in scratch_folder.iterdir():
            path.unlink()


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


def _gathered(
    staged: Staged, used: dict[FileKey, Path], folder: Path
) -> tuple[list[Candidate], list[dict[str, Any]], Scratch]:
    """Return the staged chains that are used: sorted candidates, with their arrays in scratch files, and others."""
    candidates: list[Candidate] = []
    others: list[dict[str, Any]] = []
    begin = 0
    paths = [folder / name for name in _PER_RESIDUE]
    with paths[0].open("wb") as c_alphas, paths[1].open("wb") as states, paths[2].open("wb") as secondary:
        for files in staged.file_tables():
            if files not in set(used.values()):
                continue
            for batch in pq.ParquetFile(staged.chains_of(files)).iter_batches(1_024):
                for row in batch.to_pylist():
                    if used.get((row["source"], row["member"])) != files:
                        continue
                    arrays = [row.pop(name) for name in _PER_RESIDUE]
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


def _planned(
    before: Reference | None,
    files: FilesAfter,
    candidates: list[Candidate],
    others: list[dict[str, Any]],
    scratch: Scratch,
    number: int,
) -> Plan:
    plan = Plan(files=[files.rows[key] for key in sorted(files.rows)])
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
    plan: Plan, old: list[dict[str, Any]], chains: list[dict[str, Any]], removed: dict[FileKey, str], number: int
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


def _written(target: Path, before: Reference | None, plan: Plan, scratch: Scratch, number: int) -> Written:
    """Write the files of a version into `target`."""
    lengths = [int(before.offsets[row + 1] - before.offsets[row]) for row in plan.kept] if before else []
    lengths += [candidate.row["length"] for candidate, _ in plan.new]
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)
    total = int(offsets[-1])
    made = {
        "c_alphas": _array(target, "c_alphas", np.float32, (total, 3)),
        "sequence": _array(target, "sequence", np.uint8, (total,)),
        "states": _array(target, "states", np.uint8, (total,)),
        "secondary": _array(target, "secondary", np.uint8, (total,)),
    }
    _array(target, "offsets", np.int64, offsets.shape)[:] = offsets
    versions = _array(target, "versions", np.int32, (len(lengths),))
    digest = hashlib.sha256()
    licences: set[str] = set()
    row = 0
    with (
        pq.ParquetWriter(target / "entries.parquet", STRUCTURE_ENTRIES, compression="zstd") as writer,
        DatabaseWriter(target / "states") as states,
        DatabaseWriter(target / "amino_acids") as amino_acids,
    ):
        for entries in _entries(before, plan, scratch, number):
            columns = []
            for entry, arrays in entries:
                begin, end = offsets[row], offsets[row + 1]
                for name, values in zip(_PER_RESIDUE, arrays, strict=True):
                    made[name][begin:end] = values
                made["sequence"][begin:end] = np.frombuffer(entry["sequence"].encode("ascii"), np.uint8)
                versions[row] = entry["version"]
                states.write([_LETTERS[arrays[1]].tobytes()])
                amino_acids.write([entry["sequence"].encode("ascii")])
                described = "\t".join((entry["name"], entry["digest"].hex(), entry["licence"], str(entry["version"])))
                digest.update(f"{described}\n".encode())
                licences.add(entry["licence"])
                columns.append(entry)
                row += 1
            writer.write_table(pa.Table.from_pylist(columns, schema=STRUCTURE_ENTRIES))
    for array in (*made.values(), versions):
        array.flush() if isinstance(array, np.memmap) else None
    for name, rows, schema in (
        ("chains", plan.chains, CHAINS),
        ("files", plan.files, FILES),
        ("left", plan.left, LEFT),
    ):
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), target / f"{name}.parquet", compression="zstd")
    return Written(
        digest=digest.hexdigest(),
        licences=sorted(licences),
        entries=len(lengths),
        residues=total,
        new=len(plan.new),
        left=sum(gone["left"] == number for gone in plan.left),
        chains=dict(sorted(Counter(chain["outcome"] for chain in plan.chains).items())),
        files=dict(sorted(Counter(file["outcome"] for file in plan.files).items())),
    )


def _array(target: Path, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a new array of a version, mapped for writing."""
    path = target / f"{name}.npy"
    if 0 in shape:  # an empty file cannot be mapped
        np.save(path, np.empty(shape, dtype))
        return np.empty(shape, dtype)
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)


Arrays = tuple[npt.NDArray[Any], ...]
Entry = tuple[dict[str, Any], Arrays]


def _entries(before: Reference | None, plan: Plan, scratch: Scratch, number: int) -> Iterator[list[Entry]]:
    """Yield entries of the next version with C-alphas, states and secondary structure, up to _ROWS at a time."""
    if before:
        table = before.entries()
        for start in range(0, len(plan.kept), _ROWS):
            rows = plan.kept[start : start + _ROWS]
            found: list[Entry] = []
            for row, entry in zip(rows, table.take(pa.array(rows, pa.int64())).to_pylist(), strict=True):
                if row in plan.renamed:
                    entry |= {name: plan.renamed[row][name] for name in ("name", "chain", "source", "member")}
                entry["structure_id"] = entry["structure_id"].bytes
                part = slice(before.offsets[row], before.offsets[row + 1])
                found.append((entry, (before.c_alphas[part], before.states[part], before.secondary[part])))
            yield found
    licences = {(row["source"], row["member"]): row["licence"] for row in plan.files}
    for start in range(0, len(plan.new), _ROWS):
        chosen: list[Entry] = []
        for candidate, name in plan.new[start : start + _ROWS]:
            chain = candidate.row
            part = slice(candidate.begin, candidate.begin + chain["length"])
            arrays: Arrays = (scratch.c_alphas[part], scratch.states[part], scratch.secondary[part])
            digest = hashlib.sha256(chain["sequence"].encode("ascii"))
            digest.update(arrays[0].astype("<f4").tobytes())
            digest.update(arrays[1].tobytes())
            entry = {
                **{field: chain[field] for field in ("title", "chain", "sequence", "length", "source", "member")},
                "name": name,
                "structure_id": structure_id(chain["sequence"]),
                "digest": digest.digest(),
                "version": number,
                "licence": licences[chain["source"], chain["member"]],
            }
            chosen.append((entry, arrays))
        yield chosen
