"""A file -> the row of its outcome, and, if it is accepted, its structure.

Only the content of a file is at fault for what is refused here; it never raises.
"""

import hashlib
from typing import Any, Final

import numpy as np

from foldatlas.atlas.importing.esm_atlas import asked_id, is_row_file, read_row_file
from foldatlas.atlas.importing.foldcomp_blob import is_foldcomp, read_foldcomp
from foldatlas.atlas.importing.record import ImportedStructure
from foldatlas.atlas.importing.structure_text import ReadOptions, read_structure_text
from foldatlas.atlas.parquet.scores import score_row
from foldatlas.atlas.reference.chains import StructureFault
from foldatlas.atlas.reference.read import Member
from foldatlas.pipeline.importing.beside import Beside, Joined, read_with_confidence
from foldatlas.pipeline.importing.ids import id_of, is_structure_name
from foldatlas.pipeline.importing.options import HEADER, ImportOptions
from foldatlas.pipeline.sources.headers import read_text
from foldatlas.pipeline.sources.validation import crc64
from foldatlas.schemas.records import Outcome, structure_id

MAX_TEXT_BYTES: Final = 64 << 20  # of one file: a chain of 65,534 residues has some 50 MB as PDB text


def file_row(
    number: int, path: str, member: Member, options: ImportOptions, beside: Beside | None = None
) -> tuple[dict[str, Any], ImportedStructure | None]:
    """Return a row of STAGED_FILES (without places of what is stored), and the structure of an accepted file.

    `path` is the name of the file in its source; `member` has its content; `beside` is the JSON file beside it.
    """
    content = member.content
    if content is None:
        return _refused(number, path, "", member.outcome, member.detail), None
    assert isinstance(content, bytes)
    digest = hashlib.sha256(content).hexdigest()
    try:
        joined = read_content(content, options, beside)
    except StructureFault as fault:
        row = _refused(number, path, digest, fault.outcome, str(fault))
        asked = asked_id(content) if is_row_file(content) else ""
        return ({**row, "id": id_of(path, asked, HEADER)} if asked else row), None
    except MemoryError:
        return _refused(number, path, digest, Outcome.TOO_LARGE, "it needs more memory than there is"), None
    found = joined.structure
    identity = id_of(path, found.identifier, options.id_from)
    if not identity:
        pattern = f"--id-from {options.id_from} finds no id"
        return _refused(number, path, digest, Outcome.MISSING_ID, pattern), None
    if len(found.sequence) > options.max_length:
        detail = f"{len(found.sequence):,} residues, more than --max-length {options.max_length:,}"
        return _refused(number, path, digest, Outcome.TOO_LONG, detail), None
    letters = found.sequence.encode("ascii")
    stated = found.provenance
    unread = found.pae_fault
    if joined.fault and beside is not None:
        unread = f"{beside.path}: {joined.fault}"
    row = {
        "number": number,
        "path": _text(path),
        "file_sha256": digest,
        "id": identity,
        "description": f"{found.title} [confidence not read: {_text(unread)}]".strip() if unread else found.title,
        "outcome": str(Outcome.ACCEPTED),
        "length": len(found.sequence),
        "structure_id": structure_id(letters),
        "sequence": found.sequence,
        "sequence_crc64": crc64(letters),
        "mgyp": read_text(identity)[2],
        "model": stated.model or options.model,
        "model_version": stated.version or None,
        "licence": stated.licence or options.licence,
        "origin": stated.origin or None,
        "chain": found.chain or None,
        "plddt_source": found.plddt_source,
        "unobserved": found.unobserved,
        "models": found.models,
        "breaks": found.breaks,
        "hydrogens": found.hydrogens,
        "other_atoms": found.other_atoms,
        "beside_sha256": joined.sha256,
        "has_confidence_fault": bool(unread),
        **score_row(found.sequence, found.positions, found.plddt, found.ptm),
    }
    return row, found


def read_content(content: bytes, options: ImportOptions, beside: Beside | None = None) -> Joined:
    """Return the structure in the content of a file, whose format its first bytes show, with the confidence of the JSON
    file beside it. Raise StructureFault."""
    with np.errstate(all="ignore"):  # values of damaged files
        if is_row_file(content):
            return Joined(read_row_file(content))

        def read(how: ReadOptions) -> ImportedStructure:
            return read_foldcomp(content, how) if is_foldcomp(content) else read_structure_text(content, how)

        return Joined(read(options.read)) if beside is None else read_with_confidence(read, options.read, beside)


def other_file(number: int, path: str) -> dict[str, Any]:
    """Return the row of a file that does not have the name of a structure file, and is not read."""
    return _refused(number, path, "", Outcome.OTHER_FILE, "")


def is_read(path: str) -> bool:
    """Return whether the file `path` of a folder or archive is read."""
    return is_structure_name(path)


def _refused(number: int, path: str, digest: str, outcome: str, detail: str) -> dict[str, Any]:
    return {
        "number": number,
        "path": _text(path),
        "file_sha256": digest,
        "id": id_of(path, "", None) if path else "",
        "description": " ".join(_text(detail).split()),
        "outcome": str(outcome),
        "length": 0,
        "unobserved": 0,
        "models": 0,
        "breaks": 0,
        "hydrogens": 0,
        "other_atoms": 0,
        "beside_sha256": "",
        "has_confidence_fault": False,
    }


def _text(text: str) -> str:
    """Return `text` as UTF-8 can hold it; other bytes of a file's name are written as \\xNN."""
    clean = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else "_" for letter in clean)
