"""Searching an atlas: by sequence, by structure and by embedding, each search in a process of its own.

documents.py   what a search database has: segments, and which files of the atlas they cover
build.py       build the search database of an atlas, or bring it up to date
segments.py    the mapped arrays of a segment
requests.py    a search and its messages between the server and the process
sequences.py   the structures of similar sequence (MMseqs2)
structures.py  the structures of greatest TM-score
embeddings.py  the structures of nearest embedding
worker.py      the program that runs one search
processes.py   the server's side of this program
results.py     hits with what the index has of each
jobs.py        the queue of searches and their results
"""
