"""Predictions against experiment. numpy only: no torch, so that atlas/ may use it.

superposition.py        superposition, RMSD, TM-score, GDT
lddt.py                 lDDT, all-atom and of C-alphas
contact_precision.py    how many predicted contacts are contacts
experimental.py         experimental chains, read from Parquet
shape.py                radius of gyration, helices and strands
atom_layouts.py         a prediction's atoms as atom14 and atom37
"""

from foldatlas.folding.compare.superposition import gdt_ts, rmsd, tm_score

__all__ = ["gdt_ts", "rmsd", "tm_score"]
