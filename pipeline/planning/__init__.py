"""Sources -> a committed plan of shards.

planner.py      the steps of planning, from sources to a plan
ingest.py       a range of a source -> a staging Parquet file
cut.py          where to cut a sorted list of proteins into shards
costs.py        what a protein is taken to cost
selection.py    which shards a run takes, where several share the work
"""
