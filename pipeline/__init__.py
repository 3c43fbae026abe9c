"""From FASTA or structure files to an atlas, for any number of proteins. The only folder that imports Beam.

embedding.py        FASTA -> a Parquet file of embeddings, without folding
clustering.py       an atlas -> clusters by sequence and by structure
staging.py          files that tasks write for the driver
interruption.py     one flag, set by SIGINT, SIGTERM or a fatal error, that ends the run between batches
progress.py         the progress bar
events.py           the log for programs
shard_work.py       events and errors of the work on one shard

sources/            input files: find, read, decompress, parse, validate
planning/           sources -> a committed plan of shards
importing/          structure files -> staged chunks, a plan, and shards
shards/             shards -> structures and manifest entries
stages/             shards of derived stages (novelty, clusters) -> their tables
search/             search of an atlas's structures against a reference
workers/            processes that own a device
engines/            the Beam graph, and the engines that run it

Old names, for one release:
    dask_preload.py     engines/dask/preload.py
    dask_keys.py        engines/dask/keys.py
"""
