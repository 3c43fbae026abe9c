"""What the networks learn from.

crops.py                what each step sees of which experimental chain
corpus.py               sequences as tokens, by clusters; some held out
sampling.py             which sequences a batch holds
masking.py              which residues are hidden
packing.py              sequences into passes, without padding
nano_data.py            which sequences `nano` learns from, and which are held out (no torch)
sequence_search.py      MMseqs2, as a program of its own (no torch)
make_nano_data.py       runs the searches and writes the files (no torch)
"""
