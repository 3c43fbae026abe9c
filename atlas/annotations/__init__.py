"""Annotations: tables of users (biome, taxonomy, domains, cross-references) that are joined to an atlas.

documents.py    the annotations of an atlas: list, commit, sweep
user_table.py   a user's CSV, TSV or Parquet, with the names of columns that SQL can use
key_values.py   rows with a valid key, types of columns, and the Parquet file that is stored
annotate.py     adding, replacing and dropping an annotation
union.py        the annotations of merged atlases
"""
