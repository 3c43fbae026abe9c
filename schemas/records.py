"""Residues, sequences and FASTA records: definitions that all folders share.

Only the standard library is imported, so that the network can use it on a bare GPU machine. Atom names and their order
are those of AlphaFold 2's `atom14` (Jumper et al. 2021, supplement 1.2): the heavy atoms of each residue without the
terminal oxygen, side chain outwards.
"""

import hashlib
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

BACKBONE: Final = ("N", "CA", "C", "O")

# One-letter code -> heavy atoms, in the order in which coordinates are stored. Unknown residues keep a backbone.
_SIDE_CHAINS: Final = {
    "A": "CB",
    "R": "CB CG CD NE CZ NH1 NH2",
    "N": "CB CG OD1 ND2",
    "D": "CB CG OD1 OD2",
    "C": "CB SG",
    "Q": "CB CG CD OE1 NE2",
    "E": "CB CG CD OE1 OE2",
    "G": "",
    "H": "CB CG ND1 CD2 CE1 NE2",
    "I": "CB CG1 CG2 CD1",
    "L": "CB CG CD1 CD2",
    "K": "CB CG CD CE NZ",
    "M": "CB CG SD CE",
    "F": "CB CG CD1 CD2 CE1 CE2 CZ",
    "P": "CB CG CD",
    "S": "CB OG",
    "T": "CB OG1 CG2",
    "W": "CB CG CD1 CD2 NE1 CE2 CE3 CZ2 CZ3 CH2",
    "Y": "CB CG CD1 CD2 CE1 CE2 CZ OH",
    "V": "CB CG1 CG2",
}

STANDARD_RESIDUES: Final = "ARNDCQEGHILKMFPSTWYV"  # AlphaFold 2's order: the index is the network's `aatype`
UNKNOWN_RESIDUES: Final = "XBZUOJ"  # accepted, folded as unknown, written as UNK
RESIDUES: Final = frozenset(STANDARD_RESIDUES + UNKNOWN_RESIDUES)

THREE_LETTER: Final = {
    **dict(
        zip(
            STANDARD_RESIDUES,
            "ALA ARG ASN ASP CYS GLN GLU GLY HIS ILE LEU LYS MET PHE PRO SER THR TRP TYR VAL".split(),
            strict=True,
        )
    ),
    **dict.fromkeys(UNKNOWN_RESIDUES, "UNK"),
}

ATOMS: Final[dict[str, tuple[str, ...]]] = {
    **{residue: BACKBONE + tuple(_SIDE_CHAINS[residue].split()) for residue in STANDARD_RESIDUES},
    **dict.fromkeys(UNKNOWN_RESIDUES, BACKBONE),
}

# Stored integers: units per angstrom or per point.
COORDINATE_SCALE: Final = 100  # 0.01 A, an error of at most 0.005 A
PLDDT_SCALE: Final = 100  # of 100 points
PAE_SCALE: Final = 8  # an error of at most 1/16 A; 31.75 A, the maximum, fits into a byte

NUCLEOTIDES: Final = frozenset("ACGTUN")
MIN_NUCLEOTIDES: Final = 30  # shorter sequences of A, C, G, T, N may be peptides
NEXT_TITLE: Final = "\x01"  # in a header of NCBI's nr, between the titles of identical proteins
DEFAULT_MAX_LENGTH: Final = 1280  # residues, as in the ESM Metagenomic Atlas


class Outcome(StrEnum):
    """The outcome of planning for a FASTA record, or of reading an imported structure file.

    `accepted` records are folded, once per distinct sequence. A `repeated` record has the id and the sequence of an
    earlier one of its source; of imported files, an `alternative_model` has them too, with another content. Every other
    value is the reason of a refusal. Those from `not_structure` on are of imports alone.
    """

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    NO_TRANSLATION = "no_translation"
    MISSING_ID = "missing_id"
    EMPTY_SEQUENCE = "empty_sequence"
    TRUNCATED = "truncated"
    NUL_BYTE = "nul_byte"
    NOT_UTF8 = "not_utf8"
    MULTIMER = "multimer"
    GAP = "gap"
    INTERNAL_STOP = "internal_stop"
    DIGIT = "digit"
    INVALID_CHARACTER = "invalid_character"
    NUCLEOTIDES = "nucleotides"
    NOT_NUCLEOTIDES = "not_nucleotides"
    TOO_LONG = "too_long"
    DUPLICATE_ID = "duplicate_id"
    ALTERNATIVE_MODEL = "alternative_model"
    NOT_STRUCTURE = "not_structure"
    OTHER_FILE = "other_file"
    UNREADABLE = "unreadable"
    CRASHED = "crashed"
    EMPTY = "empty"
    NO_PROTEIN = "no_protein"
    SEVERAL_CHAINS = "several_chains"
    NO_SUCH_CHAIN = "no_such_chain"
    NO_C_ALPHA = "no_c_alpha"
    BAD_COORDINATES = "bad_coordinates"
    OTHER_SEQUENCE = "other_sequence"
    UNKNOWN_PLDDT = "unknown_plddt"
    MIXED_PLDDT = "mixed_plddt"
    TOO_LARGE = "too_large"
    UNSAFE = "unsafe"
    NOT_FOUND = "not_found"


REFUSALS: Final[dict[Outcome, str]] = {
    Outcome.NO_TRANSLATION: "the coding sequence of a GenBank file has no translation and cannot be translated",
    Outcome.MISSING_ID: "the header has no id after '>'; of an imported file, --id-from finds no id",
    Outcome.EMPTY_SEQUENCE: "the record has no sequence",
    Outcome.TRUNCATED: "the file ends, or is damaged, inside this record",
    Outcome.NUL_BYTE: "the record holds a NUL byte",
    Outcome.NOT_UTF8: "the sequence holds bytes that are not UTF-8 text",
    Outcome.MULTIMER: "the sequence holds ':', which separates chains; an atlas holds single chains",
    Outcome.GAP: "the sequence holds alignment gaps ('-' or '.')",
    Outcome.INTERNAL_STOP: "the sequence holds a stop ('*') before its end",
    Outcome.DIGIT: "the sequence holds digits",
    Outcome.INVALID_CHARACTER: "the sequence holds a character that is not a residue code",
    Outcome.NUCLEOTIDES: "the sequence is nucleotides: read contigs with --genes, translate genes first",
    Outcome.NOT_NUCLEOTIDES: "--genes expects contigs, and this is not one: read proteins without --genes",
    Outcome.TOO_LONG: "the sequence is longer than --max-length; with --genes, a contig longer than 16 MB",
    Outcome.DUPLICATE_ID: "the source has another sequence under the same id",
    Outcome.ALTERNATIVE_MODEL: "another model of a sequence that the source has under the same id; the one with the "
    "highest mean pLDDT is kept",
    Outcome.NOT_STRUCTURE: "the file is neither PDB nor mmCIF nor Foldcomp",
    Outcome.OTHER_FILE: "the file does not have the name of a structure file, and was not read",
    Outcome.UNREADABLE: "the file or archive is damaged, or is no longer there",
    Outcome.CRASHED: "the process that read the file crashed or hung",
    Outcome.EMPTY: "the file has no atoms, or the archive no files",
    Outcome.NO_PROTEIN: "the file has no protein chain",
    Outcome.SEVERAL_CHAINS: "the file has several protein chains: select one by --chain",
    Outcome.NO_SUCH_CHAIN: "the file has no protein chain of the name --chain",
    Outcome.NO_C_ALPHA: "no residue of the file has a C-alpha",
    Outcome.BAD_COORDINATES: "coordinates are missing, or too large for a structure",
    Outcome.OTHER_SEQUENCE: "the residues with atoms do not fit the sequence that the file states",
    Outcome.UNKNOWN_PLDDT: "the file does not state what its B-factors are: pass --plddt-scale or --experimental",
    Outcome.MIXED_PLDDT: "the B-factors are not pLDDT of residues: pass another --plddt-scale, or --experimental",
    Outcome.TOO_LARGE: "the file is too large for a structure, or expands too much",
    Outcome.UNSAFE: "a member of an archive whose name leads out of it, or that is not a regular file",
    Outcome.NOT_FOUND: "the table of --lance-ids has no structure of this protein",
}


def structure_id(sequence: str | bytes) -> bytes:
    """Return the id of a sequence and of its structure: md5 of the upper-case letters, 16 bytes, shown as a UUID.

    md5 does not protect against forgery. It is used because it is the key of proteins in ESM Atlas v1, so that tables
    can be joined.
    """
    letters = sequence.encode("ascii") if isinstance(sequence, str) else sequence
    return hashlib.md5(letters, usedforsecurity=False).digest()


def format_structure_id(identity: bytes) -> str:
    """Return a structure id as UUID text, as DuckDB prints it."""
    return str(uuid.UUID(bytes=identity))


def num_atoms(sequence: str) -> int:
    """Return the number of stored atoms of `sequence`."""
    return sum(len(ATOMS[residue]) for residue in sequence)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings that affect structures, which are comparable only if these are equal.

    `model` is the name of the model (`nano`); `weights` the digest of all tensors that the network uses; `recycles`
    the number of trunk passes after the first; `precision` the name of the arithmetic precision. With
    `recycle_tolerance`, in angstrom, a protein stops recycling when a pass changed its C-alpha distances by less (root
    mean square). None, where all passes run, is not part of any document (manifest.py).
    """

    model: str
    weights: str
    recycles: int
    precision: str
    recycle_tolerance: float | None = None

    def __post_init__(self) -> None:
        if self.recycles < 0:
            raise ValueError(f"recycles={self.recycles} must be 0 or more")
        if isinstance(self.recycle_tolerance, float) and not 0 < self.recycle_tolerance < float("inf"):
            raise ValueError(f"recycle_tolerance={self.recycle_tolerance} must be greater than 0 and finite")
