"""Bonds, omega angles, chirality and clashes of real and made chains beside Biotite and Biopython."""

import itertools
from dataclasses import fields

import biotite.structure as struc
import made_chains
import numpy as np
import pytest
from Bio.PDB.Atom import Atom
from Bio.PDB.Chain import Chain as BioChain
from Bio.PDB.Polypeptide import PPBuilder
from Bio.PDB.Residue import Residue
from Bio.PDB.vectors import Vector, calc_dihedral

from foldatlas.folding.compare import stereochemistry
from foldatlas.folding.compare.experimental import read_chains
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES

THREE = dict(zip("ACDEFGHIKLMNPQRSTVWY", "ALA CYS ASP GLU PHE GLY HIS ILE LYS LEU MET ASN PRO GLN ARG SER THR VAL TRP "
                 "TYR".split(), strict=True))  # fmt: skip
Chain = tuple[str, np.ndarray]


def made_chain(length: int, seed: int) -> Chain:
    """A made backbone with side chains at random near it, so that some clash, and every tenth atom missing."""
    rng = np.random.default_rng(seed)
    sequence = "".join(rng.choice(list(STANDARD_RESIDUES), length))
    n, ca, c, cb = made_chains.backbone(length, seed)
    atoms = []
    for row, letter in enumerate(sequence):
        placed = {"N": n[row], "CA": ca[row], "C": c[row], "CB": cb[row]}
        atoms += [placed.get(name, ca[row] + rng.normal(size=3) * 2) for name in ATOMS[letter]]
    positions = np.array(atoms)
    positions[rng.random(len(positions)) < 0.1] = np.nan
    return sequence, positions


def real_chains(number: int) -> list[Chain]:
    """Chains with nothing but standard residues; none without the shared data."""
    if not made_chains.CHAINS.is_file():
        return []
    found = []
    for chain in read_chains(made_chains.CHAINS, {"valid"}, 400):
        if set(chain.sequence) <= set(STANDARD_RESIDUES):
            rows = [
                np.where(chain.observed_LA[row, :size, None], chain.positions_LA3[row, :size], np.nan)
                for row, size in enumerate(len(ATOMS[letter]) for letter in chain.sequence)
            ]
            found.append((chain.sequence, np.concatenate(rows)))
    return found[:number]


@pytest.fixture(scope="module")
def chains() -> list[Chain]:
    return [made_chain(40 + seed, seed) for seed in range(8)] + real_chains(50)


@pytest.fixture(scope="module")
def measured(chains: list[Chain]) -> stereochemistry.Residues:
    return stereochemistry.measure([sequence for sequence, _ in chains], np.concatenate([p for _, p in chains]))


def atom_array(chain: Chain) -> struc.AtomArray:
    sequence, positions = chain
    array = struc.AtomArray(len(positions))
    array.coord = positions
    array.atom_name = [name for letter in sequence for name in ATOMS[letter]]
    array.res_name = [THREE[letter] for letter in sequence for _ in ATOMS[letter]]
    array.res_id = [row + 1 for row, letter in enumerate(sequence) for _ in ATOMS[letter]]
    array.element = [name[0] for letter in sequence for name in ATOMS[letter]]
    array.chain_id[:] = "A"
    return array


def bio_chain(chain: Chain) -> BioChain:
    sequence, positions = chain
    built, row = BioChain("A"), 0
    for number, letter in enumerate(sequence, 1):
        residue = Residue((" ", number, " "), THREE[letter], " ")
        for name in ATOMS[letter]:
            if np.isfinite(positions[row]).all():
                residue.add(Atom(name, positions[row], 0, 1, " ", f" {name:<3}", row, name[0]))
            row += 1
        built.add(residue)
    return built


def test_omega_and_bonds_equal_biotite(chains: list[Chain], measured: stereochemistry.Residues) -> None:
    omega = np.concatenate([np.degrees(struc.dihedral_backbone(atom_array(chain))[2]) for chain in chains])
    difference = (measured.omega - omega + 180) % 360 - 180
    assert (np.isnan(omega) == np.isnan(measured.omega)).all() and np.isfinite(omega).sum() > 100
    assert np.nanmax(np.abs(difference)) < 0.01  # degrees; biotite has float32
    bonds = []
    for chain in chains:
        array = atom_array(chain)
        n, c = (array.coord[array.atom_name == name] for name in ("N", "C"))
        bonds += [*struc.distance(c[:-1], n[1:]), np.nan]
    np.testing.assert_allclose(measured.peptide_bond, bonds, atol=1e-4)


def test_omega_chirality_and_breaks_equal_biopython(chains: list[Chain], measured: stereochemistry.Residues) -> None:
    begin = 0
    for chain in chains:
        residues = list(bio_chain(chain))
        joined = {
            (one.id[1], other.id[1])
            for peptide in PPBuilder(radius=stereochemistry.MAX_PEPTIDE_BOND).build_peptides(bio_chain(chain))
            for one, other in itertools.pairwise(peptide)
        }
        for row, residue in enumerate(residues, begin):
            following = residues[row - begin + 1] if row - begin + 1 < len(residues) else {}
            bond, omega, volume = measured.peptide_bond[row], measured.omega[row], measured.volume[row]
            needed = [residue.child_dict.get("CA"), residue.child_dict.get("C")]
            needed += [following.child_dict.get(name) for name in ("N", "CA")] if following else [None]
            if all(needed):
                angle = np.degrees(calc_dihedral(*(atom.get_vector() for atom in needed)))
                assert abs((omega - angle + 180) % 360 - 180) < 1e-3
            else:
                assert np.isnan(omega)
            assert (bond <= stereochemistry.MAX_PEPTIDE_BOND) == ((residue.id[1], residue.id[1] + 1) in joined)
            if all(name in residue for name in ("N", "CA", "C", "CB")):
                n, ca, c, cb = (Vector(residue[name].coord.astype(float)) for name in ("N", "CA", "C", "CB"))
                assert volume == pytest.approx((n - ca) * ((c - ca) ** (cb - ca)), abs=1e-4)
            else:
                assert np.isnan(volume)
        begin += len(residues)


def test_clashes_equal_a_search_by_biotite(chains: list[Chain]) -> None:
    expected = []
    for sequence, positions in chains:
        names = [(row, letter, name) for row, letter in enumerate(sequence) for name in ATOMS[letter]]
        seen = np.flatnonzero(np.isfinite(positions).all(axis=1))
        number = 0
        near = struc.CellList(positions[seen].astype(np.float32), 3.0).get_atoms(positions[seen], 2.2)
        for one, other in ((one, other) for one, row in enumerate(near) for other in row if one < other):
            (a, one_letter, one_name), (b, other_letter, other_name) = sorted((names[seen[one]], names[seen[other]]))
            if a == b or (b == a + 1 and one_name == "C" and other_name == "N"):
                continue
            if one_letter == other_letter == "C" and one_name == other_name == "SG":
                continue
            limit = sum(stereochemistry.RADII[name[0]] for name in (one_name, other_name)) - 1.5
            number += bool(np.linalg.norm(positions[seen[one]] - positions[seen[other]]) < limit)
        expected.append(number)
    found = stereochemistry.count([s for s, _ in chains], np.concatenate([p for _, p in chains])).clashes
    assert found.tolist() == expected and sum(expected) > 10


def test_a_batch_equals_its_structures(chains: list[Chain]) -> None:
    """Whole and one by one, moved far away: neither other structures nor the origin count."""
    together = stereochemistry.count([s for s, _ in chains], np.concatenate([p for _, p in chains]))
    for row, (sequence, positions) in enumerate(chains):
        alone = stereochemistry.count([sequence], positions + np.array([5000.0, -9000.0, 77.0]))
        for field in fields(stereochemistry.Counts):
            assert getattr(alone, field.name).tolist() == [getattr(together, field.name)[row]], field.name


def test_a_mirror_image_has_d_residues(chains: list[Chain]) -> None:
    sequence, positions = chains[0]
    mirrored = positions * [1, 1, -1]
    volumes = stereochemistry.measure([sequence], mirrored).volume
    assert stereochemistry.count([sequence], positions).d_residues.tolist() == [0]
    assert stereochemistry.count([sequence], mirrored).d_residues.tolist() == [np.isfinite(volumes).sum()]


def test_cis_and_twisted_peptides_are_told_apart() -> None:
    """A chain of three residues whose last C-alpha is turned about the second peptide bond."""
    n, ca, c, _ = made_chains.backbone(3, 5)
    found = {}
    for letter, angle in (("A", 180), ("A", 90), ("A", 5), ("P", 5)):
        sequence = "GG" + letter
        axis = (n[2] - c[1]) / np.linalg.norm(n[2] - c[1])
        turned = np.radians(angle - stereochemistry.measure(["GGG"], _glycines(n, ca, c)).omega[1])
        moved = ca.copy()
        arm = ca[2] - n[2]
        moved[2] = n[2] + (
            arm * np.cos(turned) + np.cross(axis, arm) * np.sin(turned) + axis * (axis @ arm) * (1 - np.cos(turned))
        )
        rows = [np.nan * np.zeros((len(ATOMS[letter]), 3)) for letter in sequence]
        for number, atoms in enumerate(rows):
            atoms[:3] = n[number], moved[number], c[number]
        counts = stereochemistry.count([sequence], np.concatenate(rows))
        found[letter, angle] = (counts.cis[0], counts.cis_proline[0], counts.twisted[0])
    assert found == {("A", 180): (0, 0, 0), ("A", 90): (0, 0, 1), ("A", 5): (1, 0, 0), ("P", 5): (0, 1, 0)}


def _glycines(n: np.ndarray, ca: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.stack([n, ca, c, np.full_like(n, np.nan)], axis=1).reshape(-1, 3)


def test_coinciding_and_missing_atoms_end_quickly() -> None:
    """Thousands of atoms at one point would be millions of pairs: each is compared with some of them."""
    sequence = "W" * 2000
    counts = stereochemistry.count([sequence, "G"], np.zeros((2000 * 14 + 4, 3)))
    assert 2000 < counts.clashes[0] <= 64 * 2000 * 14 and counts.clashes[1] == 0
    empty = stereochemistry.count(["GA"], np.full((9, 3), np.nan))
    assert [getattr(empty, field.name).tolist() for field in fields(empty)] == [[0]] * 6
