"""The old name of `foldatlas.atlas.writers.structure_files`, kept for one release."""

import warnings

from foldatlas.atlas.writers.cif_files import cif_text
from foldatlas.atlas.writers.foldcomp_files import FoldcompWriter
from foldatlas.atlas.writers.pdb_files import pdb_text
from foldatlas.atlas.writers.structure_files import structure_writer

__all__ = ["FoldcompWriter", "cif_text", "pdb_text", "structure_writer"]

warnings.warn(
    "foldatlas.atlas.structure_files is now foldatlas.atlas.writers.structure_files", DeprecationWarning, stacklevel=2
)
