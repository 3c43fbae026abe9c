"""Input files: found, read, decompressed, parsed and validated.

find.py                 the files a person named: found, checked, cut into ranges
remote.py               files at http(s)://, s3:// and gs://, read once from end to end
stores.py               the servers that hold them
pipes.py                standard input and pipes, copied to be read like files
file_kinds.py           what a file is, by its first bytes
compression.py          gzip, zstd, bzip2 and xz as streams
fasta.py                FASTA text cut into records, by byte range, in bounded memory
headers.py              what a header says: id, description, MGnify's number
genbank.py              GenBank entries and their coding sequences
contigs.py              contigs -> proteins of their genes (Prodigal)
nucleotides.py          nucleotides or a protein, by letters and by the file
validation.py           a record accepted, or refused with a reason
block_validation.py     the same for a block of records at once
read_counts.py          what is counted while a source is read
record_stream.py        the checked records of a source, whatever its format
accepted.py             the usable records of a file, where no atlas is made
cluster_table.py        tables of sequences' clusters
structure_files.py      structure files in folders, buckets and archives
download.py             public archives of structures, fetched resumably
"""
