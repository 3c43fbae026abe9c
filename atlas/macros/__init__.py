"""Structures in SQL: macros and views that the index stores, for any DuckDB, and functions of the program.

parquet_views.py        views of Parquet files, whose list is in the variable `atlas`
structure_macros.py     SQL of the macros over a structure's row
schema.py               what SQL sees: columns, macros and functions with their meaning
install.py              storing both in an index
functions.py            what SQL cannot compute: TM-align, superposition, mmCIF
"""
