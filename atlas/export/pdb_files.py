"""PDB text of a predicted structure (PDB format 3.3, columns exact), byte for byte what gemmi writes of the same model.

Chains A, B, C ..., residues from 1 in each, no hydrogens, TER after each chain's last residue. A residue that is no
standard one is UNK with its backbone. The B-factor of each atom is its residue's pLDDT, 0 to 100, higher is better;
REMARK 999 says so and names the model.
"""

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.export import number_columns
from foldatlas.atlas.export.chains import ATOM_ROWS, MAX_NAME_LENGTH, Chains, Structure, chains_of
from foldatlas.atlas.export.number_columns import MAX_COORDINATE, MIN_COORDINATE
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import THREE_LETTER

MAX_RESIDUES: Final = 9_999  # of a chain: a residue number has four columns,
MAX_ATOMS: Final = 99_999  # a serial number five (each TER takes one),
CHAIN_NAMES: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"  # a chain's name one

_REMARK: Final = "REMARK 999 "
_TITLE_COLUMNS: Final = (10, 80)
_SEQRES_RESIDUES: Final = 13  # a line

# An ATOM record; the columns of the format are counted from 1, these from 0. A line ends in a newline.
_ROW: Final = np.dtype(
    {
        "names": ["serial", "residue", "x", "y", "z", "plddt"],
        "formats": ["S5", "S5", "S8", "S8", "S8", "S6"],
        "offsets": [6, 21, 30, 38, 46, 60],
        "itemsize": 81,
    }
)


def printable_ascii(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """`text` for a file's header: anything but printable ASCII becomes `?`, and no more than `limit` characters."""
    clean = "".join(character if " " <= character <= "~" else "?" for character in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def pdb_text(
    structure: Structure,
    *,
    name: str,
    model: str,
    mean_plddt: float,
    ptm: float,
    iptm: float | None = None,
    chain_lengths: Sequence[int] | None = None,
) -> str:
    """The PDB file of `structure`. `name` is the record's id, `model` what predicted it.

    Atoms without coordinates are left out; a residue without pLDDT has a B-factor of 0. Raises UsageError for a
    structure that does not fit together (`chains.chains_of`) and for what the format cannot hold: more than 9,999
    residues a chain, 99,999 atoms or 62 chains, or a coordinate outside its columns.
    """
    chains = chains_of(structure, chain_lengths)
    _refuse_what_does_not_fit(chains)
    remarks = [
        "PREDICTED STRUCTURE, NOT AN EXPERIMENT",
        f"MODEL: {printable_ascii(model)}",
        f"ID: {printable_ascii(name)}",
        f"STRUCTURE_ID: {chains.identity}",
        f"MEAN PLDDT: {mean_plddt:.2f} (0 TO 100)  PTM: {ptm:.3f} (0 TO 1)",
        "B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER",
    ]
    if iptm is not None:
        remarks.append(f"IPTM: {iptm:.3f} (0 TO 1)")
    if chains.num_absent:
        remarks.append(f"ATOMS WITHOUT COORDINATES: {chains.num_absent}")
    lines = _title(f"{printable_ascii(model, 60)} prediction of {printable_ascii(name, 60)}")
    lines.append("EXPDTA    THEORETICAL MODEL".ljust(80))
    lines += [(_REMARK + line).ljust(80) for remark in remarks for line in _wrapped(remark)]
    for letter, sequence in zip(CHAIN_NAMES, chains.sequences, strict=False):
        lines += _seqres(letter, sequence)
    return "\n".join([*lines, *_coordinate_sections(chains), "END".ljust(80)]) + "\n"


def _refuse_what_does_not_fit(chains: Chains) -> None:
    num_atoms, num_chains = len(chains.rows), len(chains.lengths)
    if max(chains.lengths) > MAX_RESIDUES or num_atoms + num_chains > MAX_ATOMS or num_chains > len(CHAIN_NAMES):
        raise UsageError(
            f"structure {chains.identity} has {num_chains:,} chains of at most {max(chains.lengths):,} residues and "
            f"{num_atoms:,} atoms; a PDB file holds {len(CHAIN_NAMES)}, {MAX_RESIDUES:,} and {MAX_ATOMS:,}: write it "
            "as cif"
        )
    low, high = chains.positions.min(initial=0), chains.positions.max(initial=0)
    if low < MIN_COORDINATE or high > MAX_COORDINATE:
        raise UsageError(
            f"structure {chains.identity} has coordinates from {low:,.3f} to {high:,.3f} A; a PDB file holds "
            f"{MIN_COORDINATE:,} to {MAX_COORDINATE:,}: write it as cif"
        )


def _wrapped(remark: str) -> list[str]:
    columns = 80 - len(_REMARK)
    return [remark] if len(remark) <= columns else textwrap.wrap(remark, columns)  # wrap takes 10 us


def _title(title: str) -> list[str]:
    """TITLE records, in capitals; the second and later ones are numbered, and their text begins a column later."""
    title = title.upper()
    first, end = _TITLE_COLUMNS
    width = end - first
    lines = [f"TITLE     {title[:width]}"]
    rest = title[width:]
    while rest:
        lines.append(f"TITLE   {len(lines) + 1:2d} {rest[: width - 1]}")
        rest = rest[width - 1 :]
    return [line.ljust(80) for line in lines]


def _seqres(letter: str, sequence: str) -> list[str]:
    names = [THREE_LETTER[residue] for residue in sequence]
    return [
        f"SEQRES {number:3d} {letter} {len(names):4d}  {' '.join(names[begin : begin + _SEQRES_RESIDUES])}".ljust(80)
        for number, begin in enumerate(range(0, len(names), _SEQRES_RESIDUES), 1)
    ]


def _coordinate_sections(chains: Chains) -> list[str]:
    """A text for each chain: its ATOM records and TER, without the last newline. No atoms, no text."""
    rows = _templates()[chains.rows].view(_ROW)
    chain = np.repeat(np.arange(len(chains.lengths)), chains.lengths)  # [L]
    has_atoms = np.diff(chains.atom_ends, prepend=0) > 0
    earlier_ters: npt.NDArray[np.int64] = np.cumsum(has_atoms) - has_atoms  # before each chain
    letters = np.frombuffer(CHAIN_NAMES.encode(), "S1")[chain]
    residue = np.strings.add(letters, number_columns.integers(chains.numbers, 4))
    rows["serial"] = number_columns.integers(np.arange(1, len(rows) + 1) + earlier_ters[chain[chains.residues]], 5)
    rows["residue"] = residue[chains.residues]
    text = number_columns.coordinates(chains.positions)
    for axis, column in enumerate("xyz"):
        rows[column] = text[:, axis]
    rows["plddt"] = number_columns.plddts(chains.plddt)[chains.residues]
    sections = []
    begin = 0
    for end, ters in zip(chains.atom_ends, earlier_ters.tolist(), strict=True):
        if end > begin:
            last = rows[end - 1].tobytes().decode("ascii")
            ter = f"TER   {end + ters + 1:5d}      {last[17:26]}".ljust(80)
            sections.append(rows[begin:end].tobytes().decode("ascii") + ter)
        begin = end
    return sections


@lru_cache(maxsize=1)
def _templates() -> npt.NDArray[Any]:
    """An ATOM record of every atom there can be, in the order of ATOM_ROWS, its numbers blank.

    A name begins in column 14, since all elements here have one letter: readers of fixed columns know C-alphas so.
    """
    lines = [
        f"ATOM  {'':5}  {atom:<3} {THREE_LETTER[letter]} {'':5}{'':4}{'':24}  1.00{'':6}{'':10} {atom[0]}  \n"
        for letter, atom in ATOM_ROWS
    ]
    return np.frombuffer("".join(lines).encode("ascii"), f"V{_ROW.itemsize}")
