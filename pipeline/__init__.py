"""From FASTA files to an atlas, for any number of proteins. The only folder that imports Beam.

embedding.py        FASTA -> a Parquet file of embeddings, without folding
clustering.py       an atlas -> clusters by sequence and by structure
staging.py          where tasks leave files for the driver
interruption.py     SIGINT, SIGTERM and fatal errors, as one flag that ends the run between batches
progress.py         the progress bar
events.py           the log for programs

sources/            input files: found, read, decompressed, parsed, validated
planning/           sources -> a committed plan of shards
shards/             shards -> structures and manifest entries
stages/             shards of derived stages (novelty, clusters) -> their tables
search/             searching an atlas's structures against a reference
workers/            processes that own a device
engines/            the Beam graph, and the engines that run it

Old names, for one release:
    dask_preload.py     engines/dask/preload.py
    dask_keys.py        engines/dask/keys.py
"""
