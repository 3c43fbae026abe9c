"""FASTA -> one Parquet file of embeddings, by the language model alone. No shards and no atlas: a file is written whole
or not at all.

Records are read in windows, and each window's distinct sequences embedded shortest first, so that batches hold little
padding; rows keep the order of the sources.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pyarrow as pa

from foldatlas.atlas.matrices import flat_lists, half_precision
from foldatlas.atlas.parquet_files import ParquetFile
from foldatlas.folding.language_predictor import LanguagePredictor
from foldatlas.folding.prediction import Embedding
from foldatlas.pipeline.accepted import accepted
from foldatlas.pipeline.sources import SourceFile, find_sources
from foldatlas.pipeline.validation import Record
from foldatlas.schemas.errors import OutOfMemory, UsageError
from foldatlas.schemas.tables import EMBEDDED

# What is in memory at once: hidden states of this many residues, and a row group of the file.
WINDOW_RESIDUES: Final = 1 << 14
# Tokens of a padded batch. A CPU is full with one protein; a GPU wants some milliseconds of work for each kernel.
BATCH_TOKENS: Final = {"cpu": 1 << 11, "cuda": 1 << 14}


@dataclass
class Embedded:
    """What became of the records: how many have a row, and how many were refused, by reason."""

    rows: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        """One line for people: `60 records: 58 embedded, 2 refused (2 digit)`."""
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(self.refused.items()))
        refused = f"{self.refused.total():,} refused" + (f" ({reasons})" if reasons else "")
        return f"{self.rows + self.refused.total():,} records: {self.rows:,} embedded, {refused}"


def embed_fasta(
    names: Sequence[str],
    out: Path,
    language: LanguagePredictor,
    *,
    layer: int,
    per_residue: bool,
    metadata: dict[str, str],
) -> Embedded:
    """Writes the table `schemas.tables.EMBEDDED` of every accepted record of FASTA files to `out`.

    `layer` counts from 0, the embedding of tokens; -1 is the last. Raises SourceError for a file that is missing, no
    FASTA or damaged, UsageError where `out` exists, OutOfMemory for a protein that does not fit alone; nothing is
    written then.
    """
    sources = find_sources(names)
    refuse_existing(out)
    result = Embedded()
    layer = layer if layer >= 0 else language.num_layers + 1 + layer
    said = {**metadata, "layer": str(layer)}
    with ParquetFile(out.parent, out.name, "embedded", metadata=said, schema=EMBEDDED) as file:
        for source in sources:
            for window in _windows(source, result.refused):
                embeddings = _embed(language, [record.sequence or "" for record in window], layer, per_residue)
                file.write(_to_table(source, window, embeddings, layer))
                result.rows += len(window)
    return result


def refuse_existing(out: Path) -> None:
    """Raises UsageError where `out` cannot be made."""
    if out.exists():
        raise UsageError(f"{out} exists: name a new file")
    if not out.parent.is_dir():
        raise UsageError(f"{out.parent} is no folder: make it first, or name another")


def _windows(source: SourceFile, refused: Counter[str]) -> Iterator[list[Record]]:
    """Accepted records of a source, WINDOW_RESIDUES or one protein at a time; the others are counted in `refused`."""
    window: list[Record] = []
    for record in accepted(source, refused):
        window.append(record)
        if sum(record.length for record in window) >= WINDOW_RESIDUES:
            yield window
            window = []
    if window:
        yield window


def _embed(
    language: LanguagePredictor, sequences: Sequence[str], layer: int, per_residue: bool
) -> dict[str, Embedding]:
    """Embeddings of the distinct ones of `sequences`."""
    ascending = sorted(set(sequences), key=lambda sequence: (len(sequence), sequence))
    budget = BATCH_TOKENS[language.device.type]
    batches: list[list[str]] = []
    for sequence in ascending:
        if not batches or (len(batches[-1]) + 1) * (len(sequence) + 2) > budget:
            batches.append([])
        batches[-1].append(sequence)
    return {
        embedding.sequence: embedding
        for batch in batches
        for embedding in _embed_halving(language, batch, layer, per_residue)
    }


def _embed_halving(language: LanguagePredictor, batch: list[str], layer: int, per_residue: bool) -> list[Embedding]:
    """Embeds a batch; one that does not fit into memory is halved, down to one protein."""
    try:
        return language.embed(batch, layers=[layer], per_residue=per_residue)
    except OutOfMemory:
        if len(batch) == 1:
            raise
    middle = len(batch) // 2
    halves = (batch[:middle], batch[middle:])
    return [embedding for half in halves for embedding in _embed_halving(language, half, layer, per_residue)]


def _to_table(source: SourceFile, window: list[Record], embeddings: dict[str, Embedding], layer: int) -> pa.Table:
    found = [embeddings[record.sequence or ""] for record in window]
    identities = [record.structure_id or b"" for record in window]
    residues_type = EMBEDDED.field("residues").type
    residues: pa.Array[pa.Scalar[pa.DataType]] = pa.nulls(len(found), residues_type)
    states = [embedding.residues[layer] for embedding in found if embedding.residues is not None]
    if states:
        residues = flat_lists(half_precision(identities, states), residues_type)
    columns = {
        "source": pa.array([source.uri] * len(window), pa.string()),
        "offset": pa.array([record.offset for record in window], pa.int64()),
        "id": pa.array([record.id for record in window], pa.string()),
        "structure_id": pa.ExtensionArray.from_storage(pa.uuid(), pa.array(identities, pa.binary(16))),
        "length": pa.array([record.length for record in window], pa.int32()),
        "mean": flat_lists([embedding.mean[layer] for embedding in found], EMBEDDED.field("mean").type),
        "residues": residues,
    }
    return pa.table(columns, schema=EMBEDDED)
