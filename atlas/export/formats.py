"""The formats of an export. Apart from subset.py, so that the command's options can be read without loading DuckDB."""

from typing import Final

STRUCTURE_FORMATS: Final = {
    "pdb": "one PDB file a protein",
    "cif": "one mmCIF file a protein (ModelCIF)",
    "fcz": "one Foldcomp file a protein: small, lossy; needs pip install 'foldatlas[foldcomp]'",
}
FORMATS: Final = {
    **STRUCTURE_FORMATS,
    "fasta": "one FASTA file",
    "parquet": "Parquet files of all columns with sequences and coordinates",
}
