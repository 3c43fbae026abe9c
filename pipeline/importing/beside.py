"""The JSON file beside a structure, of AlphaFold DB or ColabFold: PAE, pTM, and whether B-factors are pLDDT.

`x_unrelaxed_rank_001_MODEL.pdb` has the scores `x_scores_rank_001_MODEL.json`; confidence_json.py has all names. A file
that cannot be read, or is of another structure, costs the structure nothing: the reason goes into its record.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Container
from typing import Final

import numpy as np

from foldatlas.atlas.importing.confidence_json import Confidence, NoConfidence, confidence_names, read_confidence
from foldatlas.atlas.importing.record import ImportedStructure
from foldatlas.atlas.importing.structure_text import ReadOptions
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.atlas.reference.read import Member
from foldatlas.schemas.formats import DECLARED
from foldatlas.schemas.records import Outcome

# Difference between pLDDT of the scores and B-factors, of 100: both have two decimals.
_TOLERANCE: Final = 0.011
_TOLERANCE_OF_FRACTIONS: Final = 0.51  # where B-factors are 0 to 1
# In names and keys of such files, and of no others.
_NAME: Final = re.compile(r"predicted_aligned_error|_scores|\.pae\.json", re.IGNORECASE)
_KEY: Final = re.compile(rb'"(?:predicted_aligned_error|pae|plddt)"\s*:')

Read = Callable[[ReadOptions], ImportedStructure]


@dataclasses.dataclass(frozen=True)
class Beside:
    """The JSON file beside a structure: its path in the source, and a function that reads it."""

    path: str
    read: Callable[[], Member]


@dataclasses.dataclass(frozen=True)
class Joined:
    """A structure with its confidence, the sha256 of the JSON file ("" if it was not read), and why the confidence is
    not used ("" if it is)."""

    structure: ImportedStructure
    sha256: str = ""
    fault: str = ""


def path_beside(path: str, names: Container[str]) -> str:
    """Return which of `names` is the JSON file beside the structure file `path`, "" for none."""
    folder = path.rpartition("/")[0]
    for name in confidence_names(path):
        beside = f"{folder}/{name}" if folder else name
        if beside in names:
            return beside
    return ""


def read_with_confidence(read: Read, options: ReadOptions, beside: Beside) -> Joined:
    """Return the structure that `read` returns, with what the JSON file beside it has.

    Where B-factors are of unknown meaning, they are pLDDT if they are equal to the pLDDT of the JSON file. Raise
    StructureFault as `read` does.
    """
    try:
        found = read(options)
    except StructureFault as unknown:
        if unknown.outcome != Outcome.UNKNOWN_PLDDT:
            raise
        found = read(dataclasses.replace(options, plddt_scale=100))
        content, confidence, fault = _confidence(beside, len(found.sequence))
        declared = _declared(found, confidence)
        if declared is None:
            detail = f"{unknown}; {beside.path}: {fault}" if fault else str(unknown)
            raise StructureFault(unknown.outcome, detail) from None
        found = declared
    else:
        content, confidence, fault = _confidence(beside, len(found.sequence))
    ptm = confidence.ptm if found.ptm is None else found.ptm
    joined = dataclasses.replace(found, ptm=ptm, pae=confidence.pae if found.pae is None else found.pae)
    return Joined(joined, hashlib.sha256(content).hexdigest() if content else "", fault)


def _declared(found: ImportedStructure, confidence: Confidence) -> ImportedStructure | None:
    """Return the structure with its B-factors as pLDDT, 0 to 100; None if they are not the pLDDT of the JSON file."""
    if found.plddt is None or confidence.plddt is None:
        return None
    is_fraction = float(np.nanmax(found.plddt)) <= 1
    plddt = found.plddt * np.float32(100) if is_fraction else found.plddt
    tolerance = _TOLERANCE_OF_FRACTIONS if is_fraction else _TOLERANCE
    if not (np.abs(plddt - confidence.plddt) <= tolerance).all():
        return None
    return dataclasses.replace(found, plddt=plddt, plddt_source=DECLARED)


def _confidence(beside: Beside, length: int) -> tuple[bytes, Confidence, str]:
    """Return the content of the JSON file, its confidence for a structure of `length` residues, and why it has none.

    A file that has the name of the structure, and JSON of another kind, is not one of confidence.
    """
    member = beside.read()
    if member.content is None:
        return b"", Confidence(), f"{member.outcome}: {member.detail}"
    assert isinstance(member.content, bytes)
    try:
        return member.content, read_confidence(member.content, length), ""
    except NoConfidence as error:
        is_meant = _NAME.search(beside.path) or _KEY.search(member.content)
        return member.content, Confidence(), str(error) if is_meant else ""
    except ValueError as error:
        return member.content, Confidence(), " ".join(str(error).split())
    except MemoryError:
        return member.content, Confidence(), "it needs more memory than there is"
