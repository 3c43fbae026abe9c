"""Comparison of structures: predictions with experiment, and chains with chains. Without torch, for use by atlas/.

superposition.py        superposition, RMSD, TM-score, GDT
lddt.py                 lDDT, all-atom and of C-alphas
contact_precision.py    precision of predicted contacts
experimental.py         reading of experimental chains from Parquet
shape.py                radius of gyration, secondary structure
stereochemistry.py      peptide bonds, omega, chirality, clashes
atom_layouts.py         conversion to atom14 and atom37

Compiled by numba, which nothing else in the project imports; these modules are imported where they are used:
    tm_align.py                 TM-align of a query with one chain or many, lower bounds, scores of pairs
    three_di.py                 3Di states of a backbone
    three_di_tables.py          the numbers that define them
    tm_pair.py                  the recipe of one pair: seeds, refinement, scores
    tm_effort.py                how many seeds are refined, and how far
    tm_work.py                  its working memory; secondary structure
    tm_search.py                the superposition of the greatest TM-score
    alignment_by_distance.py    global alignment of superposed chains
    smith_waterman.py           local alignment of 3Di states
    state_scan.py               scores of 3Di states against many chains, 64 at a time
    state_alignments.py         alignments of 3Di states with many chains, 32 at a time
    lanes.py                    vectors of integers for both
    quaternion_fit.py           the superposition of least RMSD
    compilation.py              how kernels are compiled, and where compiled code is kept
"""

from foldatlas.folding.compare.superposition import gdt_ts, rmsd, tm_score

__all__ = ["gdt_ts", "rmsd", "tm_score"]
