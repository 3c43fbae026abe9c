"""Memory and operations, and the batches that follow from them.

cost.py             operations and memory, predicted from lengths (no torch)
batching.py         cutting a sorted list into batches (no torch)
chunks.py           cutting an axis (no torch)
memory.py           free memory of a device
host_memory.py      that of this machine, its container or batch job (no torch)
primitive_caches.py what torch keeps by shape on a CPU, bounded (no torch)
out_of_memory.py    what to say when a batch does not fit
"""
