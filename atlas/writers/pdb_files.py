"""PDB text of a predicted structure (PDB format 3.3), byte for byte equal to what gemmi writes for the same model.

Chains are A, B, C ..., with residues from 1 in each, no hydrogens, and TER after each chain's last residue. A residue
that is not a standard one is UNK with its backbone. The B-factor of each atom is its residue's pLDDT, 0 to 100, higher
is better, which REMARK 999 states, with the name of the model.
"""

import textwrap
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.writers import number_columns
from foldatlas.atlas.writers.chains import ATOM_ROWS, MAX_NAME_LENGTH, Chains, Structure, chains_of
from foldatlas.atlas.writers.number_columns import MAX_COORDINATE, MIN_COORDINATE
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import THREE_LETTER

MAX_RESIDUES: Final = 9_999  # of a chain: residue numbers have 4 columns
MAX_ATOMS: Final = 99_999  # serial numbers have 5 columns; each TER takes one
CHAIN_NAMES: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"  # one column

_REMARK: Final = "REMARK 999 "
_TITLE_COLUMNS: Final = (10, 80)
_SEQRES_RESIDUES: Final = 13  # per line

# An ATOM record, with columns counted from 0 (in the format from 1), and a newline at its end.
_ROW: Final = np.dtype(
    {
        "names": ["serial", "residue", "x", "y", "z", "plddt"],
        "formats": ["S5", "S5", "S8", "S8", "S8", "S6"],
        "offsets": [6, 21, 30, 38, 46, 60],
        "itemsize": 81,
    }
)


def printable_ascii(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """Return at most `limit` characters of `text`, with `?` in place of others than printable ASCII."""
    clean = "".join(character if " " <= character <= "~" else "?" for character in text)
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."


def pdb_text(
    structure: Structure,
    *,
    name: str,
    model: str | None,
    mean_plddt: float | None,
    ptm: float | None,
    iptm: float | None = None,
    chain_lengths: Sequence[int] | None = None,
) -> str:
    """Return the PDB file of `structure`. `name` is the record's id, `model` the model that predicted it (None:
    unknown, so that the file does not state that it is a prediction); scores are None where there are none.

    Atoms without coordinates are left out; a residue without pLDDT has a B-factor of 0, which a remark states. Raise
    UsageError for an invalid structure (`chains.chains_of`) and beyond the limits of the format: 9,999 residues per
    chain, 99,999 atoms, 62 chains, and coordinates of 8 columns.
    """
    chains = chains_of(structure, chain_lengths)
    _check_limits(chains)
    remarks = ["IMPORTED STRUCTURE OF AN UNKNOWN METHOD"]
    if model is not None:
        remarks = ["PREDICTED STRUCTURE, NOT AN EXPERIMENT", f"MODEL: {printable_ascii(model)}"]
    remarks += [
        f"ID: {printable_ascii(name)}",
        f"STRUCTURE_ID: {chains.identity}",
        *_scores(chains, mean_plddt, ptm),
    ]
    if iptm is not None:
        remarks.append(f"IPTM: {iptm:.3f} (0 TO 1)")
    if chains.num_absent:
        remarks.append(f"ATOMS WITHOUT COORDINATES: {chains.num_absent}")
    short = printable_ascii(name, 60)
    if model is not None:
        lines = _title(f"{printable_ascii(model, 60)} prediction of {short}")
        lines.append("EXPDTA    THEORETICAL MODEL".ljust(80))
    else:
        lines = _title(f"imported structure of {short}")
    lines += [(_REMARK + line).ljust(80) for remark in remarks for line in _wrapped(remark)]
    for letter, sequence in zip(CHAIN_NAMES, chains.sequences, strict=False):
        lines += _seqres(letter, sequence)
    return "\n".join([*lines, *_coordinate_sections(chains), "END".ljust(80)]) + "\n"


def _scores(chains: Chains, mean_plddt: float | None, ptm: float | None) -> list[str]:
    """Return the remarks on the scores that a structure has, and on its B-factors."""
    known = [
        *([f"MEAN PLDDT: {mean_plddt:.2f} (0 TO 100)"] if mean_plddt is not None else []),
        *([f"PTM: {ptm:.3f} (0 TO 1)"] if ptm is not None else []),
    ]
    remarks = ["  ".join(known)] if known else []
    if not chains.has_plddt.any():
        return [*remarks, "B-FACTOR: 0, BECAUSE THE STRUCTURE HAS NO PLDDT"]
    remarks.append("B-FACTOR: PLDDT OF THE RESIDUE, 0 TO 100, HIGHER IS BETTER")
    if missing := int((~chains.has_plddt).sum()):
        remarks.append(f"RESIDUES WITHOUT PLDDT, B-FACTOR 0: {missing}")
    return remarks


def _check_limits(chains: Chains) -> None:
    num_atoms, num_chains = len(chains.rows), len(chains.lengths)
    if max(chains.lengths) > MAX_RESIDUES or num_atoms + num_chains > MAX_ATOMS or num_chains > len(CHAIN_NAMES):
        raise UsageError(
            f"structure {chains.identity} has {num_chains:,} chains of at most {max(chains.lengths):,} residues and "
            f"{num_atoms:,} atoms; the limits of PDB files are {len(CHAIN_NAMES)}, {MAX_RESIDUES:,} and {MAX_ATOMS:,}: "
            "write it as cif"
        )
    low, high = chains.positions.min(initial=0), chains.positions.max(initial=0)
    if low < MIN_COORDINATE or high > MAX_COORDINATE:
        raise UsageError(
            f"structure {chains.identity} has coordinates from {low:,.3f} to {high:,.3f} A; the limits of PDB files "
            f"are {MIN_COORDINATE:,} and {MAX_COORDINATE:,}: write it as cif"
        )


def _wrapped(remark: str) -> list[str]:
    columns = 80 - len(_REMARK)
    return [remark] if len(remark) <= columns else textwrap.wrap(remark, columns)  # wrap takes 10 us


def _title(title: str) -> list[str]:
    """Return TITLE records in upper case; from the second on they are numbered and their text begins a column later."""
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
    """Return, for each chain that has atoms, its ATOM records and TER, without the last newline."""
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
    """Return an ATOM record without numbers for each of ATOM_ROWS.

    Atom names begin in column 14, because all elements have one letter; readers of fixed columns find C-alphas by this.
    """
    lines = [
        f"ATOM  {'':5}  {atom:<3} {THREE_LETTER[letter]} {'':5}{'':4}{'':24}  1.00{'':6}{'':10} {atom[0]}  \n"
        for letter, atom in ATOM_ROWS
    ]
    return np.frombuffer("".join(lines).encode("ascii"), f"V{_ROW.itemsize}")
