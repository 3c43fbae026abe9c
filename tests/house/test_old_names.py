"""Names that documents gave before modules moved into rooms still work, with a warning."""

import importlib

import pytest

OLD = {
    "foldatlas.atlas.open": ("foldatlas.atlas.reader", ["Atlas"]),
    "foldatlas.atlas.matrices": ("foldatlas.atlas.parquet.matrices", ["decode_pae", "decode_residue_embeddings"]),
    "foldatlas.atlas.structure_files": ("foldatlas.atlas.writers.structure_files", ["cif_text", "pdb_text"]),
    "foldatlas.folding.experimental": ("foldatlas.folding.compare.experimental", ["read_chains"]),
    "foldatlas.folding.lddt": ("foldatlas.folding.compare.lddt", ["lddt_all_atom", "lddt_ca"]),
    "foldatlas.folding.atom_layouts": ("foldatlas.folding.compare.atom_layouts", ["atom14", "atom37"]),
    "foldatlas.pipeline.dask_preload": ("foldatlas.pipeline.engines.dask.preload", ["dask_setup"]),
    "foldatlas.pipeline.dask_keys": ("foldatlas.pipeline.engines.dask.keys", ["make_keys", "use_keys"]),
}


@pytest.mark.parametrize("old", OLD)
def test_an_old_name_gives_the_new_object(old: str) -> None:
    new, names = OLD[old]
    with pytest.warns(DeprecationWarning, match=new.replace(".", r"\.")):
        module = importlib.reload(importlib.import_module(old))
    for name in names:
        assert getattr(module, name) is getattr(importlib.import_module(new), name)


def test_structures_are_compared_by_the_name_of_the_room() -> None:
    from foldatlas.folding.compare import gdt_ts, rmsd, superposition, tm_score

    assert (gdt_ts, rmsd, tm_score) == (superposition.gdt_ts, superposition.rmsd, superposition.tm_score)
