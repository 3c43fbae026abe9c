"""How many proteins get from FASTA into an atlas. The only home of Beam.

structure_sources.py  structure files in folders, buckets and archives
download.py      public archives of structures, fetched resumably
fasta.py         FASTA text cut into records, by byte range, in bounded memory
validation.py    a record accepted, or refused with a reason
sources.py       the files a person named: found, checked, cut into ranges
ingest.py        a range of a source -> a staging Parquet file
planning.py      sources -> a committed plan of shards
shards.py        where to cut a sorted list of proteins
parts.py         which shards a run takes, where several share the work
fold_shard.py    one shard: sequences -> structures -> a manifest entry
bisection.py     a batch that fails, halved down to the guilty protein
retry.py         failed proteins of a committed shard, taken up again
shard_writer.py  a shard's tables while it is folded
outputs.py       what folding gives on request
accepted.py      the usable records of a file, where no atlas is made
cluster_table.py  tables of sequences' clusters
embedding.py     FASTA -> a Parquet file of embeddings, without folding
supervisor.py    the parent's side of the process that owns the device
child.py         that process
portable_options.py  what Prism, Flink, Spark and Dataflow must be told
portable_engine.py   submission to them, and the end of a run
prism_server.py  Beam's program prism, started for one job
dask_keys.py     keys of a Dask cluster that others cannot join
graphs.py        the one Beam graph that everything runs in
folding_run.py   all shards of an atlas: rounds, reconciliation, resume
progress.py      the progress bar
events.py        the log for programs
"""
