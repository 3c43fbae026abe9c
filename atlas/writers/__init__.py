"""Files of one structure: PDB, mmCIF, Foldcomp. They need arrays alone, no atlas.

structure_files.py  the writer of each format
chains.py           the checked input of the writers: chains, residues, atoms
number_columns.py   arrays of numbers as columns of text
pdb_files.py        PDB text
cif_files.py        mmCIF text (ModelCIF)
pae_files.py        predicted aligned errors as JSON
foldcomp_files.py   Foldcomp files, each read back and compared
foldcomp_child.py   the process that runs foldcomp, because it may crash
"""
