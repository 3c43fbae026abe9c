"""Derived stages: runs that compute tables from an atlas's structures, each in a folder of its own.

run.py      one run: its documents, its files, what is missing
runs.py     all runs of an atlas: which there are, which is the latest, sweeping
"""
