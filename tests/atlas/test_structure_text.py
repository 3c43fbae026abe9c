"""Predicted structures read from PDB and mmCIF text: written by our writers and by gemmi, and altered."""

import re
from collections.abc import Callable

import gemmi
import made_structures
import numpy as np
import pytest

from foldatlas.atlas.importing.record import ImportedStructure, Provenance
from foldatlas.atlas.importing.structure_text import ReadOptions, read_structure_text
from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.schemas.records import ATOMS, STANDARD_RESIDUES, num_atoms, structure_id

Text = Callable[..., str]
SEQUENCE = STANDARD_RESIDUES + "XGAML"


@pytest.fixture(scope="module")
def stored() -> StoredStructure:
    """Every residue type; a residue without atoms, and one without a side chain."""
    rng = np.random.default_rng(1)
    ends = np.cumsum([len(ATOMS[letter]) for letter in SEQUENCE])
    positions = rng.normal(0, 30, (num_atoms(SEQUENCE), 3)).astype(np.float32)
    positions[ends[4] : ends[5]] = np.nan
    positions[ends[8] + 4 : ends[9]] = np.nan
    plddt = rng.uniform(20, 99, len(SEQUENCE)).astype(np.float32)
    plddt[5] = np.nan
    return StoredStructure(structure_id(SEQUENCE), SEQUENCE, positions, plddt)


def written(text: Text, structure: StoredStructure) -> bytes:
    return text(structure, name="a", model="nano", mean_plddt=60.0, ptm=0.5).encode()


def outcome(content: bytes, options: ReadOptions | None = None) -> str:
    with pytest.raises(StructureFault) as caught:
        read_structure_text(content, options)
    return caught.value.outcome


@pytest.mark.parametrize("text", [pdb_text, cif_text])
def test_export_is_read_back(text: Text, stored: StoredStructure) -> None:
    found = read_structure_text(written(text, stored))
    assert (found.sequence, found.chain, found.models) == (SEQUENCE, "A", 1)
    assert np.array_equal(np.isnan(found.positions), np.isnan(stored.positions))
    assert np.nanmax(np.abs(found.positions - stored.positions)) <= 0.00051
    assert np.isnan(found.plddt[5]) and np.nanmax(np.abs(found.plddt - stored.plddt)) <= 0.0051
    assert (found.hydrogens, found.other_atoms) == (0, 0)
    assert (found.ptm, found.identifier) == (0.5, "a")
    assert found.provenance == Provenance(model="nano", origin="FoldAtlas")
    assert found.breaks == len(SEQUENCE) - 3  # random atoms: every bond but those of the residue without atoms


def made(b_factors: np.ndarray, sequence: str = "MKLAGS" * 6, chains: str = "A") -> gemmi.Structure:
    found = made_structures.structure(
        {name: (sequence, made_structures.backbone(len(sequence), seed)) for seed, name in enumerate(chains)}
    )
    for chain in found[0]:
        for residue, b_factor in zip(chain, b_factors, strict=True):
            for atom in residue:
                atom.b_iso = float(b_factor)
    return found


def pdb(structure: gemmi.Structure, header: str = "") -> bytes:
    return (header + structure.make_pdb_string()).encode()


PLDDT = np.round(np.random.default_rng(2).uniform(30, 95, 36), 2)


@pytest.mark.parametrize(
    ("header", "options", "scale"),
    [
        ("TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR Q8W3K0\n", ReadOptions(), 1.0),
        ("TITLE     ESMFOLD V1 PREDICTION FOR MGYP000000000001\n", ReadOptions(), 0.01),
        ("", ReadOptions(plddt_scale=100), 1.0),
        ("", ReadOptions(plddt_scale=1), 0.01),
    ],
)
def test_plddt_has_one_scale(header: str, options: ReadOptions, scale: float) -> None:
    found = read_structure_text(pdb(made(PLDDT * scale), header), options)
    assert found.plddt is not None and np.abs(found.plddt - PLDDT).max() <= 0.51 * max(0.01, 0.01 / scale)


def test_b_factors_of_unknown_meaning_are_refused() -> None:
    """A range proves nothing: those of an experiment span 0 to 100, too."""
    assert outcome(pdb(made(PLDDT))) == "unknown_plddt"
    assert outcome(pdb(made(PLDDT * 2)), ReadOptions(plddt_scale=100)) == "mixed_plddt"
    assert outcome(pdb(made(PLDDT)), ReadOptions(plddt_scale=1)) == "mixed_plddt"
    per_atom = made(PLDDT)
    per_atom[0][0][3][2].b_iso += 1
    assert outcome(pdb(per_atom), ReadOptions(plddt_scale=100)) == "mixed_plddt"
    assert (
        read_structure_text(pdb(per_atom, "TITLE     ALPHAFOLD MONOMER V2.0 PREDICTION FOR X (P1)\n")).plddt is not None
    )  # of the C-alpha
    assert read_structure_text(pdb(made(PLDDT)), ReadOptions(experimental=True)).plddt is None
    assert read_structure_text(pdb(made(np.full(36, 20.0)))).plddt is None
    assert outcome(pdb(made(PLDDT)) + b"REMARK   1 ALPHAFOLD\n") == "unknown_plddt"  # behind the atoms


def test_one_chain_is_read() -> None:
    two = pdb(made(PLDDT, chains="AB"))
    assert outcome(two) == "several_chains"
    assert outcome(two, ReadOptions(chain="C", experimental=True)) == "no_such_chain"
    second = read_structure_text(two, ReadOptions(chain="B", experimental=True))
    assert second.chain == "B" and np.allclose(c_alphas(second), made_structures.backbone(36, 1)[:, 1], atol=6e-4)


def c_alphas(found: ImportedStructure) -> np.ndarray:
    starts = np.cumsum([0, *(len(ATOMS[letter]) for letter in found.sequence[:-1])])
    return found.positions[starts + 1]


def test_first_model_and_stored_atoms() -> None:
    """Of two models; selenomethionine is methionine; hydrogens and OXT are counted."""
    structure = made(PLDDT)
    second = made(PLDDT)[0]
    second.num = 2
    for residue in second[0]:
        for atom in residue:
            atom.pos += gemmi.Position(50, 0, 0)
    structure.add_model(second)
    first = structure[0][0][0]
    first.name = "MSE"
    for name, element in (("SE", "Se"), ("H", "H"), ("OXT", "O")):
        atom = gemmi.Atom()
        atom.name, atom.element, atom.pos = name, gemmi.Element(element), gemmi.Position(1, 2, 3)
        atom.b_iso = PLDDT[0]
        first.add_atom(atom)
    found = read_structure_text(pdb(structure), ReadOptions(plddt_scale=100))
    assert (found.models, found.hydrogens, found.other_atoms) == (2, 1, 1)
    assert found.sequence == "MKLAGS" * 6
    assert found.positions[ATOMS["M"].index("SD")].tolist() == [1, 2, 3]
    assert np.allclose(c_alphas(found), made_structures.backbone(36, 0)[:, 1], atol=6e-4)


@pytest.mark.parametrize("kind", ["pdb", "cif"])
def test_unobserved_residues_are_missing(kind: str) -> None:
    """Residues without atoms inside and at both ends, where the file states the sequence; and where it does not."""
    structure = made(PLDDT)
    entity = structure.entities[0]
    entity.full_sequence = [made_structures.LETTERS[letter] for letter in "MKLAGS" * 6]
    for place in (35, 17, 16, 0):
        del structure[0][0][place]
    structure.assign_label_seq_id()
    content = structure.make_mmcif_document().as_string().encode() if kind == "cif" else pdb(structure)
    found = read_structure_text(content, ReadOptions(plddt_scale=100))
    assert found.sequence == "MKLAGS" * 6
    missing = np.flatnonzero(np.isnan(c_alphas(found)[:, 0]))
    assert missing.tolist() == [0, 16, 17, 35] and np.flatnonzero(np.isnan(found.plddt)).tolist() == [0, 16, 17, 35]
    if kind == "pdb":
        bare = read_structure_text(re.sub(rb"SEQRES.*\n", b"", content), ReadOptions(plddt_scale=100))
        assert bare.sequence == ("MKLAGS" * 6)[1:16] + ("MKLAGS" * 6)[18:35]


def test_breaks_are_counted() -> None:
    """Every C is bonded to the next N, but one, which is at 2.6 angstrom."""
    structure = made(PLDDT)
    chain = structure[0][0]
    for number in range(35):
        carbon = chain[number].find_atom("C", "*").pos
        chain[number + 1].find_atom("N", "*").pos = carbon + gemmi.Position(2.6 if number == 20 else 1.33, 0, 0)
    assert read_structure_text(pdb(structure), ReadOptions(plddt_scale=100)).breaks == 1


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "not_structure"),
        (b"\0\1\2", "not_structure"),
        (b"data_x\nloop_\n_atom_site.id\n", "empty"),
        (b"HEADER    NOTHING\nEND\n", "empty"),
        (b"ATOM      1  N   ALA A   1      11.000  12.000  13.000  1.00 50.00           N\n", "no_c_alpha"),
        (b"HETATM    1  O   HOH A   1      11.000  12.000  13.000  1.00 50.00           O\n", "no_protein"),
    ],
)
def test_what_is_no_structure_has_a_reason(content: bytes, expected: str) -> None:
    assert outcome(content) == expected


def test_residues_that_contradict_the_sequence_are_refused(stored: StoredStructure) -> None:
    """One residue of the entity is renamed in mmCIF, where each atom states its place; none matches it any more."""
    content = written(cif_text, stored)
    place = STANDARD_RESIDUES.index("G") + 1
    altered, count = re.subn(rb"(?m)^1 +%d GLY n$" % place, b"1 %d ALA n" % place, content)
    assert count == 1 and outcome(altered) == "other_sequence"
    several = re.sub(rb"(?m)^1 +%d GLY n$" % place, b"1 %d ALA y\n1 %d GLY y" % (place, place), content)
    assert read_structure_text(several).sequence == SEQUENCE  # microheterogeneity: the residue with atoms


@pytest.mark.parametrize("text", [pdb_text, cif_text])
def test_altered_files_have_a_reason_or_a_structure(text: Text, stored: StoredStructure) -> None:
    """500 files with random bytes replaced, lines removed and ends cut off: no other exception."""
    content, rng = written(text, stored), np.random.default_rng(3)
    faults = 0
    for _ in range(500):
        altered = bytearray(content)
        for place in rng.integers(0, len(altered), int(rng.integers(1, 30))).tolist():
            altered[place] = int(rng.integers(0, 256))
        lines = bytes(altered).splitlines(keepends=True)
        del lines[int(rng.integers(len(lines)))]
        try:
            found = read_structure_text(b"".join(lines)[: int(rng.integers(len(altered) // 2, len(altered) * 2))])
        except StructureFault as fault:
            faults += 1
            assert fault.outcome and "\n" not in str(fault)
        else:
            assert len(found.positions) == num_atoms(found.sequence)
    assert 0 < faults < 500
