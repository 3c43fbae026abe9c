"""The run that wrote each file and folded each structure, and the table `runs` of the index.

The manifest entries of a shard are generations: the first is of the run that folded it, later ones are of runs that
added outputs, retried failed proteins or repaired files, and list the unchanged files again. A file therefore belongs
to the first generation that lists it. A structure belongs to the run that folded it: in a structures file that was
rewritten, the first `kept` rows belong to the same runs as before.
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
    """Rows [first, end) of a shard's current structures file, and the generation that folded them."""

    generation: int
    first: int
    end: int


def run_of_files(history: Iterable[ShardEntry]) -> dict[str, str]:
    """Return the run that wrote each file of a shard, by path. `history` are its entries by generation."""
    found: dict[str, str] = {}
    for entry in history:
        for file in entry.files.values():
            found.setdefault(file.path, entry.run.run_id)
    return found


def folded_rows(history: Sequence[ShardEntry]) -> list[Rows]:
    """Return which generation folded each row of a shard's current structures file, as consecutive ranges.

    `history` are the shard's entries by generation; `Rows.generation` is an index into it.
    """
    found: list[Rows] = []
    end = history[-1].folded
    for number in range(len(history) - 1, -1, -1):
        entry = history[number]
        if number and entry.files.get("structures") == history[number - 1].files.get("structures"):
            continue  # this generation kept the file
        first = min(entry.kept, end) if number else 0
        if first < end:
            found.append(Rows(number, first, end))
        end = first
    return found[::-1]


def runs_table(histories: Iterable[Sequence[ShardEntry]]) -> pa.Table:
    """Return a table with one row per manifest entry: what its run did in this shard.

    `folded` and `residues` count current structures, in the entry that folded them; `failed` counts current failures,
    in the entry that tried them last; `added` counts structures to which an entry added outputs; `computed` is the
    number of residues that went through the network, failed ones included.
    """
    rows = []
    for history in histories:
        folded = {part.generation: part.end - part.first for part in folded_rows(history)}
        failures = history[-1].files.get("failures")
        tried = next(number for number, entry in enumerate(history) if entry.files.get("failures") == failures)
        for number, entry in enumerate(history):
            more = number > 0 and not entry.files.keys() <= history[number - 1].files.keys()
            rows.append(
                {
                    "run_id": entry.run.run_id,
                    "device": entry.run.device,
                    "device_name": entry.run.device_name or None,
                    "host": entry.run.host,
                    "version": entry.run.version,
                    "started": entry.run.started,
                    "folded": folded.get(number, 0),
                    "failed": entry.failed if number == tried else 0,
                    "added": entry.folded if more else 0,
                    "residues": entry.residues if number in folded else 0,
                    "computed": entry.residues,
                    "seconds": entry.run.seconds,
                }
            )
    return pa.Table.from_pylist(rows, schema=RUNS)


def retried_rows(histories: Iterable[Sequence[ShardEntry]]) -> list[dict[str, Any]]:
    """Return rows of structures that another run folded than wrote their file: shard, first_row, end_row, run_id.

    Few shards have any.
    """
    return [
        {"shard": history[-1].shard, "first_row": part.first, "end_row": part.end, "run_id": run}
        for history in histories
        if len(history) > 1
        for part in folded_rows(history)
        if (run := history[part.generation].run.run_id) != run_of_files(history)[history[-1].files["structures"].path]
    ]


def make_runs(connection: Any, histories: Iterable[Sequence[ShardEntry]], model: str) -> None:
    """Create the table `runs`: one row per run. Seconds are summed over devices, so rates are of one device."""
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
