"""Shards -> structures and manifest entries.

run.py          all shards of an atlas: rounds, reconciliation, resume
fold.py         one shard: sequences -> structures -> a manifest entry
retry.py        failed proteins of a committed shard, taken up again
writer.py       a shard's tables while it is folded
bisection.py    a batch that fails, halved down to the guilty protein
outputs.py      what folding gives on request
"""
