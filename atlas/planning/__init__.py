"""Staged records -> the tables of a plan, out of core.

planned_tables.py   what is repeated, what is new, in which order
repeated_ids.py     accepted records whose id stood in their source before
length_bands.py     sequences by falling length, each once, in bounded memory
prefetch.py         the next items of a stream made while the last ones are used
"""
