"""Read a structure from a Foldcomp file (.fcz; Kim, Mirdita and Steinegger 2023).

foldcomp is native code without checks of its own, so sizes in the header are checked first. It may still end the
process on damaged files: call this where a crash is isolated, as in the process that reads files of an import.

B-factors are in the file, but not what they are: a title of AlphaFold or ESMFold declares pLDDT, otherwise the caller
states the scale.
"""

import dataclasses
import importlib.util
import struct
from typing import Final

from foldatlas.atlas.importing.record import ImportedStructure
from foldatlas.atlas.importing.structure_text import ReadOptions, read_structure_text
from foldatlas.atlas.reference.chains import MAX_RESIDUES, StructureFault, safe_title

MAGIC: Final = b"FCMP"
# after the magic, foldcomp 1.0's CompressedFileHeader: residues, atoms, first residue and atom, anchors, chain, torsion
# angles of side chains, first and last residue, length of the title
_HEADER: Final = struct.Struct("<HHHHBcxxIccxxI")
_ATOMS_PER_RESIDUE: Final = 15  # at most, with OXT


def is_foldcomp(content: bytes) -> bool:
    """Return whether `content` begins as a Foldcomp file does."""
    return content.startswith(MAGIC)


def read_foldcomp(content: bytes, options: ReadOptions | None = None) -> ImportedStructure:
    """Return the chain of a Foldcomp file. Its title is `identifier`, unless it states another.

    Raise StructureFault: `unreadable` for a damaged file, or without the package foldcomp, and what
    `read_structure_text` raises.
    """
    _check_sizes(content)
    if importlib.util.find_spec("foldcomp") is None:
        raise StructureFault(
            "unreadable", "Foldcomp files need the package foldcomp: pip install 'foldatlas[foldcomp]'"
        )
    import foldcomp

    try:
        name, text = foldcomp.decompress(content)
    except Exception as error:  # foldcomp raises exceptions of any type
        raise StructureFault("unreadable", f"foldcomp cannot decode it: {type(error).__name__}: {error}") from error
    found = read_structure_text(text.encode("utf-8", "surrogateescape"), options)
    return found if found.identifier else dataclasses.replace(found, identifier=safe_title(name))


def _check_sizes(content: bytes) -> None:
    """Raise StructureFault for sizes in the header that the content cannot have."""
    begin = len(MAGIC)
    if not is_foldcomp(content) or len(content) < begin + _HEADER.size:
        raise StructureFault("unreadable", "it is not a Foldcomp file, or ends in its header")
    residues, atoms, *_, torsions, _, _, title = _HEADER.unpack_from(content, begin)
    if not 2 <= residues <= MAX_RESIDUES or not residues <= atoms <= residues * _ATOMS_PER_RESIDUE:
        raise StructureFault("unreadable", f"its header states {residues:,} residues and {atoms:,} atoms")
    if max(title, torsions) > len(content):
        raise StructureFault("unreadable", "its header states more bytes than it has")
