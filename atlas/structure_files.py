"""The structure files FoldAtlas writes, by format: text of one structure, from the atlas or from the network.

Each takes a structure (`chains.Structure`: StoredStructure, Prediction) with its name, model and scores.
"""

from collections.abc import Callable
from typing import Final

from foldatlas.atlas.cif_files import cif_text
from foldatlas.atlas.pdb_files import pdb_text

WRITERS: Final[dict[str, Callable[..., str]]] = {"pdb": pdb_text, "cif": cif_text}
