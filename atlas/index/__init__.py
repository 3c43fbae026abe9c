"""The index of an atlas: `atlas.duckdb`, built from the Parquet files that plans and manifest list.

build.py        builds it, or adds what is new
contents.py     what it holds, and whether that is all that is committed
novelty.py      what searches found: runs, hits, targets
clusters.py     the latest clusters: columns of structures, table and views
views.py        the columns of `proteins`, and the views on top of it
lineage.py      which versions of sources are current
needed.py       which sequences a present record has
changes.py      what a new version of a source changes
counts.py       how many records are in which state
runs.py         which run made what
published.py    the index where readers find it, and their copy of it
"""
