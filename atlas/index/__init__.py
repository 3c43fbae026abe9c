"""The index of an atlas: `atlas.duckdb`, built from the Parquet files that plans and manifest list.

build.py        builds it, or adds what is new
views.py        the columns of `proteins`, and the views on top of it
runs.py         which run made what
published.py    the index where readers find it, and their copy of it
"""
