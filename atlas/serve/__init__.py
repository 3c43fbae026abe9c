"""Serving an atlas over HTTP: look-ups, pages, structures and downloads, read from the index as it is now.

settings.py   limits, tokens, host names and public features of a server
current.py    the atlas that is served; a new index is opened when it replaces the old one
filters.py    filters of proteins as SQL, and keyset cursors
pages.py      rows of the view `proteins` in the order of structure_id
catalogue.py  proteins by name, by sequence and by filter; clusters; novelty
folds.py      folding on demand: queue, results that expire
letters.py    a sequence as people send it
contents.py   structures, sequences, confidence and embeddings of one protein
protein_page.py   what the page of one protein begins with
verdicts.py   whether a protein's fold is known, and why
nearest_known.py  the nearest known structure in the frame of a protein
aligned_errors.py  predicted aligned errors as bytes
downloads.py  filtered downloads: tar, Parquet and the manifest, as streams
pieces.py     a file that is only written, taken in pieces
explore/      what the explorer asks: counts, histograms, maps, a table in any order
search/       searches by sequence, structure and embedding
cage/         SQL of strangers in confined processes
http/         the FastAPI application, its protections, and the uvicorn server
"""
