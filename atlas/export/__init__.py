"""Subsets of an atlas as files.

subset.py           writing a subset to a folder or a store, chunk by chunk
lists.py            the files beside the chunks: lists, licences, digests
formats.py          names of the formats, without importing DuckDB
selection.py        which records a condition, a query or a file of ids selects
id_files.py         reading ids from a list or from the output of query
file_names.py       safe and distinct file names from ids
destination.py      where an export is written, and what is left of a killed one
journal.py          a document per finished chunk
chunks.py           the selection divided at row groups
chunk_writers.py    the files of a chunk
processes.py        chunks in several processes
bundles.py          tar bundles by pTM and pLDDT
subset_atlas.py     a Parquet export as an atlas
subset_stages.py    its clusters, searches and map
text_file.py        a list, written line by line
credits.py          LICENCE and CITATION.bib
fasta_files.py      FASTA text
three_di_files.py   3Di states as text
"""
