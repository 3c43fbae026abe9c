"""Read a predicted structure from PDB or mmCIF text: one protein chain, its atoms and its pLDDT.

The sequence is that of the entity (SEQRES, `_entity_poly_seq`), with residues without atoms as missing; without one it
is that of the residues that have atoms. Of several models the first is read. Hydrogens, OXT and atoms that an atlas
does not store are counted and left out.

pLDDT is read from B-factors where the file declares it: a local metric pLDDT in mmCIF, or the name of a known producer
or of the metric in the header of a PDB file. Otherwise the caller states what B-factors are, because those of
experiments span the same range.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import gemmi
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.reference.chains import (
    MAX_COORDINATE,
    StructureFault,
    letter_of,
    parsed_structure,
    residues_of,
    safe_title,
)
from foldatlas.schemas.records import ATOMS, num_atoms

Floats = npt.NDArray[np.float32]

MAX_PLDDT: Final = 100.0

_PRODUCERS: Final = re.compile(rb"ALPHAFOLD|COLABFOLD|ESMFOLD|PLDDT", re.IGNORECASE)
_HEADER: Final = re.compile(rb"^(?:HEADER|TITLE |REMARK|COMPND|EXPDTA|AUTHOR).*", re.MULTILINE)
_SELENIUM: Final = {"SE": "SD"}  # of selenomethionine, whose parent is methionine
_MAX_BOND: Final = 2.5  # angstrom between C and the next N; more is a break in the chain
_HYDROGENS: Final = ("H", "D")


@dataclass(frozen=True)
class ReadOptions:
    """`chain`: author name of the chain to read (None: the only one). `plddt_scale`: 1 or 100 if B-factors are pLDDT
    up to this value. `experimental`: B-factors are not pLDDT."""

    chain: str | None = None
    plddt_scale: int | None = None
    experimental: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """A chain of a file. `positions_A3` are the atoms in the order of `ATOMS`, residue by residue, in angstrom, NaN if
    missing. `plddt_L` is 0 to 100, NaN for residues without atoms; None if the file has no pLDDT.

    The counts are of models in the file, of breaks between residues that are next to each other in the sequence, of
    hydrogens and of other atoms that were left out.
    """

    sequence: str
    positions_A3: Floats
    plddt_L: Floats | None
    chain: str
    title: str
    models: int
    breaks: int
    hydrogens: int
    other_atoms: int


def read_prediction(content: bytes, options: ReadOptions | None = None) -> Prediction:
    """Return the protein chain of the PDB or mmCIF text `content`.

    Raise StructureFault, with one of these outcomes, for a file that cannot be imported: `not_structure`, `unreadable`,
    `empty` (no atoms), `no_protein`, `several_chains`, `no_such_chain`, `no_c_alpha`, `bad_coordinates`,
    `other_sequence` (atoms that do not fit the sequence of the entity), `unknown_plddt`, `mixed_plddt`.
    """
    options = options or ReadOptions()
    structure = parsed_structure(content)
    if not len(structure) or not any(len(residue) for chain in structure[0] for residue in chain):
        raise StructureFault("empty", "it has no atoms")
    structure.setup_entities()
    parents = {change.res_id.name: change.parent_comp_id for change in structure.mod_residues}
    chain = _chosen(structure, options.chain)
    residues = list(residues_of(chain.get_polymer()))
    sequence, places = _aligned(structure, chain, residues, parents)
    positions, hydrogens, others = _atoms(sequence, residues, places)
    if (np.abs(positions) > MAX_COORDINATE).any():  # False for NaN
        raise StructureFault("bad_coordinates", f"coordinates beyond {MAX_COORDINATE:,.0f} angstrom")
    return Prediction(
        sequence=sequence,
        positions_A3=positions.astype(np.float32),
        plddt_L=_plddt(structure, content, residues, places, len(sequence), options),
        chain=chain.name,
        title=safe_title(dict(structure.info).get("_struct.title", "")),
        models=len(structure),
        breaks=_breaks(residues, places),
        hydrogens=hydrogens,
        other_atoms=others,
    )


def _chosen(structure: Any, name: str | None) -> Any:
    """Return the protein chain `name` of the first model, or the only one."""
    proteins = [chain for chain in structure[0] if any(residue.get_ca() for residue in chain.get_polymer())]
    if name is not None:
        for chain in proteins:
            if chain.name == name:
                return chain
        names = ", ".join(safe_title(chain.name) for chain in proteins[:10])
        raise StructureFault("no_such_chain", f"it has no protein chain {name}; its chains: {names or 'none'}")
    if len(proteins) > 1:
        names = ", ".join(safe_title(chain.name) for chain in proteins[:10])
        raise StructureFault("several_chains", f"it has {len(proteins):,} protein chains ({names}): select one")
    if proteins:
        return proteins[0]
    if any(len(chain.get_polymer()) for chain in structure[0]):
        raise StructureFault("no_c_alpha", "no residue has a C-alpha")
    raise StructureFault("no_protein", "it has no protein chain")


def _aligned(
    structure: Any, chain: Any, residues: list[Any], parents: dict[str, str]
) -> tuple[str, npt.NDArray[np.int64]]:
    """Return the sequence of the chain, and the place in it of each of its `residues`."""
    observed = [letter_of(residue.name, parents) for residue in residues]
    entity = structure.get_entity_of(chain.get_polymer())
    full = [gemmi.Entity.first_mon(item) for item in entity.full_sequence] if entity is not None else []
    if not full:
        return "".join(observed), np.arange(len(residues))
    letters = "".join(letter_of(name, parents) for name in full)
    if all(residue.label_seq is not None for residue in residues):  # mmCIF says where each is
        places = np.array([residue.label_seq - 1 for residue in residues])
        if (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < len(full):
            return letters, places
    elif len(full) == len(residues) and letters == "".join(observed):
        return letters, np.arange(len(full))
    else:
        result = gemmi.align_sequence_to_polymer(
            entity.full_sequence, chain.get_polymer(), gemmi.PolymerType.PeptideL, gemmi.AlignmentScoring()
        )
        if result.match_count == len(residues):
            return letters, _places(result.cigar_str())
    raise StructureFault("other_sequence", "its residues do not fit the sequence that it states")


def _places(cigar: str) -> npt.NDArray[np.int64]:
    """Return the place in the sequence of each residue of an alignment."""
    places: list[int] = []
    place = 0
    for count, what in re.findall(r"(\d+)([MID])", cigar):
        if what == "M":
            places += range(place, place + int(count))
        place += int(count) if what in "MI" else 0
    return np.array(places, dtype=np.int64)


def _atoms(
    sequence: str, residues: list[Any], places: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.float64], int, int]:
    """Return the atoms of a chain, and the number of hydrogens and of other atoms that are not stored."""
    starts = np.concatenate([[0], np.cumsum([len(ATOMS[letter]) for letter in sequence])])
    positions = np.full((num_atoms(sequence), 3), np.nan)
    hydrogens = others = 0
    for residue, place in zip(residues, places.tolist(), strict=True):
        names = ATOMS[sequence[place]]
        best: dict[str, Any] = {}
        for atom in residue:
            name = _SELENIUM.get(atom.name, atom.name) if sequence[place] == "M" else atom.name
            if atom.element.name in _HYDROGENS:
                hydrogens += 1
            elif name not in names:
                others += 1
            elif name not in best or atom.occ > best[name].occ:
                best[name] = atom
        for name, atom in best.items():
            positions[starts[place] + names.index(name)] = (atom.pos.x, atom.pos.y, atom.pos.z)
    return positions, hydrogens, others


def _breaks(residues: list[Any], places: npt.NDArray[np.int64]) -> int:
    found = 0
    for number in np.flatnonzero(np.diff(places) == 1).tolist():
        carbon = residues[number].find_atom("C", "*")
        nitrogen = residues[number + 1].find_atom("N", "*")
        found += bool(carbon and nitrogen and carbon.pos.dist(nitrogen.pos) > _MAX_BOND)
    return found


def _plddt(
    structure: Any,
    content: bytes,
    residues: list[Any],
    places: npt.NDArray[np.int64],
    length: int,
    options: ReadOptions,
) -> Floats | None:
    """Return the pLDDT of each residue, 0 to 100, or None if the file has none."""
    if options.experimental:
        return None
    values = [np.array([atom.b_iso for atom in residue if atom.element.name not in _HYDROGENS]) for residue in residues]
    c_alphas = [residue.find_atom("CA", "*") for residue in residues]
    of_residue = np.array([atom.b_iso if atom else one.mean() for atom, one in zip(c_alphas, values, strict=True)])
    low, high = float(of_residue.min()), float(of_residue.max())
    if len(residues) > 1 and low == high and all((one == low).all() for one in values):
        return None  # a constant
    scale = options.plddt_scale
    if _declares_plddt(structure, content):
        scale = scale or (1 if high <= 1 else 100)
    elif scale is None:
        raise StructureFault(
            "unknown_plddt",
            f"the file does not state what its B-factors are ({low:g} to {high:g}): pass --plddt-scale 1 or 100 if "
            "they are pLDDT, --experimental if not",
        )
    elif any(np.ptp(one) > 0 for one in values):
        raise StructureFault("mixed_plddt", "the B-factors of atoms of one residue differ: pass --experimental")
    if not (low >= 0 and high <= scale):
        raise StructureFault("mixed_plddt", f"its B-factors are {low:g} to {high:g}, not pLDDT from 0 to {scale}")
    plddt = np.full(length, np.nan, np.float32)
    plddt[places] = of_residue * (MAX_PLDDT / scale)
    return plddt


def _declares_plddt(structure: Any, content: bytes) -> bool:
    if structure.input_format == gemmi.CoorFormat.Pdb:
        end = re.search(rb"^(?:ATOM  |HETATM)", content, re.MULTILINE)
        head = content[: end.start()] if end else content
        return any(_PRODUCERS.search(line) for line in _HEADER.findall(head))
    block = gemmi.cif.read_string(content.decode("latin-1")).sole_block()
    rows = block.find("_ma_qa_metric.", ["name", "mode"])
    return any("plddt" in row.str(0).lower() and row.str(1).lower() == "local" for row in rows)
