"""Derived stages: runs that compute tables from an atlas's structures, each in a separate folder.

run.py      one run: its documents, its files, what is missing
runs.py     all runs of an atlas: list, find the latest, sweep
"""
