"""PDB text of a predicted structure, written by gemmi (PDB format 3.3, columns exact).

Chain A, residues from 1, no hydrogens. A residue that is no standard one is UNK with its backbone. The B-factor of
each atom is its residue's pLDDT, 0 to 100, higher is better; REMARK 999 says so and names the model.
"""

import textwrap
from typing import Final

import gemmi
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.coordinates import StoredStructure, atoms_per_residue
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS, THREE_LETTER, format_structure_id

MAX_RESIDUES: Final = 9_999  # a residue number has four columns,
MAX_ATOMS: Final = 99_999  # a serial number five (TER takes one)
MIN_COORDINATE: Final = -999.999  # angstrom; a coordinate has eight columns, three of them decimals
MAX_COORDINATE: Final = 9_999.999
MAX_NAME_LENGTH: Final = 500  # characters of an id that the header repeats

_Mask = npt.NDArray[np.bool_]  # [A], True where the atom has coordinates

_REMARK: Final = "REMARK 999 "
_SUBCHAIN: Final = "Axp"


def _template(letter: str) -> gemmi.Residue:
    residue = gemmi.Residue()
    residue.name = THREE_LETTER[letter]
    residue.entity_type = gemmi.EntityType.Polymer
    residue.het_flag = "A"  # ATOM records, for UNK too
    residue.subchain = _SUBCHAIN
    for name in ATOMS[letter]:
        atom = gemmi.Atom()
        atom.name = name
        atom.element = gemmi.Element(name[0])
        residue.add_atom(atom)
    return residue


_TEMPLATES: Final = {letter: _template(letter) for letter in ATOMS}


def printable_ascii(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """`text` for a file's header: anything but printable ASCII becomes `?`, and no more than `limit` characters."""
    clean = "".join(character if " " <= character <= "~" else "?" for character in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def pdb_text(structure: StoredStructure, *, name: str, model: str, mean_plddt: float, ptm: float) -> str:
    """The PDB file of `structure`. `name` is the record's id, `model` what predicted it.

    Atoms without coordinates are left out; a residue without pLDDT has a B-factor of 0. Raises UsageError for what
    the format cannot hold: more than 9,999 residues or 99,999 atoms, or a coordinate outside its columns.
    """
    sequence = structure.sequence
    present: _Mask = np.logical_not(np.isnan(structure.positions).any(axis=1))
    num_atoms = int(present.sum())
    identity = format_structure_id(structure.structure_id)
    if len(sequence) > MAX_RESIDUES or num_atoms + 1 > MAX_ATOMS:
        raise UsageError(
            f"structure {identity} has {len(sequence):,} residues and {num_atoms:,} atoms; a PDB file holds "
            f"{MAX_RESIDUES:,} and {MAX_ATOMS:,}: export it as parquet"
        )
    kept = structure.positions[present]
    if num_atoms and (kept.min() < MIN_COORDINATE or kept.max() > MAX_COORDINATE):
        raise UsageError(
            f"structure {identity} has coordinates from {kept.min():,.3f} to {kept.max():,.3f} A; a PDB file holds "
            f"{MIN_COORDINATE:,} to {MAX_COORDINATE:,}: export it as parquet"
        )
    written = _structure(structure, present)
    written.info["_struct.title"] = f"{printable_ascii(model, 60)} prediction of {printable_ascii(name, 60)}"
    written.info["_exptl.method"] = "THEORETICAL MODEL"
    remarks = [
        "PREDICTED STRUCTURE, NOT AN EXPERIMENT",
        f"MODEL: {printable_ascii(model)}",
        f"ID: {printable_ascii(name)}",
        f"STRUCTURE_ID: {identity}",
        f"MEAN PLDDT: {mean_plddt:.2f} (0 TO 100)  PTM: {ptm:.3f} (0 TO 1)",
        "B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER",
    ]
    if num_atoms < len(present):
        remarks.append(f"ATOMS WITHOUT COORDINATES: {len(present) - num_atoms}")
    columns = 80 - len(_REMARK)
    written.raw_remarks = [(_REMARK + line).ljust(80) for remark in remarks for line in textwrap.wrap(remark, columns)]
    options = gemmi.PdbWriteOptions()
    options.cryst1_record = False  # a prediction has no crystal
    return written.make_pdb_string(options)


def _structure(structure: StoredStructure, present: _Mask) -> gemmi.Structure:
    """gemmi's structure: residues are cloned from templates, then coordinates are set as whole arrays."""
    counts = atoms_per_residue([structure.sequence])
    model = gemmi.Model(1)
    chain = gemmi.Chain("A")
    for letter in structure.sequence:
        chain.add_residue(_TEMPLATES[letter])
    if not present.all():
        _delete_absent(chain, present, counts)
    model.add_chain(chain)
    skeleton = gemmi.Structure()
    skeleton.add_model(model)
    flat = gemmi.FlatStructure(skeleton)
    flat.pos[:] = structure.positions[present]
    flat.b_iso[:] = np.repeat(np.nan_to_num(structure.plddt), counts)[present]
    flat.resnums[:] = np.repeat(np.arange(1, len(counts) + 1), counts)[present]
    result = flat.generate_structure()
    entity = gemmi.Entity("1")
    entity.entity_type = gemmi.EntityType.Polymer
    entity.polymer_type = gemmi.PolymerType.PeptideL
    entity.subchains = [_SUBCHAIN]
    entity.full_sequence = [THREE_LETTER[letter] for letter in structure.sequence]
    result.entities = gemmi.EntityList([entity])
    return result


def _delete_absent(chain: gemmi.Chain, present: _Mask, counts: npt.NDArray[np.int64]) -> None:
    """Takes atoms that are not `present` (and residues left empty) out of a chain, from its end."""
    ends = np.cumsum(counts)
    for residue in reversed(range(len(counts))):
        here = present[ends[residue] - counts[residue] : ends[residue]]
        if not here.any():
            del chain[residue]
            continue
        for atom in reversed(np.flatnonzero(~here).tolist()):
            del chain[residue][atom]
