"""Sources -> a committed plan of shards.

planner.py      the steps of planning, from sources to a plan
versions.py     new versions of sources: what they supersede, and warnings
ingest.py       a range of a source -> a staging Parquet file
again.py        tables of a committed plan, made again from its sources
cut.py          where to cut a sorted list of proteins into shards
costs.py        predicted operations, time and bytes of a protein
selection.py    the shards of one run, where several runs share the work
"""
