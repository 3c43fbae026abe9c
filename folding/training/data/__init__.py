"""Training data.

crops.py                sampling of chains and crops for the folding head
corpus.py               sequences as tokens, by cluster, with held-out clusters
sampling.py             sampling of sequences for the language model
masking.py              masking of residues
packing.py              division of sequences into passes without padding
nano_data.py            selection and splits of `nano`'s training data (no torch)
sequence_search.py      running the program MMseqs2 (no torch)
make_nano_data.py       command that makes `nano`'s training data (no torch)
"""
