"""Chains of structure files that were altered: a reason, or the chain."""

import made_structures
import numpy as np
import pytest

from foldatlas.atlas.reference.chains import StructureFault, read_structure


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_altered_files_have_a_reason_or_chains(kind: str) -> None:
    """300 files with random bytes replaced and ends cut off, bytes beyond ASCII in columns among them."""
    made = made_structures.structure({"A": ("MKLAGS" * 8, made_structures.backbone(48, 0))})
    text = made.make_pdb_string() if kind == "pdb" else made.make_mmcif_document().as_string()
    rng, faults = np.random.default_rng(4), 0
    for _ in range(300):
        altered = bytearray(text.encode())
        for place in rng.integers(0, len(altered), int(rng.integers(1, 20))).tolist():
            altered[place] = int(rng.integers(128, 256)) if rng.random() < 0.5 else int(rng.integers(0, 256))
        try:
            chains = read_structure(bytes(altered[: int(rng.integers(len(altered) // 2, len(altered) * 2))]), "made")
        except StructureFault as fault:
            faults += 1
            assert fault.outcome
        else:
            assert all(chain.backbone.shape == (4, len(chain.sequence), 3) for chain in chains)
    assert faults < 300
