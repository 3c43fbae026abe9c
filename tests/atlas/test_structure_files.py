"""PDB and mmCIF of every kind of protein, read back by gemmi, Biopython and fixed columns; the public writers' bugs."""

import dataclasses
import importlib.util
from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch
from transformers.models.esm.openfold_utils import OFProtein, to_pdb

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.writers.structure_files import cif_text, pdb_text
from foldatlas.folding import models
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS, RESIDUES, STANDARD_RESIDUES, num_atoms

# `tests` is no package: the readers are loaded from their file
_spec = importlib.util.spec_from_file_location("readers", Path(__file__).with_name("readers.py"))
assert _spec and _spec.loader
readers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(readers)
READERS, by_columns, expected, strict_pdb = readers.READERS, readers.by_columns, readers.expected, readers.strict_pdb
read_strictly = strict_pdb.read_strictly

Made = Callable[..., StoredStructure]
EVERY_RESIDUE = "".join(sorted(RESIDUES))
PROTEINS = {
    "every residue": (EVERY_RESIDUE, [26]),
    "one residue": ("M", [1]),
    "one unknown residue": ("X", [1]),
    "many unknown residues": ("XXXMKVXBZUOJXXLLXWXX" * 3, [60]),
    "1,200 residues": ((STANDARD_RESIDUES * 60), [1_200]),
    "three chains": ("MKVLXGA" + "WYFHRST" + "NQE", [7, 7, 3]),
    "three chains, two alike": ("MKVLXGA" + "WYF" + "MKVLXGA", [7, 3, 7]),
}


def described(structure: StoredStructure) -> dict:
    return {"name": "protein", "model": "nano-untrained", "mean_plddt": 50.0, "ptm": 0.5}


@pytest.mark.parametrize("format", ["pdb", "cif"])
@pytest.mark.parametrize("protein", PROTEINS)
def test_every_reader_finds_every_atom_where_it_is(made: Made, protein: str, format: str) -> None:
    sequence, lengths = PROTEINS[protein]
    structure = made(sequence)
    text = (pdb_text if format == "pdb" else cif_text)(structure, chain_lengths=lengths, **described(structure))
    assert text.isascii()
    plddt = np.repeat(structure.plddt, [num_atoms(letter) for letter in sequence])
    for reader, read in READERS[format].items():  # a warning of theirs would be an error
        rows, numbers = read(text)
        assert rows == expected(sequence, lengths), reader
        np.testing.assert_allclose(numbers[:, :3], structure.positions, atol=0.0006)
        np.testing.assert_allclose(numbers[:, 3], plddt, atol=0.0051)


@pytest.mark.parametrize("complex_", ["MKVLXGA:WYFHRST:NQE", "XXXMKVXBZUOJXXLLXWXX", "M"])
def test_outputs_of_the_network_are_written_whole(complex_: str) -> None:
    """Three chains with an unknown residue, many unknown residues, one residue: as folded, through every reader."""
    (folded,) = models.load("nano", recycles=0).fold([complex_])
    scores = {"mean_plddt": float(folded.plddt.mean()), "ptm": folded.ptm, "iptm": folded.iptm}
    lengths = list(map(len, complex_.split(":")))
    for format, writer in (("pdb", pdb_text), ("cif", cif_text)):
        text = writer(folded, name=complex_, model="nano-untrained", **scores)
        for reader, read in READERS[format].items():
            rows, numbers = read(text)
            assert rows == expected(folded.sequence, lengths), reader
            np.testing.assert_allclose(numbers[:, :3], folded.positions, atol=0.0006)
        assert ("ipTM" in text or "IPTM" in text) == (len(lengths) > 1)


def test_ten_thousand_residues_go_to_mmcif_alone(made: Made) -> None:
    structure = made("GAVL" * 2_500)
    with pytest.raises(UsageError, match=r"10,000 residues .*9,999.*write it as cif"):
        pdb_text(structure, **described(structure))
    rows, numbers = READERS["cif"]["gemmi"](cif_text(structure, **described(structure)))
    assert rows == expected(structure.sequence, [10_000])
    np.testing.assert_allclose(numbers[:, :3], structure.positions, atol=0.0006)
    longest = dataclasses.replace(
        structure, sequence=structure.sequence[:-1], positions=structure.positions[:-8], plddt=structure.plddt[:-1]
    )
    assert len(read_strictly(pdb_text(longest, **described(longest)))) == num_atoms(longest.sequence)


def test_pdb_refuses_100000_atoms_and_far_coordinates(made: Made) -> None:
    """More than 99,999 atoms, or coordinates beyond eight columns, are written as mmCIF only."""
    structure = made("W" * 7_200)
    with pytest.raises(UsageError, match=r"100,800 atoms.*99,999.*write it as cif"):
        pdb_text(structure, **described(structure))
    structure.positions[5] = [12_345.678, -98_765.43, 1_234_567.0]
    text = cif_text(structure, **described(structure))
    rows, numbers = READERS["cif"]["gemmi"](text)
    assert rows == expected(structure.sequence, [7_200])
    np.testing.assert_allclose(numbers[:, :3], structure.positions, atol=0.005, rtol=0)
    small = made("GA")
    for value in (10_000.0, -1_000.0):
        small.positions[2, 1] = value
        with pytest.raises(UsageError, match="coordinates from"):
            pdb_text(small, **described(small))
        assert READERS["cif"]["gemmi"](cif_text(small, **described(small)))[1][2, 1] == value


def test_more_chains_than_letters(made: Made) -> None:
    structure = made("G" * 63)
    with pytest.raises(UsageError, match=r"63 chains.*62.*write it as cif"):
        pdb_text(structure, chain_lengths=[1] * 63, **described(structure))
    text = cif_text(structure, chain_lengths=[1] * 63, **described(structure))
    chains = list(dict.fromkeys(row[0] for row in READERS["cif"]["gemmi"](text)[0]))
    assert len(chains) == 63 and chains[25:28] == ["Z", "AA", "BA"] and chains[51:54] == ["ZA", "AB", "BB"]
    fewer = made("G" * 62)
    atoms = read_strictly(pdb_text(fewer, chain_lengths=[1] * 62, **described(fewer)))
    assert len({atom.chain for atom in atoms}) == 62


def test_atoms_and_plddt_that_are_missing(made: Made) -> None:
    structure = made("GAXW" + "GA")
    positions, plddt = structure.positions.copy(), structure.plddt.copy()
    positions[[1, 5]] = np.nan  # glycine's CA, alanine's CA
    positions[9:13] = np.nan  # all of X
    positions[27:] = np.nan  # all of chain B
    plddt[0] = np.nan
    structure = dataclasses.replace(structure, positions=positions, plddt=plddt)
    kept = ~np.isnan(positions).any(axis=1)
    rows = [row for row, keep in zip(expected("GAXWGA", [4, 2]), kept, strict=True) if keep]
    pdb = pdb_text(structure, chain_lengths=[4, 2], **described(structure))
    cif = cif_text(structure, chain_lengths=[4, 2], **described(structure))
    for format, text in (("pdb", pdb), ("cif", cif)):
        for read in READERS[format].values():
            if read is not by_columns:
                found, numbers = read(text)
                assert found == rows
                np.testing.assert_allclose(numbers[:, :3], positions[kept], atol=0.0006)
                assert numbers[0, 3] == 0 and numbers[-1, 3] == pytest.approx(plddt[3], abs=0.0051)
    assert [atom[:4] for atom in read_strictly(pdb)] == rows
    assert "ATOMS WITHOUT COORDINATES: 15" in pdb and pdb.count("\nTER ") == 1
    local = gemmi.cif.read_string(cif).sole_block().find("_ma_qa_metric_local.", ["label_asym_id", "label_seq_id"])
    assert [tuple(row) for row in local] == [("A", "2"), ("A", "3"), ("A", "4"), ("B", "1"), ("B", "2")]
    nothing = dataclasses.replace(structure, positions=np.full_like(positions, np.nan))
    assert read_strictly(pdb_text(nothing, **described(nothing))) == []
    assert "_atom_site" not in cif_text(nothing, **described(nothing))


@pytest.mark.parametrize("writer", [pdb_text, cif_text])
def test_mismatched_arrays_are_refused(made: Made, writer: Callable[..., str]) -> None:
    good = made("GAV")
    infinite = good.positions.copy()
    infinite[0, 0] = np.inf
    for change, chain_lengths, message in (
        ({"sequence": ""}, None, "is empty"),
        ({"sequence": "GA1"}, None, "holds '1'"),
        ({"sequence": "GA:V"}, None, "holds ':'"),
        ({"positions": good.positions[:-1]}, None, r"16 atoms does not fit positions \(15, 3\)"),
        ({"plddt": good.plddt[:-1]}, None, r"plddt \(2,\)"),
        ({"positions": infinite}, None, "must be finite"),
        ({"plddt": np.array([0, 50, 100.5])}, None, "0 to 100.5"),
        ({}, [2, 2], r"\(2, 2\) residues do not add up to a sequence of 3"),
        ({}, [3, 0], r"\(3, 0\) residues"),
        ({}, [4, -1], r"\(4, -1\) residues"),
    ):
        structure = dataclasses.replace(good, **change)
        with pytest.raises(UsageError, match=message):
            writer(structure, chain_lengths=chain_lengths, **described(structure))


@dataclasses.dataclass
class Multimer:
    """What the network may return: no structure id, chains of its own, any float dtype."""

    sequence: str
    positions: np.ndarray
    plddt: np.ndarray
    chain_lengths: tuple[int, ...] = (3, 2)


@pytest.mark.parametrize("writer", [pdb_text, cif_text])
def test_a_structure_says_its_own_chains(made: Made, writer: Callable[..., str]) -> None:
    stored = made("GAVLI")
    multimer = Multimer(stored.sequence, stored.positions, stored.plddt)
    assert writer(multimer, **described(stored)) == writer(stored, chain_lengths=[3, 2], **described(stored))
    whole = writer(multimer, chain_lengths=[5], **described(stored))
    assert whole == writer(stored, **described(stored)) != writer(multimer, **described(stored))


def padded(structure: StoredStructure, length: int) -> str:
    """The PDB text that transformers' own writer makes of a protein in a batch padded to `length`."""
    sequence = structure.sequence
    positions, mask = np.zeros((length, 37, 3)), np.zeros((length, 37))
    from transformers.models.esm.openfold_utils import residue_constants

    begin = 0
    for number, letter in enumerate(sequence):
        for atom in ATOMS[letter]:
            slot = residue_constants.atom_order[atom]
            positions[number, slot], mask[number, slot] = structure.positions[begin], 1
            begin += 1
    aatype = np.zeros(length, int)  # padding is 0, alanine
    aatype[: len(sequence)] = [STANDARD_RESIDUES.index(letter) for letter in sequence]
    number = np.arange(1, length + 1)
    return to_pdb(OFProtein(positions, aatype, mask, number, np.zeros((length, 37)), chain_index=None))


def test_ter_record_follows_the_last_residue(made: Made) -> None:
    structure = made("MKVLG" * 8)
    assert read_strictly(padded(structure, 40))[-1].number == 40  # right where nothing is padded
    with pytest.raises(ValueError, match=r"TER names 'ALA A  64', the last residue is GLY 40"):
        read_strictly(padded(structure, 64))
    ours = pdb_text(structure, **described(structure))
    assert read_strictly(ours)[-1].number == 40 and "GLY A  40" in ours.splitlines()[-2]


@pytest.mark.parametrize("writer", [pdb_text, cif_text])
def test_any_float_dtype_is_written(made: Made, writer: Callable[..., str]) -> None:
    """transformers' writer, fed bfloat16 output, fails."""
    structure = made("MKVX")
    rounded = torch.tensor(structure.positions).bfloat16()
    with pytest.raises(TypeError, match="BFloat16"):
        OFProtein(rounded.numpy(), *[None] * 4)  # what transformers does with a network in bfloat16
    values = rounded.float().numpy()
    texts = {
        writer(Multimer("MKVX", values.astype(dtype), structure.plddt.astype(dtype), (4,)), **described(structure))
        for dtype in (np.float32, np.float64, np.longdouble, ">f4")
    }
    assert texts == {writer(dataclasses.replace(structure, positions=values), **described(structure))}
    half = Multimer("MKVX", structure.positions.astype(np.float16), structure.plddt.astype(np.float16), (4,))
    single = Multimer("MKVX", half.positions.astype(np.float32), half.plddt.astype(np.float32), (4,))
    assert writer(half, **described(structure)) == writer(single, **described(structure))


def test_atom_names_begin_in_column_14(made: Made) -> None:
    """US-align ignores atoms whose names are left-justified in columns 13-16."""
    structure = made("MKVLG")
    ours = pdb_text(structure, **described(structure))
    left = "\n".join(
        f"{line[:12]}{line[12:16].strip():<4}{line[16:]}" if line.startswith("ATOM") else line
        for line in ours.splitlines()
    )
    assert strict_pdb.residues_seen_by_us_align(left) == 0
    assert strict_pdb.residues_seen_by_us_align(ours) == 5
    with pytest.raises(ValueError, match="begins in column 14"):
        read_strictly(left)
