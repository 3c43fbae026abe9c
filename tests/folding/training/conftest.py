"""What tests of training share: sequences, clusters, and the command in a process of its own."""

import random
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
def start() -> Callable[..., tuple[int, str]]:
    """A function: `foldatlas train ...` in a process of its own, or in several under torchrun, to its end; the exit
    code, and what it said.

    `signalled` is a signal that the process sends itself, at which call of which function (helpers/signalled.py).
    """

    def start(*arguments: object, processes: int = 1, signalled: tuple[str, str, int] | None = None) -> tuple[int, str]:
        program: list[object] = ["-m", "foldatlas.jobs.cli"]
        if signalled is not None:
            program = [Path(__file__).parents[2] / "helpers" / "signalled.py", *signalled]
        if processes > 1:
            program = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes, *program]
        command = [sys.executable, *map(str, (*program, "train", *arguments))]
        # Half an hour: how long a machine takes that does other work too says nothing.
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800)
        return done.returncode, done.stdout

    return start


@pytest.fixture
def somewhere(request: pytest.FixtureRequest) -> tuple[str, int]:
    """A place at random where a run of eight steps or more, saved after each second at least, can be killed: in a
    step, before a step is logged, or in the midst of a checkpoint. For `signalled`."""
    folding = "foldatlas.folding"
    dice = random.Random(request.node.name)  # the same place each time, so that a failure can be had again
    place, most = dice.choice(
        [
            (f"{folding}.training.optimisers:Optimiser.step", 8),
            (f"{folding}.training.metrics:Metrics.log", 8),
            (f"{folding}.atomic_files:sync", 15),  # five for each checkpoint
        ]
    )
    return place, dice.randint(1, most)
