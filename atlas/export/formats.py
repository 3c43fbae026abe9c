"""The formats of an export, in a module that the command's options can import without DuckDB."""

from typing import Final

STRUCTURE_FORMATS: Final = {
    "pdb": "one PDB file per protein",
    "cif": "one mmCIF file per protein (ModelCIF)",
    "fcz": "one Foldcomp file per protein: small, lossy; needs pip install 'foldatlas[foldcomp]'",
}
FORMATS: Final = {
    **STRUCTURE_FORMATS,
    "fasta": "one FASTA file",
    "parquet": "Parquet files of all columns with sequences and coordinates",
}
