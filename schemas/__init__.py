"""Definitions of the data: records, tables, the manifest, and the exceptions.

Every other folder may import this one; this one imports none of them.

records.py      residues, atoms, outcomes, settings, structure ids
tables.py       the columns of every Parquet table, with meaning, unit and range
formats.py      the schemas of tables by the format of an atlas
import_tables.py  the columns of files that an import stages
reference_tables.py  the columns and documents of reference databases
cluster_tables.py  the columns of clusters
projection_tables.py  the columns of maps
manifest.py     JSON documents: header, plans, manifest entries
novelty_tables.py  the columns of search runs: hits, members, targets
stages.py       JSON documents of derived stages: novelty, clusters, projections
annotations.py  documents of tables that users join to an atlas
sql_functions.py  macros and functions in SQL, with their meaning
sql_names.py    meanings of tables and columns of the index, and what columns are called elsewhere
errors.py       exceptions and their exit codes
wording.py      numbers, bytes and times in messages
version.py      the version of this program
"""
