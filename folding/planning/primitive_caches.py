"""Bounds on what torch's CPU kernels keep for each shape of their inputs.

oneDNN keeps the primitives it compiled for the last 1,024 shapes (ONEDNN_PRIMITIVE_CACHE_CAPACITY), and torch's layer
above it (ideep) keeps as many of its own that share them (LRU_CACHE_CAPACITY). Each takes about 0.65 MB, and every
length of protein has some 40 shapes, so that proteins of many lengths fill 650 MB whatever their size. Compiling a
primitive takes 0.1 ms: 4 ms for a length that was not seen before. See docs/decisions/0023-memory-of-a-worker.md.

Both capacities are read from the environment at the first product, after torch is imported, and torch has no call to
change them. So they are set when this package's linear layers are imported, and hold unless the caller's process has
already used oneDNN; what the user set in the environment stays.
"""

import os
from typing import Final

# The shapes of one block fit, so that blocks share them; all of a length are 41 for nano. 64 took 20 MB more.
CAPACITIES: Final = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "32", "LRU_CACHE_CAPACITY": "1"}
# oneDNN reads its older name where the newer is not set: a user may have set that.
_OLDER_NAME: Final = "DNNL_PRIMITIVE_CACHE_CAPACITY"


def bound() -> None:
    """Set the capacities for this process and those that it starts, except any that is set already."""
    for name, capacity in CAPACITIES.items():
        if name.startswith("ONEDNN_") and _OLDER_NAME in os.environ:
            continue
        os.environ.setdefault(name, capacity)
