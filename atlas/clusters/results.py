"""Results of the clustering runs of an atlas: the latest run, the pairs that a new run takes over, the files of a run.

A complete run has all pairs of its chains: those that it found, in the files of its shards, and those that it took over
from an earlier run, in a separate file. Shapes: `M` chains of a run, `K` chains of the earlier run, `E` pairs.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from foldatlas.atlas.clusters.descriptors import VERSION as DESCRIPTOR
from foldatlas.atlas.clusters.linclust import IDENTITY_30, IDENTITY_90, SequenceClusters
from foldatlas.atlas.clusters.pairs import MIN_BOUND, MIN_LENGTH_RATIO, MIN_TM, Pairs, window_end
from foldatlas.atlas.clusters.structures import ID, Ids, ids_of
from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import ParquetFile, open_parquet
from foldatlas.atlas.reference.mmseqs2 import program_version
from foldatlas.atlas.stages.run import StageRun
from foldatlas.atlas.stages.runs import Completed, completed_runs, runs
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.cluster_tables import LINCLUST, PAIRS
from foldatlas.schemas.errors import DamagedAtlasError
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.stages import StageShard

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

KIND: Final = "clusters"
PAIRS_TABLE: Final = "pairs"
ALIGNMENTS_TABLE: Final = "alignments"
CHAINS_TABLE: Final = "chains"
LINCLUST_TABLE: Final = "linclust"
COST_PER_SHARD: Final = 50_000_000  # comparisons of two chains of 250 residues: some minutes
MAX_ROWS: Final = 16_384  # chains per shard, each the longer one of its pairs; it limits the memory of a shard
_STRUCTURES: Final = "structures"  # key of the settings: digest of the structures
INSTEAD_OF: Final = (
    "instead_of"  # key of the settings: the run that --full replaces, so that the new one has another name
)
_RESIDUES: Final = 250  # of both chains in the unit of cost


def run_settings(structure_ids: Ids) -> dict[str, Any]:
    """Return the settings on which the clusters of these structures depend."""
    return {
        "sequence90": list(IDENTITY_90.words),
        "sequence30": list(IDENTITY_30.words),
        "structure": {
            "length_ratio": MIN_LENGTH_RATIO,
            "tm": MIN_TM,
            "bound": MIN_BOUND,
            "descriptor": DESCRIPTOR,
        },
        "mmseqs2": program_version(),
        _STRUCTURES: hashlib.sha256(np.sort(structure_ids).tobytes()).hexdigest(),
    }


def settings_of_full_run(settings: Mapping[str, Any], latest: Completed | None) -> dict[str, Any]:
    """Return the settings of a run that compares all structures again and replaces `latest`."""
    return {**settings, **({INSTEAD_OF: latest.run.name} if latest is not None else {})}


def is_current(latest: Completed, settings: Mapping[str, Any]) -> bool:
    """Whether the clusters of a run are those that `settings` would give."""
    return {**latest.run.document.settings, INSTEAD_OF: ""} == {**settings, INSTEAD_OF: ""}


def same_rules(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> bool:
    """Whether two settings differ only in the structures, so that pairs of one run are valid in the other."""
    ignored = {_STRUCTURES: "", INSTEAD_OF: ""}
    return {**ours, **ignored} == {**theirs, **ignored}


def latest_of_same_rules(folder: AtlasFolder, settings: Mapping[str, Any]) -> Completed | None:
    """Return the latest complete run whose pairs can be taken over, or None."""
    found = [done for done in completed_runs(folder, KIND) if same_rules(settings, done.run.document.settings)]
    return found[-1] if found else None


def unfinished_run(folder: AtlasFolder, settings: Mapping[str, Any]) -> StageRun | None:
    """Return a run with these settings that was begun and not completed, or None. Runs whose base was deleted are not
    returned."""
    complete = {done.run.name for done in completed_runs(folder, KIND)}
    for run in runs(folder, KIND):
        document = run.document
        if (
            run.name in complete
            or document.settings != settings
            or not {CHAINS_TABLE, LINCLUST_TABLE} <= set(document.inputs)
        ):
            continue
        if not document.base or document.base in complete:
            return run
    return None


def base_of(run: StageRun) -> Completed | None:
    """Return the complete run whose pairs `run` takes over, or None. Raise DamagedAtlasError where it is missing."""
    if not run.document.base:
        return None
    try:
        base = StageRun.open(run.folder, KIND, run.document.base)
        mark = base.completion()
    except FileNotFoundError:
        mark = None
    if mark is None:
        raise DamagedAtlasError(
            f"{run.folder.uri}/{KIND}/{run.document.base}, whose pairs the run {run.name} takes over, is missing: "
            f"restore it from a copy, or delete {KIND}/{run.name}"
        )
    return Completed(base, mark)


@dataclass(frozen=True, eq=False)
class TakenOver:
    """What a run takes over: which of its chains are new, the pairs of the others, and the scores of those pairs that
    were aligned as member and centre."""

    is_new_M: Mask
    pairs: Pairs
    alignments: Pairs


def take_over(base: Completed | None, ids_M: Ids) -> TakenOver:
    """Return what a run of the chains `ids_M` takes over from `base`."""
    if base is None or not len(ids_M):
        return TakenOver(np.ones(len(ids_M), dtype=np.bool_), Pairs.empty(), Pairs.empty())
    (chains,) = base.run.document.inputs[CHAINS_TABLE]
    old = ids_of(_read(base.run.folder.storage, chains.path, ["structure_id"]))
    order = np.argsort(ids_M, kind="stable")
    place = np.minimum(np.searchsorted(ids_M[order], old), len(ids_M) - 1)
    now_K = np.where(
        ids_M[order[place]] == old, order[place], -1
    )  # row in this run of each earlier chain, -1 if it has none
    is_new = np.ones(len(ids_M), dtype=np.bool_)
    is_new[now_K[now_K >= 0]] = False

    def kept(table: str) -> Pairs:
        earlier = read_pairs(base.run.folder.storage, [file.path for file in base.mark.files.get(table, ())])
        pairs = earlier.followed_by(read_shards(base.run, table))
        longer, shorter = now_K[pairs.longer_E], now_K[pairs.shorter_E]
        is_kept = (longer >= 0) & (shorter >= 0)
        return Pairs(longer[is_kept], shorter[is_kept], pairs.tm_E[is_kept])

    return TakenOver(is_new, kept(PAIRS_TABLE), kept(ALIGNMENTS_TABLE))


def read_shards(run: StageRun, table: str) -> Pairs:
    """Return the pairs in the files `table` of the committed shards of a run. Raise DamagedAtlasError."""
    entries = run.entries().values()
    return read_pairs(run.folder.storage, [entry.files[table].path for entry in entries if table in entry.files])


def read_pairs(storage: Storage, paths: Sequence[str]) -> Pairs:
    """Return the pairs in files. Raise DamagedAtlasError."""
    tables = [_read(storage, path, PAIRS.names) for path in paths]
    table = pa.concat_tables([PAIRS.empty_table(), *tables])
    return Pairs(
        table.column("longer").to_numpy().astype(np.int64),
        table.column("shorter").to_numpy().astype(np.int64),
        table.column("tm").to_numpy(),
    )


def write_pairs(storage: Storage, path: str, pairs: Pairs) -> FileEntry:
    """Write `pairs` to `path`, with the schema `cluster_tables.PAIRS`."""
    with ParquetFile(storage, path, "pairs", schema=PAIRS) as file:
        columns = (pairs.longer_E.astype(np.int32), pairs.shorter_E.astype(np.int32), pairs.tm_E)
        file.write(pa.table([pa.array(column) for column in columns], schema=PAIRS), row_group_size=1 << 20)
    assert file.entry is not None, "set when the with block ends"
    return file.entry


def write_linclust(storage: Storage, path: str, by90: SequenceClusters, by30: SequenceClusters) -> FileEntry:
    """Write the clusters by sequence to `path`, with the schema `cluster_tables.LINCLUST`."""
    columns: list[Any] = []
    for found in (by90, by30):
        columns.append(pa.array(found.centres_N.astype(np.int32)))
        columns += [pa.array(values, mask=np.isnan(values)) for values in (found.identity_N, found.coverage_N)]
    with ParquetFile(storage, path, LINCLUST_TABLE, schema=LINCLUST) as file:
        file.write(pa.table(columns, schema=LINCLUST), row_group_size=1 << 20)
    assert file.entry is not None, "set when the with block ends"
    return file.entry


def read_linclust(storage: Storage, path: str, num_structures: int) -> tuple[SequenceClusters, SequenceClusters]:
    """Return the clusters at 90 % and 30 % in a file of `write_linclust`. Raise DamagedAtlasError."""
    table = _read(storage, path, LINCLUST.names)
    if table.num_rows != num_structures:
        raise DamagedAtlasError(f"{storage.uri}/{path} does not have the structures of its run: delete its folder")

    def level(percent: int) -> SequenceClusters:
        names = [f"{name}{percent}" for name in ("centre", "identity", "coverage")]
        centres, *values = (table.column(name).to_numpy(zero_copy_only=False) for name in names)
        return SequenceClusters(centres.astype(np.int64), *(one.astype(np.float32) for one in values))

    return level(90), level(30)


class Block(NamedTuple):
    """Chains [begin, end), each of which is compared with the chains that follow it, up to and excluding `last`."""

    begin: int
    end: int
    last: int

    @classmethod
    def of(cls, shard: StageShard) -> "Block":
        """Return the block of a shard, parsed from its name."""
        return cls(*map(int, shard.name.split("-")))


def shards_of(ids_M: Ids, lengths_M: npt.NDArray[np.int32], is_new_M: Mask) -> list[StageShard]:
    """Return the shards of a run: consecutive blocks of chains, of about equal cost. Blocks without a pair with a new
    chain are omitted. The digest of a shard covers what its pairs depend on: the chains, and which are new."""
    shards = []
    for begin, end, items, cost in _blocks(lengths_M, is_new_M):
        last = window_end(lengths_M, end - 1)
        content = ids_M[begin:last].tobytes() + is_new_M[begin:last].tobytes()
        name = f"{begin}-{end}-{last}"
        digest = hashlib.sha256(name.encode() + content).hexdigest()
        shards.append(StageShard(name=name, items=items, cost=max(cost, 1), digest=digest))
    return shards


def _blocks(lengths_M: npt.NDArray[np.integer], is_new_M: Mask) -> Iterator[tuple[int, int, int, int]]:
    """Yield begin, end, number of chains and cost of each block."""
    pairs, cost = _pairs_and_cost(lengths_M, is_new_M)
    begin, block_cost = 0, 0
    for row in range(len(pairs)):
        block_cost += int(cost[row])
        if block_cost >= COST_PER_SHARD or row + 1 - begin == MAX_ROWS or row + 1 == len(pairs):
            if pairs[begin : row + 1].any():
                yield begin, row + 1, row + 1 - begin, block_cost
            begin, block_cost = row + 1, 0


def _pairs_and_cost(lengths_M: npt.NDArray[np.integer], is_new_M: Mask) -> tuple[Rows, Rows]:
    """Return the number of pairs in which each chain is the longer one, and their cost in pairs of 250 residues."""
    lengths = lengths_M.astype(np.int64)
    rows = np.arange(len(lengths))
    last = _window_ends(lengths)
    num_new = np.concatenate([[0], np.cumsum(is_new_M)])
    pairs = np.where(is_new_M, last - rows - 1, num_new[last] - num_new[rows + 1])
    return pairs, pairs * lengths**2 // _RESIDUES**2


def _window_ends(lengths_M: Rows) -> Rows:
    """Return `window_end` of each row."""
    return np.searchsorted(-lengths_M, lengths_M * -4 // 5, side="right")


def cost_and_residues(lengths_M: npt.NDArray[np.integer], is_new_M: Mask) -> tuple[int, int]:
    """Return the cost of comparing chains of these lengths, longest first, in pairs of 250 residues, and the number of
    residues that the largest shard has in memory."""
    ends = np.concatenate([[0], np.cumsum(lengths_M, dtype=np.int64)])
    last = _window_ends(lengths_M.astype(np.int64))
    held = [int(ends[last[end - 1]] - ends[begin]) for begin, end, _, _ in _blocks(lengths_M, is_new_M)]
    return int(_pairs_and_cost(lengths_M, is_new_M)[1].sum()), max(held, default=0)


def clustered_ids(folder: AtlasFolder, settings: Mapping[str, Any]) -> Ids:
    """Return the structure_ids of the latest run whose pairs can be taken over; none if there is no such run."""
    base = latest_of_same_rules(folder, settings)
    if base is None:
        return np.empty(0, ID)
    parts = [ids_of(_read(folder.storage, file.path, ["structure_id"])) for file in base.mark.files["members"]]
    return np.concatenate(parts)


def _read(storage: Storage, path: str, columns: list[str]) -> pa.Table:
    try:
        with open_parquet(storage, path) as file:
            return file.read(columns)
    except (OSError, pa.ArrowException) as error:
        raise DamagedAtlasError(
            f"{storage.uri}/{path} cannot be read ({error}): restore it from a copy, or delete the folder of its run "
            "and cluster again"
        ) from error
