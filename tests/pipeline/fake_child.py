"""A child with a model of no weight, for tests: its numbers follow from the sequence, and some sequences are poison.

Run by a WorkerSpec in place of `python -m foldatlas.pipeline.workers.child`. Every word below is spelled in residues,
one of them D, N, F or V, which the harmless proteins of conftest.py lack. Each batch is appended to the file that
FAKE_CHILD_LOG names, so that a test can count what was folded. It embeds where FAKE_CHILD_EMBEDS is set.
"""

import ctypes
import hashlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foldatlas.folding.models import settings_of
from foldatlas.folding.prediction import Embedding, Prediction, QuantisedPrediction
from foldatlas.pipeline.workers.child import Loaded, Stages, in_one_stage, serve
from foldatlas.pipeline.workers.inherited import connect
from foldatlas.schemas.errors import NonFiniteOutput, OutOfMemory
from foldatlas.schemas.records import num_atoms

sys.path.append(str(Path(__file__).parents[1] / "helpers"))
from quantised import quantised


class FakePredictor:
    spoilt = False

    def __init__(self) -> None:
        self._prepared = 0
        self._another_waits = threading.Event()

    def stages(self) -> Stages:
        """Three stages, of which the first counts."""
        return in_one_stage(self.fold)._replace(prepare=self._prepare)

    def _prepare(self, sequences: Sequence[str], **outputs: bool) -> tuple[Sequence[str], dict[str, bool]]:
        self._prepared += 1
        if self._prepared > 1:
            self._another_waits.set()
        return sequences, outputs

    def fold(self, sequences: Sequence[str], **outputs: bool) -> list[QuantisedPrediction]:
        return [quantised(prediction) for prediction in self.predict(sequences, **outputs)]

    def predict(
        self,
        sequences: Sequence[str],
        *,
        mean_embedding: bool = False,
        residue_embedding: bool = False,
        pae: bool = False,
    ) -> list[Prediction]:
        log = os.environ.get("FAKE_CHILD_LOG")
        if log:
            with open(log, "a") as file:
                file.write(" ".join(sequences) + "\n")
        time.sleep(float(os.environ.get("FAKE_CHILD_SECONDS", "0")))
        for sequence in sequences:
            if "DEAD" in sequence:
                os._exit(3)
            if "SEGV" in sequence:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "HANG" in sequence:
                time.sleep(3600)
            if "FREEZE" in sequence:
                os.kill(os.getpid(), signal.SIGSTOP)
            if "VISE" in sequence:
                ctypes.PyDLL(None).sleep(3600)  # as native code that hangs and holds the interpreter's lock
            if "KILLED" in sequence:
                os.kill(os.getpid(), signal.SIGKILL)
            if "PARENT" in sequence:  # what no fault of ours can be, a worker that dies with its child
                os.kill(os.getppid(), signal.SIGKILL)
                time.sleep(3600)
            once = os.environ.get("FAKE_CHILD_ONCE")
            if "WAITED" in sequence and once and not os.path.exists(once):  # dies once, when another batch waits
                open(once, "w").close()
                self._another_waits.wait()
                os._exit(3)
            if "NAN" in sequence:
                raise NonFiniteOutput("positions are not finite")
            if "SPLINTER" in sequence:
                self.spoilt = True  # as a GPU is after an illegal address, until its process ends
            if self.spoilt:
                raise RuntimeError("CUDA error: an illegal memory access was encountered")
            if "FAIL" in sequence:
                raise ValueError("a fault\nof two lines")
        if sum(map(len, sequences)) > int(os.environ.get("FAKE_CHILD_MEMORY", "1000000")):
            raise OutOfMemory(f"{len(sequences)} proteins do not fit")
        return [self._predict(sequence, mean_embedding, residue_embedding, pae) for sequence in sequences]

    def embed(self, sequences: Sequence[str], *, layers: Sequence[int], per_residue: bool = False) -> list[Embedding]:
        return [
            Embedding(
                prediction.sequence,
                dict.fromkeys(layers, prediction.mean_embedding),
                dict.fromkeys(layers, prediction.residue_embedding) if per_residue else None,
            )
            for prediction in self.predict(sequences, mean_embedding=True, residue_embedding=True)
        ]

    def _predict(self, sequence: str, mean_embedding: bool, residue_embedding: bool, pae: bool) -> Prediction:
        length = len(sequence)
        seed = int.from_bytes(hashlib.md5(sequence.encode()).digest()[:8], "little")
        random = np.random.default_rng(seed)
        positions = random.normal(scale=15.0, size=(num_atoms(sequence), 3)).astype(np.float32)
        plddt, ptm = random.uniform(0, 100, length).astype(np.float32), float(random.uniform())
        mean = random.normal(size=8).astype(np.float32)
        residues = random.normal(size=(length, 8)).astype(np.float32)
        errors = random.uniform(0.25, 31.75, (length, length)).astype(np.float32)
        return Prediction(
            sequence=sequence,
            positions=positions,
            plddt=plddt,
            ptm=ptm,
            # drawn whether asked for or not, so that no number depends on what is asked for
            mean_embedding=mean if mean_embedding else None,
            residue_embedding=residues if residue_embedding else None,
            pae=errors if pae else None,
        )


def load() -> Loaded:
    time.sleep(float(os.environ.get("FAKE_CHILD_LOADS", "0")))
    reason = os.environ.get("FAKE_CHILD_REFUSES")
    if reason:
        raise OSError(reason)
    print("a library that prints must not disturb the conversation")
    fake = FakePredictor()
    return settings_of("nano"), in_one_stage(fake.embed) if os.environ.get("FAKE_CHILD_EMBEDS") else fake.stages()


if __name__ == "__main__":
    connection, _ = connect(sys.argv[1:])
    serve(connection, load, float(os.environ.get("FAKE_CHILD_IDLE", "600")))
