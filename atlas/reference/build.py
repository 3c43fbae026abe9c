"""Build the next version of a database of structures from staged chains.

A version is written completely beside the others and then committed, so readers of older ones are not affected.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.reference.content import PER_RESIDUE, NextVersion, Scratch, files_after, gathered, planned
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.reference.read import Staged
from foldatlas.atlas.reference.reader import Reference, newest
from foldatlas.atlas.reference.version import Written, write_version
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.reference_tables import CHAINS, FILES, LEFT, STATE_ALPHABET, STRUCTURE_ENTRIES, ReferenceVersion

_LETTERS: Final = np.frombuffer(STATE_ALPHABET.encode(), dtype=np.uint8)
_ROWS: Final = 8_192  # entries written at a time


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
        candidates, others, scratch = gathered(staged, files.used, scratch_folder)
        plan = planned(before, files, candidates, others, scratch, number)

        def write(target: Path) -> Written:
            return _written(target, before, plan, scratch, number)

        return write_version(folder, before.document if before else None, "structures", write, demo=demo)
    finally:
        for path in scratch_folder.iterdir():
            path.unlink()


def _written(target: Path, before: Reference | None, plan: NextVersion, scratch: Scratch, number: int) -> Written:
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
    with (
        pq.ParquetWriter(target / "entries.parquet", STRUCTURE_ENTRIES, compression="zstd") as writer,
        DatabaseWriter(target / "states") as states,
        DatabaseWriter(target / "amino_acids") as amino_acids,
    ):
        row = 0
        for entries in _entries(before, plan, scratch, number):
            for entry, arrays in entries:
                part = slice(offsets[row], offsets[row + 1])
                for name, values in zip(PER_RESIDUE, arrays, strict=True):
                    made[name][part] = values
                made["sequence"][part] = np.frombuffer(entry["sequence"].encode("ascii"), np.uint8)
                versions[row] = entry["version"]
                states.write([_LETTERS[arrays[1]].tobytes()])
                amino_acids.write([entry["sequence"].encode("ascii")])
                digest.update(_described(entry))
                licences.add(entry["licence"])
                row += 1
            writer.write_table(pa.Table.from_pylist([entry for entry, _ in entries], schema=STRUCTURE_ENTRIES))
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


def _described(entry: dict[str, Any]) -> bytes:
    """Return what the digest of a version covers of an entry."""
    return "\t".join((entry["name"], entry["digest"].hex(), entry["licence"], f"{entry['version']}\n")).encode()


def _array(target: Path, name: str, dtype: type[np.generic], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Return a new array of a version, mapped for writing."""
    path = target / f"{name}.npy"
    if 0 in shape:  # an empty file cannot be mapped
        np.save(path, np.empty(shape, dtype))
        return np.empty(shape, dtype)
    return np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)


Arrays = tuple[npt.NDArray[Any], ...]
Entry = tuple[dict[str, Any], Arrays]


def _entries(before: Reference | None, plan: NextVersion, scratch: Scratch, number: int) -> Iterator[list[Entry]]:
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
