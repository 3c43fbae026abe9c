"""Subsets of an atlas as files.

subset.py           writing a subset to a folder, with digests
formats.py          names of the formats, without importing DuckDB
id_files.py         reading ids from a list or from the output of query
file_names.py       safe and distinct file names from ids
structure_files.py  the writer of each structure format
chains.py           the checked input of the writers: chains, residues, atoms
number_columns.py   arrays of numbers as columns of text
fasta_files.py      FASTA text
pdb_files.py        PDB text
cif_files.py        mmCIF text (ModelCIF)
foldcomp_files.py   Foldcomp files, each read back and compared
foldcomp_child.py   the process that runs foldcomp, because it may crash
"""
