"""A shard's tables while it is folded: rows go out as they come, and the files appear when the shard is whole."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Final

import numpy as np
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import encode_structures
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.parquet.matrices import Floats, encode_pae, encode_residue_embeddings
from foldatlas.folding.compare.shape import helix_and_strand_fractions, radius_of_gyration
from foldatlas.folding.prediction import Prediction
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.records import ATOMS, UNKNOWN_RESIDUES, structure_id
from foldatlas.schemas.tables import (
    COORDINATE_SCALE,
    PLDDT_SCALE,
    STRUCTURES_A_ROW_GROUP,
    TABLES,
)

CONFIDENT_PLDDT = 70.0
VERY_HIGH_PLDDT = 90.0

# Of the tables that dwarf all others a row group holds this much, in memory, and at least one protein.
BULKY_ROW_GROUP_BYTES: Final = 16 << 20
BULKY: Final = {"residue_embeddings": encode_residue_embeddings, "pae": encode_pae}


class ShardWriter:
    """Context manager that writes `tables` of one attempt at a shard.

    If the block ends with an error nothing is left. `metadata` goes into every file. Every prediction must carry what
    the tables hold.
    """

    def __init__(
        self, folder: AtlasFolder, shard: str, attempt: str, *, tables: Sequence[str], metadata: dict[str, str]
    ) -> None:
        self._files = {
            table: ParquetFile(folder.storage, folder.shard_file(table, shard, attempt), table, metadata=metadata)
            for table in tables
        }
        self._folder = folder
        self._pending: list[Prediction] = []
        self._bulk: dict[str, list[tuple[bytes, Floats]]] = {table: [] for table in tables if table in BULKY}
        self._carried: dict[str, pa.Table] = {}  # kept rows that do not fill a row group
        self._num_carried = 0
        self.failures: list[tuple[str, str, int]] = []  # sequence, error, attempts
        self.num_folded = 0
        self.num_residues = 0

    @contextlib.contextmanager
    def open(self) -> Iterator["ShardWriter"]:
        """The files are open within the block and have their names after it."""
        try:
            with contextlib.ExitStack() as stack:
                for file in self._files.values():
                    stack.enter_context(file)
                yield self
                self._flush(len(self._pending))
                for table in self._bulk:
                    self._flush_bulk(table)
                if "failures" in self._files:
                    self._write_failures()
        except BaseException:
            self._folder.discard(self.entries())  # those that had their names when a later one failed
            raise

    @property
    def num_failed(self) -> int:
        return len(self.failures)

    def keep(self, files: dict[str, FileEntry]) -> None:
        """Begins each table with the rows of an earlier attempt's file, value for value and in their order.

        To be called before anything is added, with a file of every table but failures. Structures keep their rows.
        """
        for table, earlier in files.items():
            with open_parquet(self._folder.storage, earlier.path) as file:
                for number in range(file.num_row_groups):
                    group = file.read_row_group(number)
                    if table in BULKY:
                        self._files[table].write(group)
                    else:
                        self._carry(table, group)
        self._num_carried = self._carried["structures"].num_rows if "structures" in self._carried else 0

    def _carry(self, table: str, rows: pa.Table) -> None:
        """Appends rows, and writes those that fill row groups."""
        rows = rows.cast(TABLES[table])
        if table in self._carried:
            rows = pa.concat_tables([self._carried.pop(table), rows])
        whole = rows.num_rows - rows.num_rows % STRUCTURES_A_ROW_GROUP
        if whole:
            self._files[table].write(rows.slice(0, whole), STRUCTURES_A_ROW_GROUP)
        if whole < rows.num_rows:
            self._carried[table] = rows.slice(whole)

    def add(self, prediction: Prediction) -> None:
        for table, rows in self._bulk.items():
            values = prediction.pae if table == "pae" else prediction.residue_embedding
            assert values is not None, f"{table} was not asked for"
            rows.append((structure_id(prediction.sequence), values))
            if sum(values.nbytes for _, values in rows) >= BULKY_ROW_GROUP_BYTES:
                self._flush_bulk(table)
        self._pending.append(replace(prediction, pae=None, residue_embedding=None))
        self.num_folded += 1
        self.num_residues += len(prediction.sequence)
        if self._num_carried + len(self._pending) == STRUCTURES_A_ROW_GROUP:
            self._flush(len(self._pending))

    def fail(self, sequence: str, error: str, attempts: int) -> None:
        """Records that `sequence` could not be folded, after `attempts` tries."""
        self.failures.append((sequence, error, attempts))

    def entries(self) -> dict[str, FileEntry]:
        """The files that have their names, by table."""
        return {table: file.entry for table, file in self._files.items() if file.entry is not None}

    def _flush(self, count: int) -> None:
        batch, self._pending = self._pending[:count], self._pending[count:]
        if not batch and not self._carried:
            return
        self._num_carried = 0
        identities = [structure_id(prediction.sequence) for prediction in batch]
        if "structures" in self._files:
            self._write_structures(identities, batch)
        if "embeddings" in self._files:
            means = [prediction.mean_embedding for prediction in batch]
            self._write(
                "embeddings",
                pa.table({"structure_id": pa.array(identities, pa.uuid()), "mean": means}, schema=TABLES["embeddings"]),
            )

    def _write(self, table: str, rows: pa.Table) -> None:
        """Writes one row group, behind the kept rows that wait for it."""
        carried = self._carried.pop(table, None)
        self._files[table].write(rows if carried is None else pa.concat_tables([carried, rows.cast(carried.schema)]))

    def _flush_bulk(self, table: str) -> None:
        rows, self._bulk[table] = self._bulk[table], []
        if rows:
            identities, values = zip(*rows, strict=True)
            self._files[table].write(BULKY[table](identities, values))

    def _write_structures(self, identities: list[bytes], batch: list[Prediction]) -> None:
        """Structures, and their scores."""
        carried = self._carried.get("structures")
        first_row = self._files["structures"].rows + (0 if carried is None else carried.num_rows)
        self._write(
            "structures",
            encode_structures(
                identities,
                [prediction.sequence for prediction in batch],
                [prediction.positions for prediction in batch],
                [prediction.plddt for prediction in batch],
            ),
        )
        rows = [_scores(prediction) for prediction in batch]
        self._write(
            "scores",
            pa.Table.from_pylist(
                [
                    {"structure_id": identity, **row, "structure_row": first_row + number}
                    for number, (identity, row) in enumerate(zip(identities, rows, strict=True))
                ],
                schema=TABLES["scores"],
            ),
        )

    def _write_failures(self) -> None:
        sequences, errors, attempts = list(zip(*self.failures, strict=True)) or [(), (), ()]
        identities = [structure_id(sequence) for sequence in sequences]
        self._files["failures"].write(
            pa.table(
                {
                    "structure_id": pa.array(identities, pa.uuid()),
                    "stage": pa.array(["fold"] * len(identities), pa.string()),
                    "error": pa.array(errors, pa.string()),
                    "attempts": pa.array(attempts, pa.int32()),
                },
                schema=TABLES["failures"],
            )
        )


def _scores(prediction: Prediction) -> dict[str, float | int]:
    """A row of `scores`, from the numbers as they are stored, so that who reads the structure finds the same."""
    sequence = prediction.sequence
    plddt = np.rint(prediction.plddt.astype(np.float64) * PLDDT_SCALE) / PLDDT_SCALE
    positions = np.rint(prediction.positions.astype(np.float64) * COORDINATE_SCALE) / COORDINATE_SCALE
    alphas = positions[_alpha_rows(sequence)]
    helix, strand = helix_and_strand_fractions(alphas)
    return {
        "length": len(sequence),
        "mean_plddt": float(plddt.mean()),
        "plddt_std": float(plddt.std()),
        "num_confident": int((plddt > CONFIDENT_PLDDT).sum()),
        "fraction_confident": float((plddt > CONFIDENT_PLDDT).mean()),
        "fraction_very_high": float((plddt > VERY_HIGH_PLDDT).mean()),
        "ptm": prediction.ptm,
        "num_unknown": sum(sequence.count(residue) for residue in UNKNOWN_RESIDUES),
        "radius_of_gyration": radius_of_gyration(alphas),
        "helix_fraction": helix,
        "strand_fraction": strand,
    }


def _alpha_rows(sequence: str) -> np.ndarray:
    """Where each residue's C-alpha stands among a protein's atoms."""
    counts = np.array([len(ATOMS[residue]) for residue in sequence])
    return np.concatenate(([0], np.cumsum(counts)[:-1])) + 1
