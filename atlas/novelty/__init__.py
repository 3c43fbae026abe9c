"""What is new: searches of an atlas against reference databases.

Modules:
    settings.py           settings of a structure search, and their digest
    hits.py               a query of a structure search, and the three results that it can have
    structure_search.py   the known structure of greatest TM-score
    sequence_search.py    the known sequence of greatest identity, by MMseqs2
"""
