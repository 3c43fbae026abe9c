"""Subsets of an atlas as files.

subset.py           writes a subset to a folder, with digests
formats.py          which formats there are (no DuckDB)
id_files.py         ids from a list or from an answer of query
file_names.py       safe and distinct file names from ids
structure_files.py  the writer of each structure format
chains.py           what the writers take: chains, residues, atoms, all checked
number_columns.py   numbers as text, whole arrays at a time
pdb_files.py        PDB text
cif_files.py        mmCIF text (ModelCIF)
foldcomp_files.py   Foldcomp files, each read back
foldcomp_child.py   the process that runs foldcomp, which may crash
"""
