"""Structure files -> an atlas: read into staged chunks, planned, and copied into shards.

options.py      how files are read, in every worker
sources.py      folders, archives and files that are imported, as they were found
esm_table.py    proteins of a table of ESM Atlas v1, as files
ids.py          the id of a file, by its name, a pattern, or what it states
beside.py       the JSON file of confidence beside a structure
gathered.py     the JSON files of an archive, copied before its structures are read
rows.py         a file -> a row of its outcome, and its structure
reader.py       the worker's side: gives tasks to a process that reads files, and replaces it after a crash
messages.py     what the two send each other
child.py        the process that reads files, apart from the worker, since native code may crash
reading.py      the files of a chunk -> staged Parquet and a note
staged_chunk.py structures and PAE of a chunk, as Parquet
staging.py      where chunks are staged, and which are complete
planning.py     staged chunks -> a committed plan of shards
shards.py       one shard: rows of staged chunks -> structures and a manifest entry
lost.py         shards that a repair dropped
run.py          all steps of an import
"""
