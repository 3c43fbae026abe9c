"""Limits for the caches of compiled kernels that torch keeps on a CPU for each input shape.

oneDNN caches the primitives it compiled for the last 1,024 shapes (ONEDNN_PRIMITIVE_CACHE_CAPACITY), and torch's layer
above it (ideep) caches as many objects that refer to them (LRU_CACHE_CAPACITY). Each takes about 0.65 MB, and each
protein length has about 40 shapes, so that proteins of many lengths fill 650 MB. Compiling a primitive takes 0.1 ms, so
4 ms for a new length. See docs/decisions/0023-memory-of-a-worker.md.

Both capacities are read from the environment at the first product, after torch is imported, and torch has no function
to change them. So they are set when this package's linear layers are imported, which has no effect if the process has
already used oneDNN. Values that the user set are kept.
"""

import os
from typing import Final

# Enough for the shapes of one block, which all blocks share. In bfloat16 a block has 49 to 64 if its last chunk of rows
# is smaller than the others: with 48, each block of 100 residues compiled 30 primitives again, a sixth of its time.
CAPACITIES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "1"}
# oneDNN reads its older name if the newer is not set, and the user may have set that.
_OLDER_NAME: Final = "DNNL_PRIMITIVE_CACHE_CAPACITY"


def limit() -> None:
    """Set the capacities for this process and its children, except those that are already set."""
    for name, capacity in CAPACITIES.items():
        if name.startswith("ONEDNN_") and _OLDER_NAME in os.environ:
            continue
        os.environ.setdefault(name, capacity)
