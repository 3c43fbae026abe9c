"""Chains and a file of chains for the tests of evaluation: made up, with the gaps and oddities of real ones."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foldatlas.folding.compare.atom_layouts import ATOM37
from foldatlas.folding.compare.experimental import Chain
from foldatlas.schemas.records import ATOMS


def make_chain(name, sequence, split="valid", cluster=None, seed=0, gap_at=None):
    """A compact chain whose atoms stand about their C-alphas; `gap_at` is where its numbering jumps."""
    rng = np.random.default_rng([seed, len(sequence)])
    positions = np.zeros((len(sequence), 14, 3), np.float32)
    observed = np.zeros((len(sequence), 14), bool)
    place = np.zeros(3)
    for row, residue in enumerate(sequence):
        step = rng.normal(size=3) - 0.1 * place
        place = place + 3.8 * step / np.linalg.norm(step)
        number = len(ATOMS[residue])
        positions[row, :number] = place + rng.normal(size=(number, 3)) * 1.4
        observed[row, :number] = True
    numbers = np.arange(len(sequence), dtype=np.int32)
    if gap_at is not None:
        numbers[gap_at:] += 7
    return Chain(name, sequence, positions.round(3), observed, numbers, split, cluster or name)


def write_chains(path, chains):
    names = list(ATOM37)
    columns = {name: [] for name in ("chain_id", "cluster30", "split", "sequence", "residue_index")}
    columns |= {name: [] for name in ("atom_residue", "atom_type", "x", "y", "z")}
    for chain in chains:
        rows, places = np.nonzero(chain.observed_LA)
        xyz = np.rint(chain.positions_LA3[rows, places] * 1000).astype(int)
        columns["chain_id"].append(chain.name)
        columns["cluster30"].append(chain.cluster)
        columns["split"].append(chain.split)
        columns["sequence"].append(chain.sequence)
        columns["residue_index"].append(chain.residue_index_L.tolist())
        columns["atom_residue"].append(rows.tolist())
        columns["atom_type"].append(
            [names.index(ATOMS[chain.sequence[r]][p]) for r, p in zip(rows, places, strict=True)]
        )
        for axis, letter in enumerate("xyz"):
            columns[letter].append(xyz[:, axis].tolist())
    metadata = {"coordinates": "experimental, 0.001 angstrom", "atom_type": "index into " + " ".join(names)}
    pq.write_table(pa.table(columns).replace_schema_metadata(metadata), path)
    return path


@pytest.fixture
def chains(random_sequence):
    """Three of the valid split, with a gap, an unknown residue and one of the names that HTML must escape; six to
    train on."""
    valid = [
        make_chain("v1", random_sequence(30), gap_at=12),
        make_chain("v<2>&$x$", random_sequence(24) + "X", seed=1),
        make_chain("v3", random_sequence(41), seed=2),
    ]
    return valid + [make_chain(f"t{n}", random_sequence(26 + 4 * n, n), "train", seed=n) for n in range(6)]


@pytest.fixture
def chains_file(chains, tmp_path):
    return write_chains(tmp_path / "chains.parquet", chains)
