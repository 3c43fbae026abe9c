"""Weights: finding and opening files, loading into a network, writing.

model_files.py      model names and paths to files (no torch)
published.py        published models and the names of their files (no torch)
hub.py              the cache of Hugging Face's hub, and downloads (no torch)
tensor_names.py     published tensor names to ours
pickles.py          reading files of torch.save without running code
checkpoints.py      files to sizes and memory-mapped tensors
foreign.py          errors for other models and files that are not weights (no torch)
fitting.py          strict loading into a network, digests, our file format
nano.py             the embedded model, nano.safetensors
untrained.py        generated weights of an untrained network
atomic_files.py     atomic writes (no torch)
"""
