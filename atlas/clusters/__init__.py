"""Clusters of the proteins of an atlas, by sequence and by structure.

Modules:
    linclust.py         clusters by sequence, by MMseqs2, and the identity of each member to its centre
    descriptors.py      some numbers per chain, similar for chains of one fold
    pairs.py            find pairs of structures: candidates, checked by TM-score
    set_cover.py        pairs -> clusters, most neighbours first
    alignments.py       align members with the centres of their clusters by structure
    representatives.py  the member of a cluster with the greatest confidence
    structures.py       structures of an atlas: sequences, C-alphas, 3Di states
    member_map.py       clusters -> the table of members
    results.py          runs of clustering: their shards, their tables, what a new run takes over
    forecast.py         predict time, memory and disk
"""
