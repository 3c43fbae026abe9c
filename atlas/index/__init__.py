"""The index of an atlas: `atlas.duckdb`, built from the Parquet files that plans and manifest list.

build.py        building the index, or bringing it up to date
update.py       continuing a published index with what is new
state.py        what a published index was built from
files.py        the files to read, and SQL that reads them
structures.py   the tables of structures: scores, copies, failures
records.py      the tables of records and of their titles
ranges.py       ranges of structure_id, by which large tables are joined
low_confidence.py  residues of low pLDDT, counted from stored structures
contents.py     the digest of what an index was built from, and whether it is stale
novelty.py      tables of search runs: runs, hits, targets
clusters.py     the latest clusters: columns of structures, table and views
provenance.py   origin of imported structures: provenance, and columns of scores
projection.py   the latest map: a table of positions, and its runs
annotations.py  tables and views of annotations
views.py        the columns of `proteins`, and the views on top of it
lineage.py      which versions of sources are current
needed.py       which sequences a present record has
changes.py      which ids a new version of a source adds and removes
counts.py       how many records are in which state
runs.py         which run wrote each file and folded each structure
published.py    the published index, and local copies of it
"""
