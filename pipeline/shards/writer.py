"""The tables of a shard while it is folded: rows are written as they come; the files appear when all are complete."""

import contextlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.coordinates import encode_stored_structures
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.parquet.matrices import BULKY_ROW_GROUP_BYTES, encode_stored_matrices
from foldatlas.atlas.parquet.scores import score_row
from foldatlas.folding.prediction import QuantisedPrediction
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.records import structure_id
from foldatlas.schemas.tables import COORDINATE_SCALE, PLDDT_SCALE, STRUCTURES_PER_ROW_GROUP, TABLES

BULKY: Final = ("residue_embeddings", "pae")
BULKY_ROW_GROUP_VALUES: Final = BULKY_ROW_GROUP_BYTES // 4  # of float32, as when row groups were first cut


class _Pending(NamedTuple):
    """A structure that waits for its row group: its id, the prediction without bulky data, and its row of scores
    without ids."""

    identity: bytes
    prediction: QuantisedPrediction
    scores: dict[str, Any]


class ShardWriter:
    """Writes `tables` of one attempt at a shard, within the block of `open`.

    `metadata` is written into every file. Every prediction must carry the data of the tables.
    """

    def __init__(
        self, folder: AtlasFolder, shard: str, attempt: str, *, tables: Sequence[str], metadata: dict[str, str]
    ) -> None:
        self._files = {
            table: ParquetFile(folder.storage, folder.shard_file(table, shard, attempt), table, metadata=metadata)
            for table in tables
        }
        self._folder = folder
        self._pending: list[_Pending] = []
        self._bulk: dict[str, list[tuple[bytes, npt.NDArray[Any]]]] = {table: [] for table in tables if table in BULKY}
        self._carried: dict[str, pa.Table] = {}  # rows of `keep` that do not fill a row group yet
        self._num_carried = 0
        self.failures: list[tuple[str, str, int]] = []  # sequence, error, attempts
        self.num_folded = 0
        self.num_residues = 0
        self.trunk_passes: int | None = None  # of all predictions that report them

    @contextlib.contextmanager
    def open(self) -> Iterator["ShardWriter"]:
        """Within the block, write the files. They get their names at its end, or are removed if it ends with an
        error."""
        try:
            with contextlib.ExitStack() as stack:
                for file in self._files.values():
                    stack.enter_context(file)
                yield self
                self._flush()
                for table in self._bulk:
                    self._flush_bulk(table)
                if "failures" in self._files:
                    self._write_failures()
                stack.pop_all()  # from here on each file is closed, or removed, by its own
            # At once, since each waits for a disk or a store, and the device for all of them.
            with ThreadPoolExecutor(len(self._files)) as pool:
                for closed in [pool.submit(file.__exit__, None, None, None) for file in self._files.values()]:
                    closed.result()
        except BaseException:
            self._folder.discard(self.entries())  # files that had their names already when a later one failed
            raise

    @property
    def num_failed(self) -> int:
        return len(self.failures)

    def keep(self, files: dict[str, FileEntry]) -> None:
        """Start each table with the rows of an earlier attempt's file, unchanged and in their order.

        To be called before anything is added, with a file of every table but failures. Row numbers of structures stay
        the same.
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
        """Append rows of `keep`, and write those that fill row groups."""
        rows = rows.cast(TABLES[table])
        if table in self._carried:
            rows = pa.concat_tables([self._carried.pop(table), rows])
        whole = rows.num_rows - rows.num_rows % STRUCTURES_PER_ROW_GROUP
        if whole:
            self._files[table].write(rows.slice(0, whole), STRUCTURES_PER_ROW_GROUP)
        if whole < rows.num_rows:
            self._carried[table] = rows.slice(whole)

    def add(self, prediction: QuantisedPrediction) -> None:
        for table, rows in self._bulk.items():
            values = prediction.pae if table == "pae" else prediction.residue_embedding
            assert values is not None, f"{table} was not requested"
            rows.append((structure_id(prediction.sequence), values))
            if sum(values.size for _, values in rows) >= BULKY_ROW_GROUP_VALUES:
                self._flush_bulk(table)
        # Scores are computed now, while the device folds, and not with the row group: for a shard's last one it waits.
        scores = _scores(prediction) if "scores" in self._files else {}
        identity = structure_id(prediction.sequence)
        self._pending.append(_Pending(identity, replace(prediction, pae=None, residue_embedding=None), scores))
        self.num_folded += 1
        self.num_residues += len(prediction.sequence)
        if prediction.passes is not None:
            self.trunk_passes = (self.trunk_passes or 0) + prediction.passes
        if self._num_carried + len(self._pending) == STRUCTURES_PER_ROW_GROUP:
            self._flush()

    def fail(self, sequence: str, error: str, attempts: int) -> None:
        """Record that `sequence` could not be folded, after `attempts` tries."""
        self.failures.append((sequence, error, attempts))

    def entries(self) -> dict[str, FileEntry]:
        """Return the files that have their names already, by table."""
        return {table: file.entry for table, file in self._files.items() if file.entry is not None}

    def _flush(self) -> None:
        """Write a row group of each small table: rows of `keep` that wait for it, then those that were added."""
        rows, self._pending = self._pending, []
        if not rows and not self._carried:
            return
        self._num_carried = 0
        if "structures" in self._files:
            self._write_structures(rows)
        if "embeddings" in self._files:
            identities = pa.array([row.identity for row in rows], pa.uuid())
            means = [row.prediction.mean_embedding for row in rows]
            self._write(
                "embeddings", pa.table({"structure_id": identities, "mean": means}, schema=TABLES["embeddings"])
            )

    def _write(self, table: str, rows: pa.Table) -> None:
        """Write one row group: rows of `keep` that wait for it, then `rows`."""
        carried = self._carried.pop(table, None)
        self._files[table].write(rows if carried is None else pa.concat_tables([carried, rows.cast(carried.schema)]))

    def _flush_bulk(self, table: str) -> None:
        rows, self._bulk[table] = self._bulk[table], []
        if rows:
            identities, values = zip(*rows, strict=True)
            self._files[table].write(encode_stored_matrices(table, identities, values))

    def _write_structures(self, rows: Sequence[_Pending]) -> None:
        """Write a row group of structures, and one of their scores."""
        carried = self._carried.get("structures")
        first_row = self._files["structures"].rows + (0 if carried is None else carried.num_rows)
        self._write(
            "structures",
            encode_stored_structures(
                [row.identity for row in rows],
                [row.prediction.sequence for row in rows],
                [row.prediction.coordinates for row in rows],
                [row.prediction.plddt for row in rows],
            ),
        )
        scores = [
            {"structure_id": row.identity, **row.scores, "structure_row": number}
            for number, row in enumerate(rows, first_row)
        ]
        self._write("scores", pa.Table.from_pylist(scores, schema=TABLES["scores"]))

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


def _scores(prediction: QuantisedPrediction) -> dict[str, Any]:
    """Return the row of scores of a structure, from the values as stored, without its ids."""
    positions, plddt = prediction.coordinates / COORDINATE_SCALE, prediction.plddt / PLDDT_SCALE
    return score_row(prediction.sequence, positions, plddt, prediction.ptm)
