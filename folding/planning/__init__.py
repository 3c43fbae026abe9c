"""Prediction of memory and operations, and division of work by them.

cost.py             operations and memory, predicted from lengths (no torch)
batching.py         division of a sorted list of proteins into batches (no torch)
buckets.py          lengths to which batches are padded on a GPU (no torch)
chunks.py           division of a tensor's axis into slices (no torch)
memory.py           free memory of a device
host_memory.py      free memory of this machine, its container or batch job (no torch)
primitive_caches.py limits for torch's caches of compiled CPU kernels (no torch)
out_of_memory.py    the error for a batch that does not fit
"""
