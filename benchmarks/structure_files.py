"""Processor time of the structure writers, microseconds a residue, and gemmi's of a structure it already holds.

python benchmarks/structure_files.py
"""

import time
from collections.abc import Callable

import gemmi
import numpy as np

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.writers.structure_files import cif_text, pdb_text
from foldatlas.schemas.records import STANDARD_RESIDUES, num_atoms, structure_id

RESIDUES_PER_TRY = 40_000
TRIES = 7


def best_time(write: Callable[[], str], length: int) -> float:
    """Microseconds of processor time a residue, the least of TRIES."""
    write()  # makes the tables
    times = []
    for _ in range(TRIES):
        begun = time.process_time()
        for _ in range(RESIDUES_PER_TRY // length):
            write()
        times.append(time.process_time() - begun)
    return min(times) / (RESIDUES_PER_TRY // length * length) * 1e6


def main() -> None:
    generator = np.random.default_rng(0)
    print("| residues | PDB | gemmi's PDB | mmCIF | gemmi's mmCIF, without metrics |\n|---|---|---|---|---|")
    for length in (64, 128, 256, 512, 1_024):
        sequence = "".join(generator.choice(list(STANDARD_RESIDUES), length))
        positions = generator.normal(0, 30, (num_atoms(sequence), 3)).round(2).astype(np.float32)
        plddt = generator.uniform(0, 100, length).round(2).astype(np.float32)
        structure = StoredStructure(structure_id(sequence), sequence, positions, plddt)
        described = {"name": "protein", "model": "nano-untrained", "mean_plddt": 50.0, "ptm": 0.5}
        pdb = pdb_text(structure, **described)
        theirs = gemmi.read_pdb_string(pdb)
        writers = (
            lambda structure=structure, described=described: pdb_text(structure, **described),
            lambda theirs=theirs: theirs.make_pdb_string(),
            lambda structure=structure, described=described: cif_text(structure, **described),
            lambda theirs=theirs: theirs.make_mmcif_document().as_string(),
        )
        print(f"| {length:,} | {' | '.join(f'{best_time(write, length):.2f}' for write in writers)} |", flush=True)


if __name__ == "__main__":
    main()
