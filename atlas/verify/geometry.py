"""Check the geometry of stored structures, and a sample of their PDB files as other programs read them.

Unusual geometry is counted, not a fault: a model may well predict it. Structures files are read by row group.
"""

import heapq
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Final

import gemmi
import numpy as np
import pyarrow as pa
from Bio.PDB.PDBParser import PDBParser

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import StoredStructure, decode_structures
from foldatlas.atlas.parquet.files import open_parquet
from foldatlas.atlas.verify.fault import Fault, FaultKind, restore_or_fold
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.folding.compare import stereochemistry
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.records import ATOMS, THREE_LETTER, format_structure_id
from foldatlas.schemas.wording import counted

SAMPLE: Final = 20  # structures whose PDB files are read again
COORDINATE_TOLERANCE: Final = 0.0011  # angstrom: PDB files have three decimals, the readers float32
PLDDT_TOLERANCE: Final = 0.0051  # PDB files have two decimals

MEANINGS: Final = {
    "breaks": f"chain break (C-N above {stereochemistry.MAX_PEPTIDE_BOND} A)",
    "cis": "cis peptide before another residue than proline",
    "cis_proline": "cis peptide before proline",
    "twisted": "peptide whose omega is neither cis nor trans "
    f"({stereochemistry.MAX_CIS_OMEGA:.0f} to {stereochemistry.MIN_TRANS_OMEGA:.0f} degrees)",
    "d_residues": "residue with the chirality of a D-amino acid",
    "clashes": f"pair of atoms that overlap by more than {stereochemistry.CLASH_TOLERANCE} A",
}


@dataclass
class Unusual:
    """How often something unusual occurs: its number, in how many structures, and the structure that has most of it."""

    number: int = 0
    structures: int = 0
    most: int = 0
    structure_id: bytes = b""

    def add(self, number: int, structure_id: bytes) -> None:
        self.number += number
        self.structures += number > 0
        if number > self.most:
            self.most, self.structure_id = number, structure_id


@dataclass
class Geometry:
    """What is unusual in the structures of an atlas, by field of `stereochemistry.Counts`; and faults of the sample."""

    structures: int
    unusual: dict[str, Unusual]
    faults: list[Fault]

    def notes(self) -> Iterator[str]:
        """Yield a line for all that is unusual."""
        for name, found in self.unusual.items():
            if found.number:
                yield (
                    f"{found.number:,} x {MEANINGS[name]}, in {found.structures:,} of "
                    f"{counted(self.structures, 'structure')}; most, {found.most:,}, in "
                    f"{format_structure_id(found.structure_id)}"
                )


def check_geometry(folder: AtlasFolder, entries: dict[str, ShardEntry], bad: set[str]) -> Geometry:
    """Count unusual geometry of all structures; read PDB files of SAMPLE structures again. Files in `bad` are skipped.

    The sample is those of the least structure_ids, which are digests: it is random, and the same each time.
    """
    unusual = {field.name: Unusual() for field in fields(stereochemistry.Counts)}
    sample: list[tuple[int, str, StoredStructure]] = []
    number = 0
    for shard, entry in sorted(entries.items()):
        if entry.files["structures"].path in bad:
            continue
        for structures in _row_groups(folder, entry):
            counts = stereochemistry.count(
                [structure.sequence for structure in structures],
                np.concatenate([structure.positions for structure in structures]),
            )
            for name, found in unusual.items():
                for structure, value in zip(structures, getattr(counts, name).tolist(), strict=True):
                    found.add(value, structure.structure_id)
            number += len(structures)
            # a heap whose first item has the greatest id
            candidates = ((-int.from_bytes(structure.structure_id), shard, structure) for structure in structures)
            for candidate in candidates:
                (heapq.heappush if len(sample) < SAMPLE else heapq.heappushpop)(sample, candidate)
    model = folder.header().settings.model
    faults = [fault for _, shard, structure in sample for fault in _reread(structure, entries[shard], model)]
    return Geometry(number, unusual, faults)


def _row_groups(folder: AtlasFolder, entry: ShardEntry) -> Iterator[list[StoredStructure]]:
    """Yield the structures of each row group; a file that cannot be decoded is another check's fault."""
    try:
        file = open_parquet(folder.storage, entry.files["structures"].path)
        for number in range(file.num_row_groups):
            if structures := list(decode_structures(file.read_row_group(number))):
                yield structures
    except (OSError, pa.ArrowException, FoldAtlasError):
        return


def _reread(structure: StoredStructure, entry: ShardEntry, model: str) -> Iterator[Fault]:
    """Yield faults of a structure's PDB file as gemmi and Biopython read it."""
    identity = format_structure_id(structure.structure_id)
    try:
        text = pdb_text(structure, name=identity, model=model, mean_plddt=None, ptm=None)
    except FoldAtlasError:
        return  # beyond the limits of the format, which `export` reports
    is_known = np.isfinite(structure.positions).all(axis=1)
    names = [name for letter in structure.sequence for name in ATOMS[letter]]
    numbers = np.repeat(np.arange(len(structure.sequence)), [len(ATOMS[letter]) for letter in structure.sequence])
    observed = np.unique(numbers[is_known])  # residues without atoms are not in the file
    expected = _Read(
        [THREE_LETTER[structure.sequence[number]] for number in observed],
        [names[row] for row in np.flatnonzero(is_known)],
        structure.positions[is_known],
        np.nan_to_num(structure.plddt)[observed],
    )
    for program, read in (("gemmi", _by_gemmi(text)), ("Biopython", _by_biopython(text))):
        if what := read.difference(expected):
            message = f"{program} reads {what} from the PDB file of structure {identity}"
            yield Fault(FaultKind.CONTENT, entry.files["structures"].path, message, restore_or_fold(entry.shard))


@dataclass(frozen=True)
class _Read:
    """Names of residues and atoms, positions of atoms [N, 3] and B-factors of residues [L] of a PDB file."""

    residues: list[str]
    atoms: list[str]
    positions: Any
    plddt: Any

    def difference(self, other: "_Read") -> str:
        """Return what differs from `other`, empty if nothing does."""
        if self.residues != other.residues:
            return "other residues"
        if self.atoms != other.atoms:
            return "other atoms"
        if not np.allclose(self.positions, other.positions, rtol=0, atol=COORDINATE_TOLERANCE):
            return "other coordinates"
        return "" if np.allclose(self.plddt, other.plddt, rtol=0, atol=PLDDT_TOLERANCE) else "other B-factors"


def _by_gemmi(text: str) -> _Read:
    residues = [residue for chain in gemmi.read_pdb_string(text)[0] for residue in chain]
    return _Read(
        [residue.name for residue in residues],
        [atom.name for residue in residues for atom in residue],
        np.array([atom.pos.tolist() for residue in residues for atom in residue]).reshape(-1, 3),
        np.array([residue[0].b_iso for residue in residues]),
    )


def _by_biopython(text: str) -> _Read:
    model = next(iter(PDBParser(QUIET=True).get_structure("", io.StringIO(text))))
    residues = list(model.get_residues())
    return _Read(
        [residue.get_resname() for residue in residues],
        [atom.get_name() for residue in residues for atom in residue],
        np.array([atom.get_coord() for residue in residues for atom in residue]).reshape(-1, 3),
        np.array([next(iter(residue)).get_bfactor() for residue in residues]),
    )
