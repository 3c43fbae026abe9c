"""The input of the structure writers: chains, residues and the atoms that have coordinates, all checked.

The writers accept stored structures (`coordinates.StoredStructure`) and predictions, multimers too: any object with
`sequence`, `positions` and `plddt` (`Structure`), and `chain_lengths` if it has several chains.

Shapes: `A` stored atoms, `L` residues, `K` atoms that have coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Protocol

import numpy as np
import numpy.typing as npt

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import ATOMS, RESIDUES, format_structure_id, structure_id

MAX_NAME_LENGTH: Final = 500  # characters of an id that a header repeats


class Structure(Protocol):
    """A structure that can be written.

    `sequence` of one-letter codes, all chains concatenated; `positions` [A, 3] in angstrom, NaN for an atom without
    coordinates; `plddt` [L], 0 to 100, NaN for a residue without one. Any float dtype.
    """

    @property
    def sequence(self) -> str: ...
    @property
    def positions(self) -> npt.NDArray[Any]: ...
    @property
    def plddt(self) -> npt.NDArray[Any]: ...


# All atoms of all residue types: atom i of a residue is row _FIRST_ROW[code] + i.
ATOM_ROWS: Final = tuple((letter, atom) for letter, atoms in ATOMS.items() for atom in atoms)
_FIRST_ROW: Final = np.zeros(128, np.int64)
_NUM_ATOMS: Final = np.zeros(128, np.int64)
for _letter, _atoms in ATOMS.items():
    _FIRST_ROW[ord(_letter)] = ATOM_ROWS.index((_letter, _atoms[0]))
    _NUM_ATOMS[ord(_letter)] = len(_atoms)


@dataclass(frozen=True, eq=False)
class Chains:
    """The chains of a structure.

    `identity` is the UUID of the sequence (of `A:B` for two chains); `lengths` the residues of each chain; `numbers`
    [L] a residue's number in its chain, from 1; `plddt` float32 [L], 0 if missing; `has_plddt` [L] is True where it is
    not; `rows` [K] an atom's row of ATOM_ROWS, `residues` [K] its residue, `positions` float32 [K, 3] in angstrom;
    `num_absent` is the number of atoms without coordinates.
    """

    identity: str
    sequence: str
    lengths: tuple[int, ...]
    numbers: npt.NDArray[np.int64]
    plddt: npt.NDArray[np.float32]
    has_plddt: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int64]
    residues: npt.NDArray[np.int64]
    positions: npt.NDArray[np.float32]
    num_absent: int

    @cached_property
    def ends(self) -> list[int]:
        """The index in the sequence at which each chain ends."""
        return [int(end) for end in np.cumsum(self.lengths)]

    @cached_property
    def sequences(self) -> list[str]:
        return [self.sequence[end - length : end] for end, length in zip(self.ends, self.lengths, strict=True)]

    @cached_property
    def atom_ends(self) -> list[int]:
        """The index among the K atoms at which each chain ends."""
        return [int(end) for end in np.searchsorted(self.residues, self.ends)]


def chains_of(structure: Structure, chain_lengths: Sequence[int] | None = None) -> Chains:
    """Check `structure` and split it into chains. `chain_lengths` defaults to the structure's own, else to one chain.

    Raise UsageError for letters that are not residue codes, arrays whose shapes do not match the sequence, infinite
    coordinates, a pLDDT outside 0 to 100, and chains that are empty or do not add up to the sequence.
    """
    sequence = structure.sequence
    if not sequence or (strange := set(sequence) - RESIDUES):
        found = f"holds {''.join(sorted(strange))!r}" if sequence else "is empty"
        raise UsageError(f"the structure's sequence {found}: give one-letter residue codes, chains concatenated")
    if chain_lengths is None:
        chain_lengths = getattr(structure, "chain_lengths", None) or [len(sequence)]
    lengths = tuple(int(length) for length in chain_lengths)
    if min(lengths, default=0) < 1 or sum(lengths) != len(sequence):
        raise UsageError(f"chains of {lengths} residues do not add up to a sequence of {len(sequence):,}")
    codes = np.frombuffer(sequence.encode("ascii"), np.uint8)
    counts = _NUM_ATOMS[codes]
    num_atoms = int(counts.sum())
    positions, plddt = (np.asarray(array).astype(np.float32) for array in (structure.positions, structure.plddt))
    if positions.shape != (num_atoms, 3) or plddt.shape != codes.shape:
        raise UsageError(
            f"a sequence of {len(sequence):,} residues and {num_atoms:,} atoms does not fit positions "
            f"{positions.shape} and plddt {plddt.shape}: they are [atoms, 3] and [residues]"
        )
    has_plddt = ~np.isnan(plddt)
    plddt = np.where(has_plddt, plddt, np.float32(0))
    if np.isinf(positions).any() or plddt.min() < 0 or plddt.max() > 100:
        raise UsageError(
            f"positions must be finite (angstrom) and pLDDT 0 to 100: it is {plddt.min():g} to {plddt.max():g}"
        )
    residues = np.repeat(np.arange(len(codes)), counts)
    starts = np.cumsum(counts) - counts
    rows = (_FIRST_ROW[codes] - starts)[residues] + np.arange(num_atoms)
    present = ~np.isnan(positions).any(axis=1)
    num_absent = num_atoms - int(present.sum())
    if num_absent:
        rows, residues, positions = rows[present], residues[present], positions[present]
    parts = [sequence[end - length : end] for end, length in zip(np.cumsum(lengths), lengths, strict=True)]
    numbers = np.arange(1, len(codes) + 1) - np.repeat(np.cumsum([0, *lengths[:-1]]), lengths)
    identity = format_structure_id(structure_id(":".join(parts)))
    return Chains(identity, sequence, lengths, numbers, plddt, has_plddt, rows, residues, positions, num_absent)


def one_line(text: str, limit: int = MAX_NAME_LENGTH) -> str:
    """Return `text` as one line of printable ASCII, at most `limit` characters; others are escaped (`\\n`, `\\xe9`)."""
    clean = "".join(
        character if " " <= character <= "~" else character.encode("unicode_escape").decode() for character in text
    )
    return clean if len(clean) <= limit else clean[: limit - 3] + "..."
