"""Compile the numeric kernels of structure search before the tests, which otherwise compile them once a process.

    python tests/helpers/compile_kernels.py

Half a minute of one core in a new checkout, some seconds afterwards: a search and a clustering of a small atlas, whose
compiled code stays in the cache of foldatlas.folding.compare.kernels.compilation.
"""

import tempfile
from pathlib import Path

import novelty_atlas

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.jobs.cluster import cluster
from foldatlas.jobs.novelty import novelty

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        atlas, reference = AtlasFolder(Path(folder, "atlas")), Path(folder, "reference")
        novelty_atlas.write_atlas(atlas, novelty_atlas.proteins())
        novelty_atlas.reference(reference)
        novelty(atlas.root, [reference])
        cluster(atlas.root)
