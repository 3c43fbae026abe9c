"""Kernels of TM-align and of 3Di alignments, compiled by numba: plain functions over arrays.

tm_pair.py                  the recipe of one pair: seeds, refinement, scores
tm_effort.py                how many seeds are refined, and how far
tm_work.py                  its working memory; secondary structure
tm_search.py                the superposition of the greatest TM-score
alignment_by_distance.py    global alignment of superposed chains
quaternion_fit.py           the superposition of least RMSD
smith_waterman.py           local alignment of 3Di states
state_alignments.py         alignments of 3Di states with many chains, 32 at a time
lanes.py                    vectors of integers for these, and for the scan
three_di_tables.py          the numbers that define 3Di states and their substitution scores
compilation.py              how kernels are compiled, and where compiled code is kept
"""
