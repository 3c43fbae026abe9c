"""What is new: searches of an atlas against reference databases.

Modules:
    settings.py           settings of a structure search, and their digest
    hits.py               a query of a structure search, and the three results that it can have
    structure_search.py   the known structure of greatest TM-score
    sequence_search.py    the known sequence of greatest identity, by MMseqs2
    search_run.py         what a search run says of itself, and which runs an atlas has
    planning.py           which structures a run searches, and which rows it takes over
    rows.py               results as rows of a run's files
    stored_hits.py        rows and targets of a run by structure and name
    union.py              the searches of merged atlases as one
    targets.py            the best hits' entries, stored with the run
"""
