"""Verification of an atlas.

atlas.py    every listed file, then every row
shard.py    contents of a shard's files
stages.py   documents of stage runs, and the files that they list
novelty.py  search runs: rows, and a sample of hits computed again
tables.py   checks that need all files at once: records, scores, the index
geometry.py unusual geometry, and PDB files of a sample read again
annotations.py  tables of users
clusters.py contents of member maps
fault.py    a fault and its next step
repair.py   what is made again or dropped
derived_tables.py  records and sequences of an import, made again
correction.py  a flipped bit of a document
digests.py  documents without a digest of themselves
"""
