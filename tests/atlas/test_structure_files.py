"""PDB text, read back by gemmi, by Biopython, and by fixed columns as US-align reads them."""

import dataclasses
import io
import itertools

import gemmi
import numpy as np
import pytest
from Bio.PDB import PDBParser
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.atlas.coordinates import StoredStructure
from foldatlas.atlas.structure_files import MAX_RESIDUES, pdb_text, printable_ascii
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS, RESIDUES, THREE_LETTER, num_atoms, structure_id


def made(sequence: str, seed: int = 0) -> StoredStructure:
    generator = np.random.default_rng(seed)
    positions = generator.uniform(-900, 999, (num_atoms(sequence), 3)).round(2).astype(np.float32)
    plddt = generator.uniform(0, 100, len(sequence)).round(2).astype(np.float32)
    return StoredStructure(structure_id(sequence), sequence, positions, plddt)


def text_of(structure: StoredStructure, name: str = "protein", model: str = "nano-untrained") -> str:
    return pdb_text(structure, name=name, model=model, mean_plddt=float(structure.plddt.mean()), ptm=0.5)


def expected_atoms(structure: StoredStructure) -> list[tuple[int, str, str]]:
    return [
        (number, THREE_LETTER[letter], atom)
        for number, letter in enumerate(structure.sequence, 1)
        for atom in ATOMS[letter]
    ]


def fixed_columns(text: str) -> list[tuple[int, str, str, float, float, float, float, str]]:
    """ATOM records by the columns of PDB format 3.3, nothing else."""
    rows = []
    for line in text.splitlines():
        if line.startswith("ATOM  "):
            assert len(line) == 80 and line[16] == line[26] == " " and line[21] == "A" and line[54:60] == "  1.00"
            assert line[12] == " "  # elements of one letter begin in column 14
            rows.append(
                (int(line[22:26]), line[17:20], line[12:16].strip(), float(line[30:38]), float(line[38:46]),
                 float(line[46:54]), float(line[60:66]), line[76:78].strip())
            )  # fmt: skip
    return rows


EVERY_RESIDUE = "".join(sorted(RESIDUES))


@pytest.mark.parametrize("sequence", [EVERY_RESIDUE, "M", "X", "G" * 300])
def test_three_readers_find_every_atom_where_it_is(sequence: str) -> None:
    structure = made(sequence)
    text = text_of(structure)
    atoms = expected_atoms(structure)
    plddt = np.repeat(structure.plddt, [num_atoms(letter) for letter in sequence])

    columns = fixed_columns(text)
    assert [row[:3] for row in columns] == atoms
    np.testing.assert_allclose([row[3:6] for row in columns], structure.positions, atol=0.00051)
    np.testing.assert_allclose([row[6] for row in columns], plddt, atol=0.0051)
    assert [row[7] for row in columns] == [atom[0] for _, _, atom in atoms]

    chain = gemmi.read_pdb_string(text)[0]["A"]
    read = [(r.seqid.num, r.name, a.name, *a.pos.tolist(), a.b_iso) for r in chain for a in r]
    assert [row[:3] for row in read] == atoms
    np.testing.assert_allclose([row[3:] for row in read], [row[3:7] for row in columns], atol=1e-4)
    assert all(residue.het_flag == "A" for residue in chain)

    model = PDBParser(QUIET=False).get_structure("x", io.StringIO(text))[0]  # a warning would be an error
    assert [c.id for c in model] == ["A"]
    read = [(r.id[1], r.resname, a.name, *a.coord, a.bfactor, a.element) for r in model["A"] for a in r]
    assert [row[:3] for row in read] == atoms
    np.testing.assert_allclose(np.array([row[3:7] for row in read]), [row[3:7] for row in columns], atol=1e-3)
    assert [row[7] for row in read] == [atom[0] for _, _, atom in atoms]


def test_the_end_and_the_header() -> None:
    text = text_of(made(EVERY_RESIDUE), name="MGYP1")
    lines = text.splitlines()
    kinds = [line[:6].strip() for line in lines]
    order = [kind for kind, _ in itertools.groupby(kinds)]
    assert order == ["TITLE", "EXPDTA", "REMARK", "SEQRES", "ATOM", "TER", "END"]
    last = num_atoms(EVERY_RESIDUE)
    assert lines[-2][:26] == f"TER   {last + 1:5d}      {THREE_LETTER[EVERY_RESIDUE[-1]]} A{len(EVERY_RESIDUE):4d}"
    remarks = [line[11:].strip() for line in lines if line.startswith("REMARK 999")]
    assert "MODEL: nano-untrained" in remarks and "ID: MGYP1" in remarks
    assert "B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER" in remarks
    assert any(line.startswith("STRUCTURE_ID: ") and len(line) == 14 + 36 for line in remarks)
    seqres = " ".join(line[19:70] for line in lines if line.startswith("SEQRES")).split()
    assert seqres == [THREE_LETTER[letter] for letter in EVERY_RESIDUE]


@given(st.text(max_size=700), st.text(max_size=200))
def test_no_header_can_add_lines(name: str, model: str) -> None:
    text = text_of(made("GA"), name=name, model=model)
    assert text.isascii() and all(len(line) == 80 for line in text.splitlines()[:-1])
    assert {line[:6].strip() for line in text.split("\n")} <= {
        "TITLE",
        "EXPDTA",
        "REMARK",
        "SEQRES",
        "ATOM",
        "TER",
        "END",
        "",
    }
    assert len(fixed_columns(text)) == num_atoms("GA")
    assert gemmi.read_pdb_string(text)[0].count_atom_sites() == num_atoms("GA")


def test_names_are_cut_and_cleaned() -> None:
    assert printable_ascii("a\nb\tc é\x1b") == "a?b?c ??"
    assert printable_ascii("x" * 20, 10) == "xxxxxxx..."


def test_missing_atoms_and_plddt() -> None:
    structure = made("GAXW")
    positions, plddt = structure.positions.copy(), structure.plddt.copy()
    positions[[1, 5]] = np.nan  # glycine's CA, alanine's CA
    positions[9:13] = np.nan  # all of X
    plddt[0] = np.nan
    text = text_of(dataclasses.replace(structure, positions=positions, plddt=plddt))
    rows = fixed_columns(text)
    kept = ~np.isnan(positions).any(axis=1)
    assert [row[:3] for row in rows] == [a for a, k in zip(expected_atoms(structure), kept, strict=True) if k]
    np.testing.assert_allclose([row[3:6] for row in rows], positions[kept], atol=0.00051)
    assert rows[0][6] == 0 and rows[-1][6] == pytest.approx(plddt[3], abs=0.0051)
    assert "ATOMS WITHOUT COORDINATES: 6" in text


def test_what_the_columns_cannot_hold_is_refused() -> None:
    with pytest.raises(UsageError, match=r"10,000 residues .*9,999.*parquet"):
        text_of(made("G" * (MAX_RESIDUES + 1)))
    assert len(fixed_columns(text_of(made("G" * MAX_RESIDUES)))) == 4 * MAX_RESIDUES
    with pytest.raises(UsageError, match=r"99,999"):
        text_of(made("W" * 7_200))
    structure = made("GA")
    for value in (10_000.0, -1_000.0):
        structure.positions[2, 1] = value
        with pytest.raises(UsageError, match="coordinates from"):
            text_of(structure)
