"""How many proteins get from FASTA into an atlas. The only home of Beam.

embedding.py        FASTA -> a Parquet file of embeddings, without folding
clustering.py       an atlas -> clusters by sequence and by structure
staging.py          where tasks leave what the driver takes up
interruption.py     SIGINT, SIGTERM and the preemption of a machine, as one question that work asks
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
