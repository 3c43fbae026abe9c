"""The old name of `foldatlas.atlas.export.structure_files`, kept for one release."""

import warnings

from foldatlas.atlas.export.cif_files import cif_text
from foldatlas.atlas.export.foldcomp_files import FoldcompWriter
from foldatlas.atlas.export.pdb_files import pdb_text
from foldatlas.atlas.export.structure_files import structure_writer

__all__ = ["FoldcompWriter", "cif_text", "pdb_text", "structure_writer"]

warnings.warn(
    "foldatlas.atlas.structure_files is now foldatlas.atlas.export.structure_files", DeprecationWarning, stacklevel=2
)
