"""Files of real chains of the shared data, as a producer of predictions would write them: pLDDT and pTM are made up."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_chains import CHAINS

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.schemas.records import ATOMS, num_atoms, structure_id


def write_real_chains(folder: Path, count: int) -> Path:
    """Write the first `count` chains, in turn as PDB and mmCIF, to `folder`. Skip the test without the shared data."""
    if not CHAINS.exists():
        pytest.skip("needs ../shared/data")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    with pq.ParquetFile(CHAINS) as file:
        atom_names = file.schema_arrow.metadata[b"atom_type"].decode().partition("index into ")[2].split()
        rows = next(file.iter_batches(count)).to_pylist()
    for number, row in enumerate(rows):
        sequence = row["sequence"]
        starts = np.concatenate([[0], np.cumsum([len(ATOMS[letter]) for letter in sequence])])
        positions = np.full((num_atoms(sequence), 3), np.nan, np.float32)
        columns = (row[name] for name in ("atom_residue", "atom_type", "x", "y", "z"))
        for residue, kind, *position in zip(*columns, strict=True):
            names = ATOMS[sequence[residue]]
            if atom_names[kind] in names:
                positions[starts[residue] + names.index(atom_names[kind])] = np.array(position) / 1000
        plddt = np.clip(rng.normal(rng.uniform(40, 95), 8, len(sequence)), 0, 100).astype(np.float32)
        stored = StoredStructure(structure_id(sequence), sequence, positions, plddt)
        ending, text = ((".pdb", pdb_text), (".cif", cif_text))[number % 2]
        ptm = round(float(rng.uniform(0.3, 0.95)), 3)
        content = text(stored, name=row["chain_id"], model="made", mean_plddt=float(plddt.mean()), ptm=ptm)
        (folder / f"{row['chain_id']}{ending}").write_text(content)
    return folder
