"""An atlas as a reference: its C-alphas are those that are stored, and missing atoms are no trouble."""

import numpy as np

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reference.from_atlas import chain_of
from foldatlas.schemas.records import ATOMS, num_atoms, structure_id


def test_backbone_of_a_stored_structure() -> None:
    sequence = "MKGWXAG" * 6
    positions = np.random.default_rng(0).normal(0, 20, (num_atoms(sequence), 3)).astype(np.float32)
    by_atom = iter(positions)
    expected = [dict(zip(ATOMS[letter], by_atom, strict=False)) for letter in sequence]
    positions[ATOMS["M"].index("CA")] = np.nan  # the first residue has no C-alpha
    expected[0]["CA"] = positions[1]
    stored = StoredStructure(structure_id(sequence), sequence, positions, np.full(len(sequence), 90, np.float32))
    chain = chain_of(stored)
    assert (chain.sequence, chain.dropped, chain.outcome) == (sequence[1:], 1, "candidate")
    for place, name in enumerate(("N", "CA", "C", "CB")):
        for found, atoms in zip(chain.backbone[place], expected[1:], strict=True):
            assert np.array_equal(found, atoms.get(name, np.full(3, np.nan)), equal_nan=True)
