"""Reference databases: the known structures and sequences that novelty is searched against.

Modules:
    reader.py      an open database: mapped arrays, names, versions, MMseqs2 databases
    folder.py      where the files of a database are, its lock, its committed versions
    chains.py      PDB and mmCIF text -> chains
    encode.py      backbone -> 3Di states and secondary structure
    read.py        files -> staged chains, on several processes; resumable
    identical.py   which chains have the same sequence and nearly the same coordinates
    build.py       staged chains -> the next version of a database of structures
    version.py     writing the files of one version
    sequences.py   FASTA records -> the next version of a database of sequences
    from_atlas.py  the structures of an atlas as chains
    mmseqs2.py     MMseqs2 databases written directly, and the program itself
    demo/          the demo reference (benchmarks/make_demo_reference.py makes it), to try the search out
"""
