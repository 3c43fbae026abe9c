"""The `foldatlas` command: one parser for each command, errors in one line, exit codes for scripts.

0 complete; 1 unexpected error; 2 wrong usage or input, nothing changed; 3 structures failed or faults found (with
--strict also refused records); 130 and 143 interrupted. Results go to stdout, messages and progress to stderr.
"""

import argparse
import importlib
import io
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any, Final, TextIO

from foldatlas.jobs.arguments import say
from foldatlas.schemas.errors import FoldAtlasError
from foldatlas.schemas.version import program_version

COMMANDS: Final = {
    "fold": "fold all proteins of FASTA files into an atlas (the main command)",
    "plan": "read and check FASTA, cut shards and predict time and cost, without folding",
    "import": "build an atlas from structures that exist already: PDB, mmCIF, Foldcomp, archives",
    "weights": "download published weights in advance; --model NAME downloads them when they are missing",
    "status": "show what is folded, what is left, and how long it will take",
    "index": "build the SQL index of an atlas, or bring it up to date",
    "merge": "merge several atlases of equal settings, or parts of one, into a new atlas",
    "cluster": "cluster the proteins of an atlas by sequence and by structure",
    "reference": "build a reference database of known structures or sequences, to search for novelty",
    "novelty": "search structures or sequences of an atlas against a reference database",
    "report": "write one HTML page about an atlas: confidence, novelty, clusters, structures in 3D",
    "project": "map the proteins of an atlas in two dimensions, by embedding or by composition and shape",
    "annotate": "join tables (biome, taxonomy, domains, cross-references) to an atlas",
    "query": "query an atlas with SQL",
    "export": "write a subset of an atlas as PDB, mmCIF, Foldcomp, FASTA, 3Di or Parquet files, or tar bundles",
    "embed": "compute embeddings with the language model, without folding",
    "train": "train a language model on sequences, or a folding head on structures",
    "evaluate": "fold experimental chains and compare models and baselines with experiment",
    "diff": "list what differs between two atlases",
    "verify": "check every file of an atlas against its digests and its plan",
}
MODULES: Final = {"import": "import_"}  # commands whose module has another name: `import` is a word of Python


# commands that pass arguments after `--` to Beam
BEAM_COMMANDS: Final = ("fold", "plan", "import", "novelty", "cluster")
