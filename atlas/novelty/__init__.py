"""Novelty: which known structure each structure resembles most, by TM-score.

Modules:
    settings.py           how a search is done, and the digest of that
    hits.py               a query, and the three results that it can have
    structure_search.py   queries against a reference database: the best hit of each
"""
