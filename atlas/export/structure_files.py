"""The files of one structure that FoldAtlas writes: PDB, mmCIF and Foldcomp, from the atlas or from the network.

Each writer takes a structure (`chains.Structure`: StoredStructure, Prediction) with its name, model and scores.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Final

from foldatlas.atlas.export.cif_files import cif_text
from foldatlas.atlas.export.foldcomp_files import FoldcompWriter
from foldatlas.atlas.export.pdb_files import pdb_text

_TEXTS: Final[dict[str, Callable[..., str]]] = {"pdb": pdb_text, "cif": cif_text}


@contextlib.contextmanager
def structure_writer(format: str) -> Iterator[Callable[..., bytes]]:
    """Gives the function that makes a structure's file: `pdb_text`, `cif_text` or `FoldcompWriter.fcz_bytes`, in bytes.

    `format` is one of export_formats.STRUCTURE_FORMATS. The function raises UsageError for a structure that its format
    cannot hold; entering raises it where the package foldcomp is needed and missing.
    """
    if format == "fcz":
        with FoldcompWriter() as writer:
            yield writer.fcz_bytes
    else:
        yield lambda structure, **described: _TEXTS[format](structure, **described).encode("ascii")
