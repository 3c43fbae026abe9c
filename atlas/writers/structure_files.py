"""The files of one structure that FoldAtlas writes: PDB, mmCIF and Foldcomp, from the atlas or from the network.

Each writer takes a structure (`chains.Structure`: StoredStructure, Prediction) with its name, model and scores.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.atlas.writers.foldcomp_files import FoldcompWriter
from foldatlas.atlas.writers.pdb_files import pdb_text

_TEXTS: Final[dict[str, Callable[..., str]]] = {"pdb": pdb_text, "cif": cif_text}


@contextlib.contextmanager
def structure_writer(format: str) -> Iterator[Callable[..., bytes]]:
    """Yield the function that returns a structure's file as bytes: `pdb_text`, `cif_text` or `fcz_bytes`.

    `format` is one of `formats.STRUCTURE_FORMATS`. The function raises UsageError for a structure beyond the limits of
    the format; this raises UsageError if the package foldcomp is needed but not installed.
    """
    if format == "fcz":
        with FoldcompWriter() as writer:
            yield writer.fcz_bytes
    else:
        yield lambda structure, **described: _TEXTS[format](structure, **described).encode("ascii")
