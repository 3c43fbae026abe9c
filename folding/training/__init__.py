"""How the networks are trained. Nothing here is needed to embed or fold.

What `nano` learns from:
    nano_data.py                    which sequences are taken, held out and left out (no torch)
    sequence_search.py              MMseqs2, as a program of its own (no torch)
    make_nano_data.py               runs the searches and writes the files (no torch)
"""
