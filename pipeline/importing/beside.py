"""The file of scores that ColabFold writes beside a structure: it shows that B-factors are pLDDT, and has pTM.

`x_unrelaxed_rank_001_MODEL.pdb` has the scores `x_scores_rank_001_MODEL.json`. It is read in folders of this machine;
archives are read from their beginning to their end, where the two may be far apart.
"""

import dataclasses
from pathlib import Path
from typing import Final

import numpy as np

from foldatlas.atlas.importing.confidence_json import (
    MAX_CONFIDENCE_BYTES,
    Confidence,
    confidence_names,
    read_confidence,
)
from foldatlas.atlas.importing.record import ImportedStructure
from foldatlas.atlas.importing.structure_text import ReadOptions, read_structure_text
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.schemas.formats import DECLARED
from foldatlas.schemas.records import Outcome

_SCORES: Final = "_scores"
_TOLERANCE: Final = 0.011  # of pLDDT: both files have two decimals


def scores_beside(path: Path) -> bytes | None:
    """Return the content of ColabFold's file of scores beside the structure file `path`, None without one."""
    for name in confidence_names(path.name):
        scores = path.with_name(name)
        if _SCORES in name and scores.is_file() and scores.stat().st_size <= MAX_CONFIDENCE_BYTES:
            try:
                return scores.read_bytes()
            except OSError:
                return None
    return None


def read_with_scores(content: bytes, options: ReadOptions, scores: bytes) -> ImportedStructure:
    """Return the structure in PDB or mmCIF text, with what its file of scores declares.

    B-factors are pLDDT if they are equal to the pLDDT of the scores. A damaged file of scores, or that of another
    structure, changes nothing. Raise StructureFault as `read_structure_text` does.
    """
    try:
        found = read_structure_text(content, options)
    except StructureFault as fault:
        if fault.outcome != Outcome.UNKNOWN_PLDDT:
            raise
        found = read_structure_text(content, dataclasses.replace(options, plddt_scale=100))
        confidence = _confidence(scores, len(found.sequence))
        if found.plddt is None or confidence.plddt is None:
            raise
        if not (np.abs(found.plddt - confidence.plddt) <= _TOLERANCE).all():
            raise
        found = dataclasses.replace(found, plddt_source=DECLARED)
    if found.ptm is None and not options.experimental:
        found = dataclasses.replace(found, ptm=_confidence(scores, len(found.sequence)).ptm)
    return found


def _confidence(scores: bytes, length: int) -> Confidence:
    try:
        return read_confidence(scores, length)
    except ValueError:
        return Confidence()
