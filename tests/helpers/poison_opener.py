"""An opener of structure files that ends its process at one of them, as a crash of native code would."""

import os
import signal
from collections.abc import Iterable

from foldatlas.atlas.reference.read import Found, Member
from foldatlas.pipeline.sources.structure_files import open_structures


def opened(found: Found) -> Iterable[Member]:
    if found.source.endswith("poison.pdb"):
        os.kill(os.getpid(), signal.SIGKILL)
    return open_structures(found)
