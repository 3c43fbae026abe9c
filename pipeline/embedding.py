"""FASTA -> one Parquet file of embeddings, by the language model alone. There are no shards and no atlas: the file is
written completely or not at all.

Records are read in windows, and each window's distinct sequences embedded shortest first, so that batches hold little
padding; rows keep the order of the sources.

A protein that cannot be embedded has a row with the reason, and no other is affected: the model runs in a supervised
process (workers/supervisor.py), and a batch that fails, or kills that process, is halved until the protein at fault is
found (shards/bisection.py).
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.atlas.parquet.files import ParquetFile
from foldatlas.atlas.parquet.matrices import flat_lists, half_precision
from foldatlas.atlas.storage.commit import files_of_dead_processes
from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.planning.cost import language_mflop
from foldatlas.folding.prediction import Embedding
from foldatlas.pipeline.interruption import interruptible, raise_if_stopping
from foldatlas.pipeline.shards.bisection import Failed, fold_with_bisection
from foldatlas.pipeline.sources.accepted import accepted
from foldatlas.pipeline.sources.find import SourceFile, find_sources
from foldatlas.pipeline.sources.pipes import Spool
from foldatlas.pipeline.sources.validation import Record
from foldatlas.pipeline.workers.supervisor import WorkerSpec, child_of_this_process, end_children
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import EMBEDDED
from foldatlas.schemas.wording import counted

# In memory at once: hidden states of this many residues, and a row group of the file.
WINDOW_RESIDUES: Final = 1 << 14
# Tokens of a padded batch. One protein occupies a CPU; a GPU needs some milliseconds of work for each kernel.
BATCH_TOKENS: Final = {"cpu": 1 << 11, "cuda": 1 << 14}

# The program of a WorkerSpec that embeds.
CHILD: Final = (sys.executable, "-P", "-m", "foldatlas.pipeline.workers.embedding_child")

Embed = Callable[[list[str]], list[Embedding]]  # of a batch; raises as supervisor.Child.compute does


@dataclass
class Embedded:
    """Counts of records: `rows` written, of which `failed` hold a reason (`first_error`), and `refused` by reason."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    failed: int = 0
    first_error: str | None = None

    def line(self) -> str:
        """Return a summary: `60 records: 58 embedded, 2 refused (2 digit), 0 failed`."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.refused.items()))
        refused = f"{self.refused.total():,} refused" + (f" ({reasons})" if reasons else "")
        embedded = f"{self.rows - self.failed:,} embedded"
        return f"{counted(self.rows + self.refused.total(), 'record')}: {embedded}, {refused}, {self.failed:,} failed"

    def note(self, record: Record, embedding: Embedding | str) -> None:
        """Count a row."""
        self.rows += 1
        if isinstance(embedding, str):
            self.failed += 1
            self.first_error = self.first_error or f"{record.id}: {embedding}"


def embed_fasta(
    names: Sequence[str],
    out: Path,
    worker: WorkerSpec,
    config: LanguageModelConfig,
    *,
    layer: int,
    per_residue: bool,
) -> Embedded:
    """Write the table `schemas.tables.EMBEDDED` of every accepted record of FASTA files to `out`.

    `worker` has the language model, whose sizes are `config`; `layer` counts from 0, the embedding of tokens. A protein
    that does not fit into memory alone, that kills the process, or whose states are not finite, has a row with the
    reason. Raise SourceError for a file that is missing, not FASTA or damaged, UsageError where `out` exists,
    ModelError for a model that cannot be loaded, Interrupted when asked to stop; nothing is written then.
    """
    refuse_existing(out)
    with Spool() as spool:
        sources = find_sources(names, spool=spool)
        return _embed_sources(sources, out, worker, config, layer=layer, per_residue=per_residue)


def _embed_sources(
    sources: Sequence[SourceFile],
    out: Path,
    worker: WorkerSpec,
    config: LanguageModelConfig,
    *,
    layer: int,
    per_residue: bool,
) -> Embedded:
    for leftover in files_of_dead_processes(out.parent):
        if leftover.name.startswith(f".{out.name}."):
            leftover.unlink(missing_ok=True)
    result = Embedded()
    settings, child = worker.settings, child_of_this_process(worker)
    metadata = {name: str(getattr(settings, name)) for name in ("model", "weights", "precision")} | {
        "layer": str(layer)
    }

    def embed(batch: list[str]) -> list[Embedding]:
        raise_if_stopping()
        cost = len(batch) * language_mflop(config, max(map(len, batch)))
        return child.compute(batch, cost, layers=[layer], per_residue=per_residue)

    budget = BATCH_TOKENS[device_kind(worker.device)]
    try:
        with (
            interruptible("run the same command again to start over"),
            ParquetFile(out.parent, out.name, "embedded", metadata=metadata, schema=EMBEDDED) as file,
        ):
            for source in sources:
                for window in _windows(source, result.refused):
                    embeddings = _embed(embed, child.renew, [record.sequence or "" for record in window], layer, budget)
                    found = [embeddings[record.sequence or ""] for record in window]
                    file.write(_to_table(source, window, found, layer))
                    for record, embedding in zip(window, found, strict=True):
                        result.note(record, embedding)
            raise_if_stopping()
    finally:
        end_children()
    return result


def refuse_existing(out: Path) -> None:
    """Raise UsageError where `out` exists or its folder does not."""
    if out.exists():
        raise UsageError(f"{out} exists: give a new file")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent}: no such folder; make it first, or give another")


def _windows(source: SourceFile, refused: Counter[str]) -> Iterator[list[Record]]:
    """Yield accepted records of a source, WINDOW_RESIDUES or one protein at a time. Count the others in `refused`."""
    window: list[Record] = []
    for record in accepted(source, refused):
        window.append(record)
        if sum(record.length for record in window) >= WINDOW_RESIDUES:
            yield window
            window = []
    if window:
        yield window


def _embed(
    embed: Embed, renew: Callable[[], bool], sequences: Sequence[str], layer: int, budget: int
) -> dict[str, Embedding | str]:
    """Return the embedding of each distinct sequence, or why it failed, computed in batches of `budget` tokens."""
    ascending = sorted(set(sequences), key=lambda sequence: (len(sequence), sequence))
    batches: list[list[str]] = []
    for sequence in ascending:
        if not batches or (len(batches[-1]) + 1) * (len(sequence) + 2) > budget:
            batches.append([])
        batches[-1].append(sequence)
    results = [result for batch in batches for result in fold_with_bisection(embed, batch, renew=renew)]
    return {
        result.sequence: result.error if isinstance(result, Failed) else _storable(result, layer) for result in results
    }


def _storable(embedding: Embedding, layer: int) -> Embedding | str:
    """Return `embedding`, or why the file cannot hold it: states of inner layers may exceed half precision."""
    if embedding.residues is not None:
        try:
            half_precision([structure_id(embedding.sequence)], [embedding.residues[layer]])
        except ValueError as error:
            return f"{error}: omit --per-residue"
    return embedding


def _to_table(source: SourceFile, window: list[Record], found: list[Embedding | str], layer: int) -> pa.Table:
    identities = [record.structure_id or b"" for record in window]
    means: list[npt.NDArray[np.float32] | None] = []
    residues: list[npt.NDArray[np.float16] | None] = []
    for identity, embedding in zip(identities, found, strict=True):
        states = None if isinstance(embedding, str) else embedding.residues
        means.append(None if isinstance(embedding, str) else embedding.mean[layer])
        residues.append(None if states is None else half_precision([identity], [states[layer]])[0])
    columns = {
        "source": pa.array([source.uri] * len(window), pa.string()),
        "offset": pa.array([record.offset for record in window], pa.int64()),
        "id": pa.array([record.id for record in window], pa.string()),
        "structure_id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(identities, pa.binary(16))),
        "length": pa.array([record.length for record in window], pa.int32()),
        "mean": flat_lists(means, EMBEDDED.field("mean").type),
        "residues": flat_lists(residues, EMBEDDED.field("residues").type),
        "error": pa.array([None if isinstance(one, Embedding) else one for one in found], pa.string()),
    }
    return pa.table(columns, schema=EMBEDDED)
