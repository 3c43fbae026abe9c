"""Structures compared: predictions with experiment, chains with one another. No torch, so that atlas/ may use it.

superposition.py        superposition, RMSD, TM-score, GDT
lddt.py                 lDDT, all-atom and of C-alphas
contact_precision.py    how many predicted contacts are contacts
experimental.py         experimental chains, read from Parquet
shape.py                radius of gyration, helices and strands
atom_layouts.py         a prediction's atoms as atom14 and atom37

Compiled by numba, which nothing else in the project imports; these modules are imported where they are used:
    tm_align.py                 TM-align of a query with one chain or many, lower bounds, scores of pairs
    three_di.py                 3Di states of a backbone
    three_di_tables.py          the numbers that define them
    tm_pair.py                  the recipe of one pair: seeds, refinement, scores
    tm_work.py                  its working memory; secondary structure
    tm_search.py                the superposition of the greatest TM-score
    alignment_by_distance.py    global alignment of superposed chains
    smith_waterman.py           local alignment of 3Di states
    state_scan.py               scores of 3Di states against many chains, 64 at a time
    quaternion_fit.py           the superposition of least RMSD
    compilation.py              how kernels are compiled, and where compiled code is kept
"""

from foldatlas.folding.compare.superposition import gdt_ts, rmsd, tm_score

__all__ = ["gdt_ts", "rmsd", "tm_score"]
