"""What people ask of an atlas: planning, the index, SQL, export, verification. The only home of duckdb.

Files:
    commit.py           writing once, or replacing whole: nothing half-written is ever visible
    storage.py          where an atlas is kept: a folder, or
    s3_storage.py       a place on S3            s3_client.py    its client, and patience with it
    packs.py            many documents of a store read at once
    local_work.py       folders of this machine to work in, and local copies of files
    parquet_files.py    Parquet files with their digest
    folder.py           an atlas: header, plans, manifest
    coordinates.py      structures as the integers that are stored
    structures.py       structures read by their place
    matrices.py         aligned errors and hidden states as they are stored

Making:
    planning.py         staged records -> what is new, in which order
    index.py            listed Parquet files -> atlas.duckdb
    published_index.py  the index where readers find it, and their copy of it
    runs.py             which run made what
    views.py            what SQL sees, column by column
    stoppable.py        Ctrl-C during a long statement
    merge.py            several atlases into a new one

Asking:
    open.py             an atlas, opened for reading
    store_dataset.py    Parquet files on a store as a table
    query.py            one statement that reads
    formats.py          its rows as table, csv, json, jsonl, parquet
    find.py             records by id, source:id or structure_id
    accounting.py       what became of every record
    status.py           how far an atlas is, and pace.py how fast

Known structures and sequences:
    reference/          reference databases, for novelty

Giving out and checking:
    export.py           subsets as files         export_names.py    safe file names
    export_formats.py   which formats there are  structure_files.py the writer of each
    chains.py           what the writers take    number_columns.py  numbers as text, whole arrays at a time
    pdb_files.py        PDB text                 cif_files.py       mmCIF text (ModelCIF)
    foldcomp_files.py   Foldcomp files, checked  foldcomp_child.py  the process foldcomp may crash
    verify.py           whether an atlas is whole; verify_shard.py and verify_tables.py its parts, fault.py its words
"""
