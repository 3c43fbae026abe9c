"""What is new: searches of an atlas against reference databases.

Modules:
    sequence_search.py   the known sequence of greatest identity, by MMseqs2
"""
