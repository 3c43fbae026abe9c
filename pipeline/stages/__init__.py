"""Shards of derived stages (novelty, clusters) -> their files and manifest entries.

run.py      all missing shards of a run, through the one Beam graph
shard.py    one shard: look, compute, commit
"""
