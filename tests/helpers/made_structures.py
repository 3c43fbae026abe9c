"""Structure files for tests: ideal helices and noisy curves, written as PDB and mmCIF by gemmi."""

from pathlib import Path

import gemmi
import numpy as np

LETTERS = {"A": "ALA", "G": "GLY", "L": "LEU", "K": "LYS", "S": "SER", "M": "MET"}


def backbone(length: int, seed: int) -> np.ndarray:
    """N, CA, C, O, CB [length, 5, 3] of a smooth random curve, in angstrom, rounded as in a PDB file."""
    random = np.random.default_rng(seed)
    steps = np.cumsum(random.normal(0, 0.35, (length, 3)), axis=0)
    steps = 3.8 * steps / np.linalg.norm(steps, axis=1, keepdims=True)
    c_alphas = np.cumsum(steps, axis=0)
    offsets = np.array([[-1.2, 0.7, 0.2], [0, 0, 0], [1.1, 0.9, 0.1], [1.3, 2.0, 0.4], [0.1, -1.0, 1.1]])
    return np.round(c_alphas[:, None] + offsets, 3)


def add_chain(model: gemmi.Model, name: str, sequence: str, positions: np.ndarray, names: dict[int, str] | None = None):
    chain = gemmi.Chain(name)
    for number, letter in enumerate(sequence):
        residue = gemmi.Residue()
        residue.name = (names or {}).get(number, LETTERS[letter])
        residue.seqid = gemmi.SeqId(number + 1, " ")
        residue.entity_type = gemmi.EntityType.Polymer
        for place, atom_name in enumerate(("N", "CA", "C", "O", "CB")):
            if atom_name == "CB" and letter == "G":
                continue
            atom = gemmi.Atom()
            atom.name, atom.element, atom.occ = atom_name, gemmi.Element(atom_name[0]), 1.0
            atom.pos = gemmi.Position(*map(float, positions[number, place]))
            residue.add_atom(atom)
        chain.add_residue(residue)
    return model.add_chain(chain)


def structure(chains: dict[str, tuple[str, np.ndarray]], name: str = "1abc") -> gemmi.Structure:
    made = gemmi.Structure()
    made.name = name
    model = gemmi.Model(1)
    for chain, (sequence, positions) in chains.items():
        add_chain(model, chain, sequence, positions)
    made.add_model(model)
    made.setup_entities()
    return made


def random_sequence(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list(LETTERS), length))


def write(path: Path, chains: dict[str, tuple[str, np.ndarray]], name: str = "1abc") -> Path:
    made = structure(chains, name)
    text = made.make_mmcif_document().as_string() if path.suffix == ".cif" else made.make_pdb_string()
    path.write_text(text)
    return path
