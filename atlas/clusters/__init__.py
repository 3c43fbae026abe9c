"""Clusters of the proteins of an atlas, by sequence and by structure.

Modules:
    linclust.py         clusters by sequence, by MMseqs2, and each member's identity to its centre
    descriptors.py      a few numbers per chain, similar for chains of one fold
    pairs.py            which structures are of one fold: candidates, checked by TM-score
    set_cover.py        pairs -> clusters, most neighbours first
    representatives.py  the member of a cluster that is shown: the one of greatest confidence
    structures.py       which structures an atlas has, their sequences, their C-alphas and 3Di states
    member_map.py       clusters -> the table of members
    results.py          runs of clustering that an atlas has, and what a new one takes over
    forecast.py         what clustering an atlas takes: time, memory, disk
"""
