"""Conversion of staged records to the tables of a plan, in bounded memory.

planned_tables.py   records, sequences and shards of a plan
imported_tables.py  staged rows of imported files -> the tables of a plan
repeated_ids.py     accepted records whose id occurred earlier in their source
length_bands.py     distinct sequences by decreasing length
prefetch.py         computing the next items of a stream in a thread
"""
