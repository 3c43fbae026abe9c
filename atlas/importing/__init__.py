"""Structures that other programs predicted, read into an atlas.

Modules:
    prediction.py   one chain of a PDB or mmCIF file: sequence, atoms, pLDDT
"""
