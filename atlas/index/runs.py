"""Which run made what: the run of each file and of each structure, and the table `runs` of the index.

A shard's entries are generations: the first is of the run that folded it, later ones are of runs that added outputs,
tried failed proteins again or mended files, and take over what they did not make. So a file belongs to the first
generation that lists it. A structure belongs to the run that folded it: where a file of structures was written anew,
the `kept` rows at its beginning belong to whom they belonged before.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from foldatlas.schemas.manifest import ShardEntry

RUNS = pa.schema(
    [
        *((name, pa.string()) for name in ("run_id", "device", "device_name", "host", "version", "started")),
        *((name, pa.int64()) for name in ("folded", "failed", "added", "residues", "computed")),
        ("seconds", pa.float64()),
    ]
)


class Rows(NamedTuple):
    """Rows [first, end) of a shard's standing structures file, and the generation of its history that folded them."""

    generation: int
    first: int
    end: int


def makers(history: Iterable[ShardEntry]) -> dict[str, str]:
    """The run that made each file of a shard, by path. `history` is its entries, first generation first."""
    found: dict[str, str] = {}
    for entry in history:
        for file in entry.files.values():
            found.setdefault(file.path, entry.run.run_id)
    return found


def folded_rows(history: Sequence[ShardEntry]) -> list[Rows]:
    """Who folded the structures that stand: ranges of rows in order, which cover the standing file once.

    `history` is a shard's entries, first generation first; `Rows.generation` counts places in it.
    """
    found: list[Rows] = []
    end = history[-1].folded
    for place in range(len(history) - 1, -1, -1):
        entry = history[place]
        if place and entry.files.get("structures") == history[place - 1].files.get("structures"):
            continue  # taken over by name
        first = min(entry.kept, end) if place else 0
        if first < end:
            found.append(Rows(place, first, end))
        end = first
    return found[::-1]


def runs_table(histories: Iterable[Sequence[ShardEntry]]) -> pa.Table:
    """A row for each entry of each shard's history: what its run did there.

    `folded` and `residues` count the structures that stand, in the entry that folded them; `failed` the failures that
    stand, in the entry that last tried them; `added` structures that an entry gave more outputs; `computed` are the
    residues that went through the network whatever became of them.
    """
    rows = []
    for history in histories:
        folded = {part.generation: part.end - part.first for part in folded_rows(history)}
        failures = history[-1].files.get("failures")
        tried = next(place for place, entry in enumerate(history) if entry.files.get("failures") == failures)
        for place, entry in enumerate(history):
            more = place > 0 and not entry.files.keys() <= history[place - 1].files.keys()
            rows.append(
                {
                    "run_id": entry.run.run_id,
                    "device": entry.run.device,
                    "device_name": entry.run.device_name or None,
                    "host": entry.run.host,
                    "version": entry.run.version,
                    "started": entry.run.started,
                    "folded": folded.get(place, 0),
                    "failed": entry.failed if place == tried else 0,
                    "added": entry.folded if more else 0,
                    "residues": entry.residues if place in folded else 0,
                    "computed": entry.residues,
                    "seconds": entry.run.seconds,
                }
            )
    return pa.Table.from_pylist(rows, schema=RUNS)


def retried_rows(histories: Iterable[Sequence[ShardEntry]]) -> list[dict[str, Any]]:
    """Structures that another run folded than the one that wrote their file: shard, first_row, end_row, run_id.

    Few shards have any, so the index asks for these alone.
    """
    return [
        {"shard": history[-1].shard, "first_row": part.first, "end_row": part.end, "run_id": run}
        for history in histories
        if len(history) > 1
        for part in folded_rows(history)
        if (run := history[part.generation].run.run_id) != makers(history)[history[-1].files["structures"].path]
    ]


def make_runs(connection: Any, histories: Iterable[Sequence[ShardEntry]], model: str) -> None:
    """Makes `runs`: one row a run, its devices' seconds summed, so that residues_per_second is one device's rate."""
    connection.register("ran", runs_table(histories))
    names = ("device", "device_name", "host", "version")
    each = ", ".join(f"string_agg(DISTINCT {name}, ', ' ORDER BY {name}) AS {name}" for name in names)
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
