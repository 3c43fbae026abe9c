"""Whether an atlas is whole.

atlas.py    every listed file, then every row
shard.py    what a shard's files hold
novelty.py  search runs: rows, and a sample of hits computed again
stages.py   runs of derived stages: documents, and the files that they list
tables.py   checks that need all files at once: records, scores, the index
fault.py    a fault, and what to do about it
"""
