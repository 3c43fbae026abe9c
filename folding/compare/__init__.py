"""Comparison of structures: predictions with experiment, and chains with chains. Without torch, for use by atlas/.

superposition.py        superposition, RMSD, TM-score, GDT
lddt.py                 lDDT, all-atom and of C-alphas
contact_precision.py    precision of predicted contacts
experimental.py         reading of experimental chains from Parquet
shape.py                radius of gyration, secondary structure
stereochemistry.py      peptide bonds, omega, chirality, clashes
atom_layouts.py         conversion to atom14 and atom37

Compiled by numba, which only kernels/ and state_scan.py import; these modules are imported where they are used:
    tm_align.py     TM-align of a query with one chain or many, lower bounds, scores of pairs
    three_di.py     3Di states of a backbone
    state_scan.py   scores of 3Di states against many chains, 64 at a time
    kernels/        what they are made of
"""

from foldatlas.folding.compare.superposition import gdt_ts, rmsd, tm_score

__all__ = ["gdt_ts", "rmsd", "tm_score"]
