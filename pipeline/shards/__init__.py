"""Shards -> structures and manifest entries.

run.py          all shards of an atlas: what is missing, rounds, what was done
goal.py         which shards of an atlas are to be folded, and why
task.py         the descriptor of one shard's work
fold.py         one shard: sequences -> structures -> a manifest entry
attempt.py      one attempt at a shard, and its commit
retry.py        reading and rewriting the failures of a committed shard
batches.py      a shard's sequences, folded in batches
in_flight.py    batches on a device that has the next one waiting
bisection.py    a batch that fails, halved until the protein at fault is found
writer.py       the tables of a shard while it is folded
outputs.py      the optional tables, and the arguments that ask for them
"""
