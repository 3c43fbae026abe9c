"""Reference databases: the known structures and sequences that novelty is searched against.

Modules:
    reader.py      an open database: mapped arrays, names, versions, MMseqs2 databases
    folder.py      the files of a database, its lock and its committed versions
    chains.py      chains of PDB and mmCIF text
    encode.py      3Di states and secondary structure of a backbone
    read.py        reading files into staged chains, by several processes, resumable
    identical.py   chains with the same sequence and nearly the same coordinates
    content.py     what the next version of a database of structures contains
    build.py       the next version of a database of structures, from staged chains
    version.py     writing the files of one version
    sequences.py   the next version of a database of sequences, from FASTA records
    from_atlas.py  the structures of an atlas as chains
    mmseqs2.py     writing MMseqs2 databases, and running the program
    demo/          the demo reference, to try the search (benchmarks/make_demo_reference.py builds it)
"""
