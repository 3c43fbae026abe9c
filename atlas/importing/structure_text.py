"""Read a structure from PDB or mmCIF text: one protein chain, its atoms and its pLDDT.

The sequence is that of the entity (SEQRES, `_entity_poly_seq`), with residues without atoms as missing; without one it
is that of the residues that have atoms. Of several models the first is read. Hydrogens, OXT and atoms that an atlas
does not store are counted and left out.

pLDDT is read from B-factors where the file declares it (declared.py). Otherwise the caller states what B-factors are,
because those of experiments span the same range.
"""

import re
from dataclasses import dataclass
from typing import Any, Final

import gemmi
import numpy as np
import numpy.typing as npt

from foldatlas.atlas.importing.declared import Declared, declared_in_cif, declared_in_pdb
from foldatlas.atlas.importing.record import Floats, ImportedStructure
from foldatlas.atlas.reference.chains import (
    MAX_COORDINATE,
    MAX_RESIDUES,
    StructureFault,
    letter_of,
    parsed_text,
    residues_of,
    safe_title,
)
from foldatlas.schemas.formats import DECLARED, NO_PLDDT, STATED_SCALE
from foldatlas.schemas.records import ATOMS

MAX_PLDDT: Final = 100.0
MAX_ALIGNED: Final = 50_000_000  # cells of an alignment of observed residues and SEQRES, of a byte each

_SELENIUM: Final = {"SE": "SD"}  # of selenomethionine, whose parent is methionine
_MAX_BOND: Final = 2.5  # angstrom between C and the next N; more is a break in the chain
_HYDROGENS: Final = ("H", "D")

Places = npt.NDArray[np.int64]  # of each observed residue in the sequence


@dataclass(frozen=True)
class ReadOptions:
    """`chain`: author name of the chain to read (None: the only one). `plddt_scale`: 1 or 100 if B-factors are pLDDT
    up to this value. `experimental`: B-factors are not pLDDT."""

    chain: str | None = None
    plddt_scale: int | None = None
    experimental: bool = False


def read_structure_text(content: bytes, options: ReadOptions | None = None) -> ImportedStructure:
    """Return the protein chain of the PDB or mmCIF text `content`.

    Raise StructureFault, with one of these outcomes, for a file that cannot be imported: `not_structure`, `unreadable`,
    `empty` (no atoms), `no_protein`, `several_chains`, `no_such_chain`, `no_c_alpha`, `bad_coordinates`, `too_long`,
    `other_sequence` (atoms that do not fit the sequence of the entity), `unknown_plddt`, `mixed_plddt`.
    """
    options = options or ReadOptions()
    structure, block = parsed_text(content)
    if not len(structure) or not any(len(residue) for chain in structure[0] for residue in chain):
        raise StructureFault("empty", "it has no atoms")
    declared = declared_in_pdb(content) if block is None else declared_in_cif(block)
    title = safe_title(dict(structure.info).get("_struct.title", ""))
    num_models = len(structure)
    while len(structure) > 1:
        del structure[-1]
    structure.setup_entities()
    parents = {change.res_id.name: change.parent_comp_id for change in structure.mod_residues}
    chain = _chosen(structure, options.chain)
    residues = [residue for residue in residues_of(chain.get_polymer()) if len(residue)]
    sequence, places = _aligned(structure, chain, residues, parents)
    positions, hydrogens, others = _atoms(sequence, residues, places)
    if (np.abs(positions) > MAX_COORDINATE).any():  # False for NaN
        raise StructureFault("bad_coordinates", f"coordinates beyond {MAX_COORDINATE:,.0f} angstrom")
    if np.isnan(positions).all():
        raise StructureFault("bad_coordinates", "no atom has coordinates")
    plddt = None if options.experimental else _plddt(declared, residues, places, len(sequence), options.plddt_scale)
    source = NO_PLDDT if plddt is None else DECLARED if declared.has_plddt else STATED_SCALE
    return ImportedStructure(
        sequence=sequence,
        positions=positions.astype(np.float32),
        plddt=plddt,
        ptm=None if options.experimental else declared.ptm,
        identifier=declared.identifier,
        title=title,
        provenance=declared.provenance,
        chain=safe_title(chain.name),
        plddt_source=source,
        unobserved=len(sequence) - len(residues),
        models=num_models,
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


def _aligned(structure: Any, chain: Any, residues: list[Any], parents: dict[str, str]) -> tuple[str, Places]:
    """Return the sequence of the chain, and the place in it of each of its `residues`."""
    observed = "".join(letter_of(residue.name, parents) for residue in residues)
    entity = structure.get_entity_of(chain.get_polymer())
    full = list(entity.full_sequence) if entity is not None else []
    if max(len(full), len(residues)) > MAX_RESIDUES:
        raise StructureFault("too_long", f"{max(len(full), len(residues)):,} residues, more than {MAX_RESIDUES:,}")
    if not full:
        return observed, np.arange(len(residues))
    letters = "".join(letter_of(gemmi.Entity.first_mon(item), parents) for item in full)
    if len(full) == len(residues) and letters == observed:
        return letters, np.arange(len(full))
    if all(residue.label_seq is not None for residue in residues):  # mmCIF states the place of each
        places = np.array([residue.label_seq - 1 for residue in residues])
        if (np.diff(places) > 0).all() and places[0] >= 0 and places[-1] < len(full):
            return _with_observed(letters, full, observed, places, parents), places
    elif len(full) * len(residues) > MAX_ALIGNED:
        raise StructureFault("other_sequence", "it states another sequence than its residues, too long to be aligned")
    else:
        result = gemmi.align_sequence_to_polymer(
            entity.full_sequence, chain.get_polymer(), gemmi.PolymerType.PeptideL, gemmi.AlignmentScoring()
        )
        if result.match_count == len(residues):
            return letters, _places(result.cigar_str())
    raise StructureFault("other_sequence", "its residues do not fit the sequence that it states")


def _with_observed(letters: str, full: list[str], observed: str, places: Places, parents: dict[str, str]) -> str:
    """Return the sequence with the observed residue where the entity has several at one place (microheterogeneity)."""
    found = list(letters)
    for letter, place in zip(observed, places.tolist(), strict=True):
        if found[place] != letter:
            if letter not in {letter_of(name, parents) for name in full[place].split(",")}:
                raise StructureFault(
                    "other_sequence", f"residue {place + 1} is {letter}, in its sequence {found[place]}"
                )
            found[place] = letter
    return "".join(found)


def _places(cigar: str) -> Places:
    """Return the place in the sequence of each residue of an alignment."""
    places: list[int] = []
    place = 0
    for count, what in re.findall(r"(\d+)([MID])", cigar):
        if what == "M":
            places += range(place, place + int(count))
        place += int(count) if what in "MI" else 0
    return np.array(places, dtype=np.int64)


def _atoms(sequence: str, residues: list[Any], places: Places) -> tuple[npt.NDArray[np.float64], int, int]:
    """Return the atoms of a chain, and the number of hydrogens and of other atoms that are not stored."""
    starts = np.concatenate([[0], np.cumsum([len(ATOMS[letter]) for letter in sequence])]).tolist()
    positions = np.full((starts[-1], 3), np.nan)
    hydrogens = others = 0
    for residue, place in zip(residues, places.tolist(), strict=True):
        letter = sequence[place]
        names = ATOMS[letter]
        best: dict[str, Any] = {}
        for atom in residue:
            name = atom.name
            if letter == "M":
                name = _SELENIUM.get(name, name)
            if name in names:
                if name not in best or atom.occ > best[name].occ:
                    best[name] = atom
            elif atom.element.name in _HYDROGENS:
                hydrogens += 1
            else:
                others += 1
        for name, atom in best.items():
            positions[starts[place] + names.index(name)] = atom.pos.tolist()
    return positions, hydrogens, others


def _breaks(residues: list[Any], places: Places) -> int:
    """Return the number of neighbours in the sequence that are not bonded."""
    found = 0
    for number in np.flatnonzero(np.diff(places) == 1).tolist():
        carbon = residues[number].find_atom("C", "*")
        nitrogen = residues[number + 1].find_atom("N", "*")
        found += bool(carbon and nitrogen and carbon.pos.dist(nitrogen.pos) > _MAX_BOND)
    return found


def _plddt(
    declared: Declared, residues: list[Any], places: Places, length: int, stated_scale: int | None
) -> Floats | None:
    """Return the pLDDT of each residue, 0 to 100, or None if the file has none."""
    of_residue, varies, is_constant = _b_factors(residues)
    if is_constant:
        return None
    low, high = float(of_residue.min()), float(of_residue.max())
    scale = stated_scale or declared.scale
    if declared.has_plddt:
        scale = scale or (1 if high <= 1 else 100)
    elif scale is None:
        raise StructureFault(
            "unknown_plddt",
            f"the file does not state what its B-factors are ({low:g} to {high:g}): pass --plddt-scale 1 or 100 if "
            "they are pLDDT, --experimental if not",
        )
    elif varies:
        raise StructureFault("mixed_plddt", "the B-factors of atoms of one residue differ: pass --experimental")
    if not (low >= 0 and high <= scale):
        raise StructureFault("mixed_plddt", f"its B-factors are {low:g} to {high:g}, not pLDDT from 0 to {scale}")
    plddt = np.full(length, np.nan, np.float32)
    plddt[places] = of_residue * (MAX_PLDDT / scale)
    return plddt


def _b_factors(residues: list[Any]) -> tuple[npt.NDArray[np.float64], bool, bool]:
    """Return the B-factor of each residue, its C-alpha's or the first heavy atom's; whether those of one residue
    differ; and whether those of several residues are all equal."""
    of_residue = np.empty(len(residues))
    lows, highs = np.empty(len(residues)), np.empty(len(residues))
    for number, residue in enumerate(residues):
        values = [(atom.b_iso, atom.name) for atom in residue if atom.element.name not in _HYDROGENS]
        values = values or [(atom.b_iso, atom.name) for atom in residue]
        of_residue[number] = next((value for value, name in values if name == "CA"), values[0][0])
        lows[number], highs[number] = min(values)[0], max(values)[0]
    return of_residue, bool((lows < highs).any()), len(residues) > 1 and lows.min() == highs.max()
