"""Parquet files of an atlas, and between arrays and the columns that hold them.

files.py            writing and opening Parquet files, with their digests
store_dataset.py    files on a store as one table that DuckDB reads in place
coordinates.py      structures as the integers that are stored
structures.py       structures read by row group
matrices.py         predicted aligned errors and hidden states as they are stored
"""
