"""Parquet files of an atlas, and the conversion between arrays and their columns.

files.py            writing and opening Parquet files, with their digests
store_dataset.py    files on a store as one table that DuckDB reads in place
coordinates.py      structures to and from stored integers
scores.py           scores of a structure, from its stored values
structures.py       reading structures by row group
notebook.py         a structure as HTML
stored_pae.py       reading predicted aligned errors by structure
matrices.py         predicted aligned errors and embeddings of residues, to and from stored values
"""
