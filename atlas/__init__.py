"""What people ask of an atlas: planning, the index, SQL, export, verification. The only home of duckdb.

folder.py       an atlas: header, plans, manifest
accounting.py   what became of every record
client.py       a client of `foldatlas serve`; imports no other module of this folder
reader.py       an atlas, opened for reading: SQL, structures, records by name
status.py       how far an atlas is
merge.py        several atlases into a new one

storage/        where an atlas is kept, and files that appear whole or not at all
web/            JavaScript that pages carry
parquet/        Parquet files, and structures and matrices as they are stored
stages/         runs of derived stages (novelty, clusters, projections), each in a separate folder
macros/         structures in SQL: macros that the index stores, functions of the program
sql/            one statement that reads, and its rows as table, csv, json, jsonl or parquet
planning/       staged records -> what is new, in which order
index/          listed Parquet files -> atlas.duckdb
forecast/       how fast devices are, and what folding will take
verify/         whether an atlas is whole
diff/           what differs between two atlases
writers/        files of one structure: PDB, mmCIF, Foldcomp
export/         subsets as files: of structures, tar bundles, FASTA, 3Di, Parquet
serve/          an atlas over HTTP
reference/      reference databases: known structures and sequences, for novelty
report/         one HTML page about an atlas
importing/      structures that exist already, read from files of other programs
annotations/    tables of users that are joined to an atlas
clusters/       clusters by sequence and by structure
novelty/        searches of an atlas against reference databases
projection/     a map: structures in two dimensions, and its files for other programs

Old names, for one release:
    open.py             reader.py
    matrices.py         parquet/matrices.py
    structure_files.py  writers/structure_files.py
"""
