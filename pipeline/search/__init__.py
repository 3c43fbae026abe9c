"""Searching an atlas's structures against a reference: the runs of novelty.

run.py      plan a search run, search its missing shards, mark it as complete
shard.py    one shard: structures in, rows of hits out
workers.py  what a machine must have to search: the program, the CPU, the memory
"""
