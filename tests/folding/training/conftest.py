"""What tests of training share: sequences, clusters, and the command in a process of its own."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

LETTERS = list("ACDEFGHIKLMNPQRSTVWY")


@pytest.fixture(scope="session")
def sequences() -> list[str]:
    """24 sequences of 20 to 120 residues."""
    generator = np.random.default_rng(5)
    return ["".join(generator.choice(LETTERS, length)) for length in generator.integers(20, 121, 24)]


@pytest.fixture(scope="session")
def fasta(sequences: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sequences, as p0 to p23."""
    path = tmp_path_factory.mktemp("sequences") / "proteins.fasta"
    path.write_text("".join(f">p{number}\n{sequence}\n" for number, sequence in enumerate(sequences)))
    return path


@pytest.fixture(scope="session")
def start() -> Callable[..., subprocess.Popen[str]]:
    """A function: `foldatlas train ...` in a process of its own, or in several under torchrun."""

    def start(*arguments: object, processes: int = 1) -> "subprocess.Popen[str]":
        python = [sys.executable, "-m"]
        if processes > 1:
            python += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
        command = [*python, "foldatlas.jobs.cli", "train", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start
