"""Small reference databases of made chains, and queries, for tests of structure search."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from made_chains import backbone, rotation

from foldatlas.atlas.novelty.hits import Query
from foldatlas.atlas.reference.build import build_structures
from foldatlas.atlas.reference.chains import chain_with_outcome
from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.read import Found, Item, Member, Staged, read_batch
from foldatlas.atlas.reference.reader import Reference

Atoms = tuple[np.ndarray, ...]  # N, C-alpha, C, C-beta, each [L, 3]


def sequence(length: int, seed: int = 0) -> str:
    return "".join(np.random.default_rng([seed, length]).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


def build(folder: Path, chains: Mapping[str, tuple[str, Atoms]], file: str = "chains") -> Reference:
    """The next version of the reference in `folder`, with `chains` by name as the content of a file called `file`."""
    database = ReferenceFolder(folder)
    with database.locked():
        staged = Staged.opened(database.staging, "CC0-1.0")
        content = [
            chain_with_outcome(name, name, "", letters, np.stack(atoms).astype(np.float32), 0)
            for name, (letters, atoms) in chains.items()
        ]
        item = Item(Found(file, "", -1, 0), (Member("", content),))
        staged.add(*read_batch([item], lambda found: [], "CC0-1.0"), True)
        build_structures(database, staged, [file])
        staged.discard()
    return Reference.open(folder)


def made(length: int, seed: int = 0) -> tuple[str, Atoms]:
    return sequence(length, seed), backbone(length, seed)


def relative(chain: tuple[str, Atoms], seed: int = 0, noise: float = 1.0) -> tuple[str, Atoms]:
    """Residues 20 to 27 left out, and the others moved, as a whole and each residue by `noise` angstrom."""
    letters, atoms = chain
    rng = np.random.default_rng(seed)
    kept = np.r_[0 : min(20, len(letters)), min(28, len(letters)) : len(letters)]
    shift, turn, away = rng.normal(size=(len(kept), 3)) * noise, rotation(rng), rng.normal(size=3) * 40
    return "".join(letters[k] for k in kept), tuple((atom[kept] + shift) @ turn.T + away for atom in atoms)


def query(chain: tuple[str, Atoms], plddt: float | np.ndarray | None = None, name: str = "query") -> Query:
    letters, atoms = chain
    values = None if plddt is None else np.broadcast_to(plddt, len(letters)).astype(np.float32)
    return Query(name, letters, np.stack(atoms, axis=1).astype(np.float32), values)
