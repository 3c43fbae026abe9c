"""Exhaustive TM-align (tmtools) of query chains against reference chains: the truth of benchmarks/novelty.py.

    python benchmarks/novelty_truth.py CHAINS.parquet PARTS OUT.parquet [--processes 2]

Queries are the chains of split `valid`, references those of split `train`; each pair is aligned once, on C-alphas, and
both normalisations are kept. PARTS is a folder with one file a query, written whole and renamed, so that a run that was
stopped continues; OUT holds all pairs when the last is done: `query`, `target`, `tm_query`, `tm_target` (0-1, stored as
uint16 x 10,000). About 190,000 pairs at 35 ms each.
"""

import argparse
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

SCALE = 10_000  # of stored TM-scores
_reference: list[tuple[str, str, Any]] = []


def c_alphas(path: Path, split: str) -> list[tuple[str, str, Any]]:
    """(name, sequence, C-alphas [L, 3] in angstrom) of each chain of a split, residues without one left out."""
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.metadata[b"atom_type"].decode().removeprefix("index into ").split()
        table = file.read()
    chains = []
    for row in table.filter(pc.equal(table["split"], split)).to_pylist():
        is_ca = np.array(row["atom_type"]) == names.index("CA")
        xyz = np.stack([np.array(row[axis])[is_ca] for axis in "xyz"], axis=1) / 1000.0
        sequence = "".join(row["sequence"][residue] for residue in np.array(row["atom_residue"])[is_ca])
        chains.append((row["chain_id"], sequence, np.ascontiguousarray(xyz, dtype=np.float64)))
    return chains


def align_query(task: tuple[int, tuple[str, str, Any], Path]) -> str:
    """Align one query with every reference chain and write its part."""
    import tmtools

    _, (name, sequence, xyz), part = task
    if part.exists():
        return name
    scores = np.zeros((len(_reference), 2), dtype=np.uint16)
    for row, (_, other_sequence, other_xyz) in enumerate(_reference):
        found = tmtools.tm_align(xyz, other_xyz, sequence, other_sequence)
        scores[row] = np.rint(SCALE * np.array([found.tm_norm_chain1, found.tm_norm_chain2]))
    temporary = part.with_name(f".{part.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        np.save(file, scores)
    temporary.rename(part)
    return name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("parts", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.parts.mkdir(parents=True, exist_ok=True)
    queries = c_alphas(arguments.chains, "valid")
    _reference.extend(c_alphas(arguments.chains, "train"))
    tasks = [(number, query, arguments.parts / f"{number:04d}.npy") for number, query in enumerate(queries)]
    with multiprocessing.Pool(arguments.processes) as pool:
        for done, name in enumerate(pool.imap(align_query, tasks), start=1):
            print(f"{done}/{len(tasks)} {name}", flush=True)
    scores = np.concatenate([np.load(part) for _, _, part in tasks])
    table = pa.table(
        {
            "query": pa.array([name for name, _, _ in queries for _ in _reference]).dictionary_encode(),
            "target": pa.array([name for name, _, _ in _reference] * len(queries)).dictionary_encode(),
            "tm_query": pa.array(scores[:, 0]),
            "tm_target": pa.array(scores[:, 1]),
        }
    )
    pq.write_table(table, arguments.out, compression="zstd", compression_level=19)


if __name__ == "__main__":
    main()
