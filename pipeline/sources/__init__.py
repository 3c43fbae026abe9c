"""Input files: found, read, decompressed, parsed and validated.

find.py                 the input files: found, checked, cut into ranges
remote.py               files at http(s)://, s3:// and gs://, read once from start to end
stores.py               the servers of such files: addresses, and opening a file
pipes.py                standard input and pipes, copied to files
file_kinds.py           what a file is, by its first bytes
compression.py          gzip, zstd, bzip2 and xz as streams
fasta.py                FASTA text cut into records, by byte range, in bounded memory
headers.py              id, description and further fields of a header
genbank.py              GenBank entries and their coding sequences
contigs.py              contigs -> proteins of their genes (Prodigal)
nucleotides.py          nucleotides or a protein, by the letters and by the file
validation.py           a record accepted, or refused with a reason
block_validation.py     the same for a block of records at once
read_counts.py          what is counted while a source is read
record_stream.py        the checked records of a source of any format
accepted.py             the accepted records of a file, where no atlas is made
cluster_table.py        tables of sequence clusters
structure_files.py      structure files in folders, buckets and archives
download.py             public archives of structures, fetched resumably
"""
