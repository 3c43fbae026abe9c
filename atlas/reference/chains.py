"""Read the chains of PDB and mmCIF files for a reference database.

Of several models the first is read. Chains have the author's names. A modified residue becomes its parent residue,
according to the file (MODRES) or the Chemical Component Dictionary in gemmi's table; without a parent it is X. Of
alternate locations, and of several residues with one number, the one whose C-alpha has the highest occupancy is used,
of equal ones the first. Residues without a C-alpha with finite coordinates are dropped and counted.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import gemmi
import numpy as np
import numpy.typing as npt

from foldatlas.schemas.records import RESIDUES

MIN_RESIDUES: Final = 30  # with a C-alpha; a chain of 20 scores about 1 against any helix
MAX_RESIDUES: Final = 65_534  # MMseqs2's maximal sequence length, minus one
MAX_COORDINATE: Final = 10_000.0  # angstrom, beyond the columns of a PDB file
CANDIDATE: Final = "candidate"  # outcome of a chain that may become an entry

_ATOMS: Final = ("N", "CA", "C", "CB")
_PEPTIDES: Final = (gemmi.PolymerType.PeptideL, gemmi.PolymerType.PeptideD, gemmi.PolymerType.CyclicPseudoPeptide)
_NUCLEIC: Final = (gemmi.PolymerType.Dna, gemmi.PolymerType.Rna, gemmi.PolymerType.DnaRnaHybrid, gemmi.PolymerType.Pna)
_UNSAFE: Final = re.compile(r"[^!-~]+")  # names are written into tables, file names and terminals
_MAX_NAME: Final = 100
_MAX_TITLE: Final = 500
_SUFFIXES: Final = re.compile(r"(\.(gz|zst|pdb|ent|cif|mmcif|pdbx))+$", re.IGNORECASE)

Floats = npt.NDArray[np.float32]


class StructureFault(Exception):
    """A file without readable chains. `outcome` is one of `reference_tables.FILE_OUTCOMES`."""

    def __init__(self, outcome: str, detail: str):
        super().__init__(detail)
        self.outcome = outcome


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A chain of a file. `outcome` is CANDIDATE or the reason why it cannot be an entry.

    `backbone` is float32 [4, L, 3] in angstrom: N, CA, C and CB of the L residues that have a C-alpha, NaN for other
    atoms that are missing. `dropped` is the number of residues without a C-alpha.
    """

    chain: str
    name: str
    title: str
    outcome: str
    sequence: str
    backbone: Floats
    dropped: int


NO_BACKBONE: Final[Floats] = np.empty((4, 0, 3), np.float32)


def read_structure(content: bytes, file_name: str) -> list[Chain]:
    """Return every chain of the PDB or mmCIF text `content`, in order. `file_name` replaces a missing entry id.

    Raise StructureFault for text in neither format, malformed text, and text without atoms.
    """
    structure = parsed_structure(content)
    if not len(structure) or not any(len(residue) for chain in structure[0] for residue in chain):
        raise StructureFault("empty", "it has no atoms")
    structure.setup_entities()
    parents = {change.res_id.name: change.parent_comp_id for change in structure.mod_residues}
    title = safe_title(dict(structure.info).get("_struct.title", ""))
    entry = safe_name(dict(structure.info).get("_entry.id", ""))
    if structure.input_format == gemmi.CoorFormat.Pdb or not entry:
        entry = safe_name(structure.name) if _has_identifier(structure, content) else ""
    chains = list(structure[0])
    # a file without an id and with one chain, such as a CATH domain, gives its name to the chain
    is_one = not entry and len(chains) == 1
    stem = entry or safe_name(_SUFFIXES.sub("", file_name.rpartition("/")[2])) or "structure"
    found = []
    for chain in chains:
        label = safe_name(chain.name)
        name = stem if is_one or not label else f"{stem}_{label}"
        found.append(_read_chain(chain, label, name, title, parents))
    return found


def safe_name(text: str) -> str:
    """Return `text` as a name: printable ASCII without white space, at most 100 characters."""
    return _UNSAFE.sub("_", text.strip())[:_MAX_NAME]


def safe_title(text: str) -> str:
    """Return `text` as one line of at most 500 printable characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text.strip())[:_MAX_TITLE]


def chain_with_outcome(chain: str, name: str, title: str, sequence: str, backbone: Floats, dropped: int) -> Chain:
    """Return the protein chain with its outcome, without the residues that have no usable C-alpha."""
    ca_L3 = backbone[1]
    with np.errstate(invalid="ignore"):
        usable_L = (np.abs(ca_L3) <= MAX_COORDINATE).all(axis=1)
    if not usable_L.all():
        sequence = "".join(letter for letter, usable in zip(sequence, usable_L, strict=True) if usable)
        dropped += int((~usable_L).sum())
        backbone = backbone[:, usable_L]
    outcome = CANDIDATE
    if len(sequence) < MIN_RESIDUES:
        outcome = "too_short"
    elif len(sequence) > MAX_RESIDUES:
        outcome = "too_long"
    return Chain(chain, name, title, outcome, sequence, np.ascontiguousarray(backbone, np.float32), dropped)


def parsed_structure(content: bytes) -> Any:
    """Return gemmi's structure. A truncated mmCIF file is refused; a PDB file cut between lines is not noticed."""
    return parsed_text(content)[0]


def parsed_text(content: bytes) -> tuple[Any, Any | None]:
    """Return gemmi's structure, and the data block that it is from, None for PDB text."""
    if b"\0" in content[:4096]:
        raise StructureFault("not_structure", "it is binary: give PDB or mmCIF text")
    text = content.decode("latin-1").replace("\0", " ")
    start = text.lstrip("\ufeff\xef\xbb\xbf \t\r\n")
    while start.startswith("#"):
        start = start.partition("\n")[2].lstrip()
    try:
        if start[:5].lower() == "data_":
            document = gemmi.cif.read_string(text)
            block = next((block for block in document if block.find_loop("_atom_site.id")), None)
            block = block or next((block for block in document if block.find_value("_atom_site.id")), None)
            if block is None:
                raise StructureFault("empty", "no data block has atoms")
            return gemmi.make_structure_from_block(block), block
        if re.search(r"^(ATOM  |HETATM|HEADER|SEQRES)", text, re.MULTILINE):
            # a character of several bytes would be cut where a column ends
            return gemmi.read_pdb_string(text.encode("ascii", "replace").decode("ascii")), None
    except (RuntimeError, ValueError, IndexError, KeyError) as error:
        raise StructureFault("unreadable", " ".join(str(error).split())[:200]) from error
    raise StructureFault("not_structure", "it is neither PDB nor mmCIF")


def _has_identifier(structure: Any, content: bytes) -> bool:
    """Return whether the structure's name is from the file: columns 63 to 66 of HEADER, or a data block's name."""
    if structure.input_format == gemmi.CoorFormat.Pdb:
        header = re.search(rb"^HEADER.{56}([0-9A-Za-z]{4})", content, re.MULTILINE)
        return header is not None and bool(structure.name)
    return bool(structure.name)


def _read_chain(chain: Any, label: str, name: str, title: str, parents: dict[str, str]) -> Chain:
    polymer = chain.get_polymer()
    polymer_type = polymer.check_polymer_type() if len(polymer) else None
    if polymer_type in _NUCLEIC:
        return Chain(label, name, title, "nucleic_acid", "", NO_BACKBONE, 0)
    if polymer_type not in _PEPTIDES and not any(residue.get_ca() for residue in polymer):
        return Chain(label, name, title, "not_protein", "", NO_BACKBONE, 0)
    letters, rows, dropped = [], [], 0
    for residue in residues_of(polymer):
        row = _backbone(residue)
        if row is None:
            dropped += 1
            continue
        letters.append(letter_of(residue.name, parents))
        rows.append(row)
    backbone = np.array(rows, np.float32).reshape(-1, len(_ATOMS), 3).transpose(1, 0, 2)
    return chain_with_outcome(label, name, title, "".join(letters), backbone, dropped)


def residues_of(polymer: Any) -> Iterator[Any]:
    """Yield the residues of a chain, of several with one number the one with the highest occupancy."""
    for _, group in groupby(polymer, key=lambda residue: (residue.seqid.num, residue.seqid.icode, residue.segment)):
        residues = list(group)
        yield max(residues, key=_occupancy) if len(residues) > 1 else residues[0]


def _occupancy(residue: Any) -> float:
    return max((atom.occ for atom in residue if _is_backbone(atom, "CA")), default=-1.0)


def _is_backbone(atom: Any, name: str) -> bool:
    """Return whether an atom has this name and is not an ion: calcium is also named CA."""
    return bool(atom.name == name and atom.element.name in (name[0], "X"))


def _backbone(residue: Any) -> list[tuple[float, float, float]] | None:
    """Return N, CA, C and CB of the alternate location whose C-alpha has the highest occupancy, or None without one."""
    c_alphas = [atom for atom in residue if _is_backbone(atom, "CA")]
    if not c_alphas:
        return None
    chosen = max(c_alphas, key=lambda atom: atom.occ)
    positions = []
    for name in _ATOMS:
        atoms = [chosen] if name == "CA" else [atom for atom in residue if _is_backbone(atom, name)]
        atoms = [atom for atom in atoms if atom.altloc == chosen.altloc] or sorted(atoms, key=lambda atom: -atom.occ)
        positions.append((atoms[0].pos.x, atoms[0].pos.y, atoms[0].pos.z) if atoms else (np.nan,) * 3)
    return positions


def letter_of(residue: str, parents: dict[str, str]) -> str:
    """Return the one-letter code of a residue or of its parent, X if neither has one."""
    for name in (residue, parents.get(residue, "")):
        letter = gemmi.find_tabulated_residue(name).one_letter_code.upper().strip() if name else ""
        if letter in RESIDUES and letter != "X":
            return letter
    return "X"
