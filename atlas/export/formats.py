"""The formats of an export, in a module that the command's options can import without DuckDB."""

from typing import Final

STRUCTURE_FORMATS: Final = {
    "pdb": "one PDB file per protein",
    "cif": "one mmCIF file per protein (ModelCIF)",
    "fcz": "one Foldcomp file per protein: small, lossy; needs pip install 'foldatlas[foldcomp]'",
}
FORMATS: Final = {
    **STRUCTURE_FORMATS,
    "tar": "structure files in tar.gz bundles by bins of pTM and mean pLDDT",
    "fasta": "one FASTA file",
    "3di": "FASTA of 3Di states and of sequences, for Foldseek",
    "parquet": "Parquet files of all columns with sequences and coordinates, and an atlas of these proteins",
}
