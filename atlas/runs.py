"""Which run made what: the run of each file, and the table `runs` of the index.

A shard's entries are generations: the first is of the run that folded it, later ones are of runs that added outputs or
mended files, and take over what they did not make. So a file belongs to the first generation that lists it, and a
structure to the run of its file.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from foldatlas.schemas.manifest import ShardEntry

RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "device", "host", "version", "started")),
        *((name, pa.int64()) for name in ("folded", "failed", "added", "residues", "computed")),
        ("seconds", pa.float64()),
    ]
)


def makers(history: Iterable[ShardEntry]) -> dict[str, str]:
    """The run that made each file of a shard, by path. `history` is its entries, first generation first."""
    found: dict[str, str] = {}
    for entry in history:
        for file in entry.files.values():
            found.setdefault(file.path, entry.run.run_id)
    return found


def runs_table(histories: Iterable[Sequence[ShardEntry]]) -> pa.Table:
    """A row for each entry of each shard's history: what its run did there.

    `folded`, `failed` and `residues` count in the entry that made the structures which stand, `added` the structures
    that a later one gave more outputs; `computed` are the residues that went through the network either way.
    """
    rows = []
    for history in histories:
        standing = history[-1].files.get("structures")
        made = next(place for place, entry in enumerate(history) if entry.files.get("structures") == standing)
        for place, entry in enumerate(history):
            rows.append(
                {
                    "run_id": entry.run.run_id,
                    "device": entry.run.device,
                    "host": entry.run.host,
                    "version": entry.run.version,
                    "started": entry.run.started,
                    "folded": entry.folded if place == made else 0,
                    "failed": entry.failed if place == made else 0,
                    "added": entry.folded if place > made else 0,
                    "residues": entry.residues if place == made else 0,
                    "computed": entry.residues,
                    "seconds": entry.run.seconds,
                }
            )
    return pa.Table.from_pylist(rows, schema=RUNS)


def make_runs(connection: Any, histories: Iterable[Sequence[ShardEntry]], model: str) -> None:
    """Makes `runs`: one row a run, its devices' seconds summed, so that residues_per_second is one device's rate."""
    connection.register("ran", runs_table(histories))
    each = ", ".join(
        f"string_agg(DISTINCT {name}, ', ' ORDER BY {name}) AS {name}" for name in ("device", "host", "version")
    )
    connection.execute(
        f"CREATE TABLE runs AS SELECT run_id, $model AS model, {each}, "
        "min(try_cast(started AS TIMESTAMPTZ)) AT TIME ZONE 'UTC' AS started, count(*) AS shards, "
        "sum(folded)::BIGINT AS folded, sum(failed)::BIGINT AS failed, sum(added)::BIGINT AS added, "
        "sum(residues)::BIGINT AS residues, sum(seconds) AS seconds, "
        "sum(computed) / nullif(sum(seconds), 0) AS residues_per_second "
        "FROM ran GROUP BY run_id ORDER BY started, run_id",
        {"model": model},
    )
    connection.unregister("ran")
