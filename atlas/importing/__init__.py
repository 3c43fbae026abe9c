"""Structures that exist already, read into an atlas by `foldatlas import`.

record.py           one structure as a reader returns it, and what its file states about itself
declared.py         what a PDB or mmCIF file declares beside its atoms: pLDDT, pTM, id, model, licence
structure_text.py   one chain of PDB or mmCIF text
foldcomp_blob.py    the chain of a Foldcomp file
confidence_json.py  PAE, pLDDT and pTM in the JSON file beside a structure
esm_atlas.py        rows of tables of ESM Atlas v1 (Lance)
atom37_blob.py      the structure in such a row
"""
