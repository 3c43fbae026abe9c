"""Weights: found, opened, fitted into a network, written.

model_files.py      names and paths -> files (no torch)
published.py        released models and the names of their files (no torch)
hub.py              the hub's cache; fetching (no torch)
tensor_names.py     published names of tensors -> ours
pickles.py          files of torch.save, read without running code
checkpoints.py      files -> sizes and mapped tensors
foreign.py          other models and files that are not weights, named (no torch)
fitting.py          strict fitting, digests, our own files
nano.py             the embedded model, nano.safetensors
untrained.py        weights generated instead of learnt
atomic_files.py      files that appear whole or not at all (no torch)
"""
