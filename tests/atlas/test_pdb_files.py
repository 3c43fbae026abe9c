"""PDB text, byte for byte what gemmi writes of the same model, and a header that nothing can break out of."""

import dataclasses
import itertools
from collections.abc import Callable

import gemmi
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from foldatlas.atlas.parquet.coordinates import StoredStructure
from foldatlas.atlas.writers.pdb_files import pdb_text, printable_ascii
from foldatlas.schemas.records import ATOMS, RESIDUES, THREE_LETTER, num_atoms, structure_id

Made = Callable[..., StoredStructure]
EVERY_RESIDUE = "".join(sorted(RESIDUES))


def text_of(structure: StoredStructure, name: str = "protein", model: str = "nano-untrained", **more) -> str:
    return pdb_text(structure, name=name, model=model, mean_plddt=float(structure.plddt.mean()), ptm=0.5, **more)


def gemmi_text(structure: StoredStructure, lengths: list[int], title: str) -> str:
    """The same model through gemmi's own writer, without remarks."""
    model = gemmi.Model(1)
    entities = []
    residue_number = atom_number = 0
    for chain_number, length in enumerate(lengths):
        chain = gemmi.Chain("ABCDEFGH"[chain_number])
        entity = gemmi.Entity(str(chain_number + 1))
        entity.entity_type, entity.polymer_type = gemmi.EntityType.Polymer, gemmi.PolymerType.PeptideL
        entity.subchains = [f"{chain.name}xp"]
        letters = structure.sequence[residue_number : residue_number + length]
        entity.full_sequence = [THREE_LETTER[letter] for letter in letters]
        for number, letter in enumerate(letters, 1):
            residue = gemmi.Residue()
            residue.name, residue.seqid = THREE_LETTER[letter], gemmi.SeqId(number, " ")
            residue.entity_type, residue.het_flag, residue.subchain = gemmi.EntityType.Polymer, "A", f"{chain.name}xp"
            for atom_name in ATOMS[letter]:
                position = structure.positions[atom_number]
                atom_number += 1
                if np.isnan(position).any():
                    continue
                atom = gemmi.Atom()
                atom.name, atom.element = atom_name, gemmi.Element(atom_name[0])
                atom.pos = gemmi.Position(*position.tolist())
                atom.b_iso = float(np.nan_to_num(structure.plddt[residue_number]))
                residue.add_atom(atom)
            if len(residue):
                chain.add_residue(residue)
            residue_number += 1
        model.add_chain(chain)
        entities.append(entity)
    whole = gemmi.Structure()
    whole.add_model(model)
    whole.entities = gemmi.EntityList(entities)
    whole.info["_struct.title"] = title
    whole.info["_exptl.method"] = "THEORETICAL MODEL"
    options = gemmi.PdbWriteOptions()
    options.cryst1_record = False
    return whole.make_pdb_string(options)


def without_remarks(text: str) -> str:
    return "".join(line for line in text.splitlines(keepends=True) if not line.startswith("REMARK"))


chains = st.lists(st.text(EVERY_RESIDUE, min_size=1, max_size=20), min_size=1, max_size=4)
limited = st.floats(-999.9990234375, 9_999.9990234375, width=32)  # the float32 nearest to the limits
ties = st.integers(-15_999, 159_999).map(lambda sixteenth: sixteenth / 16)  # half a thousandth is one of these


def almost_tied(value: float, step: float) -> bool:
    """Whether gemmi, which lifts numbers a little so that ties go up, lifts one over a tie that is just below it."""
    return 0 < abs(value / step % 1 - 0.5) * step < 2e-5


coordinates = st.one_of(limited, ties, st.floats(-0.001953125, 0.001953125, width=32)).filter(
    lambda value: not almost_tied(value, 0.001)
)
confidences = st.floats(0, 100, width=32).filter(lambda value: not almost_tied(value, 0.01))


@given(chains, st.data(), st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=80))
def test_the_same_bytes_as_gemmi(sequences: list[str], data: st.DataObject, name: str) -> None:
    sequence, lengths = "".join(sequences), [len(sequence) for sequence in sequences]
    positions = data.draw(arrays(np.float32, (num_atoms(sequence), 3), elements=coordinates, fill=coordinates))
    plddt = data.draw(arrays(np.float32, len(sequence), elements=confidences))
    structure = StoredStructure(structure_id(sequence), sequence, positions, plddt)
    ours = text_of(structure, name, chain_lengths=lengths)
    title = f"nano-untrained prediction of {printable_ascii(name, 60)}"
    assert without_remarks(ours) == gemmi_text(structure, lengths, title)


def test_the_same_bytes_as_gemmi_where_atoms_are_missing(made: Made) -> None:
    structure = made(EVERY_RESIDUE * 40)
    missing = np.random.default_rng(1).random(len(structure.positions)) < 0.3
    missing[100:140] = True
    positions = np.where(missing[:, None], np.float32(np.nan), structure.positions)
    structure = dataclasses.replace(structure, positions=positions)
    lengths = [26 * 10, 26 * 29, 26]
    ours = text_of(structure, chain_lengths=lengths)
    assert without_remarks(ours) == gemmi_text(structure, lengths, "nano-untrained prediction of protein")


def test_the_end_and_the_header(made: Made) -> None:
    text = text_of(made(EVERY_RESIDUE), name="MGYP1", iptm=0.25, chain_lengths=[20, 6])
    lines = text.splitlines()
    order = [kind for kind, _ in itertools.groupby(line[:6].strip() for line in lines)]
    assert order == ["TITLE", "EXPDTA", "REMARK", "SEQRES", "ATOM", "TER", "ATOM", "TER", "END"]
    assert all(len(line) == 80 for line in lines)
    last = num_atoms(EVERY_RESIDUE)
    assert lines[-2][:26] == f"TER   {last + 2:5d}      {THREE_LETTER[EVERY_RESIDUE[-1]]} B   6"
    remarks = [line[11:].strip() for line in lines if line.startswith("REMARK 999")]
    assert "MODEL: nano-untrained" in remarks and "ID: MGYP1" in remarks
    assert "B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER" in remarks
    assert any(line.endswith("PTM: 0.500 (0 TO 1)") for line in remarks) and "IPTM: 0.250 (0 TO 1)" in remarks
    assert any(line.startswith("STRUCTURE_ID: ") and len(line) == 14 + 36 for line in remarks)


def test_names_are_cut_and_cleaned() -> None:
    assert printable_ascii("a\nb\tc é\x1b") == "a?b?c ??"
    assert printable_ascii("x" * 20, 10) == "xxxxxxx..."


GA = StoredStructure(
    structure_id("GA"), "GA", np.arange(27, dtype=np.float32).reshape(9, 3), np.array([50, 60], np.float32)
)


@given(st.text(max_size=700), st.text(max_size=200))
def test_no_header_can_add_lines(name: str, model: str) -> None:
    text = text_of(GA, name=name, model=model)
    assert text.isascii() and all(len(line) == 80 for line in text.splitlines()[:-1])
    kinds = {line[:6].strip() for line in text.split("\n")}
    assert kinds == {"TITLE", "EXPDTA", "REMARK", "SEQRES", "ATOM", "TER", "END", ""}
    assert sum(line.startswith("ATOM  ") for line in text.split("\n")) == num_atoms("GA")
    assert gemmi.read_pdb_string(text)[0].count_atom_sites() == num_atoms("GA")
