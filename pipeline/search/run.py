"""A search run from beginning to end: planned on the atlas's index, searched in shards, its targets stored."""

import contextlib
import dataclasses
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.build import build_index, up_to_date
from foldatlas.atlas.index.novelty import INDEX_TABLES
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.novelty.planning import SearchPlan, Todo, query_cost
from foldatlas.atlas.novelty.search_run import (
    MEMBERS_TABLE,
    TARGETS_TABLE,
    SearchRun,
    base_of,
    latest_search,
    notes_for,
    search_runs,
)
from foldatlas.atlas.novelty.sequence_search import SequenceSettings
from foldatlas.atlas.novelty.settings import SearchSettings
from foldatlas.atlas.novelty.targets import write_targets
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.search.shard import SearchPayload, search_shard
from foldatlas.pipeline.search.workers import Requirements, check_machine, num_threads
from foldatlas.pipeline.stages.run import run_stage
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import FoldAtlasError, Interrupted
from foldatlas.schemas.novelty_tables import HIT, NOT_SEARCHED, REASONS, RETRIED
from foldatlas.schemas.wording import counted, readable_bytes, readable_time

# Predicted cost a second until an atlas has a search of its own: structures as in benchmarks/results/novelty.md (0.31 s
# of a core a query of 232 residues at 1,840 entries, 0.56 s at 200,000); sequences are an assumption.
_DEFAULT_RATE: Final = {"structures": 52e6, "sequences": 40e6}
_ROW_BYTES: Final = 260  # an estimate, for hits of structures
_TARGET_BYTES: Final = {"structures": 12.0, "sequences": 1.0}  # a residue

_CONFIG: Final[dict[str, str | bool | int | float | list[str]]] = {"arrow_lossless_conversion": True}


@dataclass(frozen=True)
class SearchRequest:
    """A search that a user asked for. `name`: the reference as it was named. `each`: search every structure, not one of
    each cluster. `full`: take over no rows of an earlier run."""

    name: str
    reference: Reference
    settings: SearchSettings | SequenceSettings
    each: bool = False
    full: bool = False

    def recipe(self) -> dict[str, Any]:
        """Return the settings as a JSON object."""
        settings = self.settings
        return settings.document() if isinstance(settings, SearchSettings) else dataclasses.asdict(settings)


@dataclass(frozen=True)
class SearchReport:
    """The result of a search. `searched`, `inherited`, `skipped` (by reason) and `failed` count the structures of the
    run, also those that earlier processes searched; `now` those that this one did, in `seconds`. `known` have a hit.

    `reference` and `version` name what was searched; `is_new` is False where all was searched already. `error` says why
    the search did not finish, "" where it did: what it found is kept, and the same command continues.
    """

    run: str
    reference: str
    version: int
    searched: int
    hits: int
    inherited: int
    skipped: dict[str, int]
    failed: int
    now: int
    seconds: float
    is_new: bool
    error: str = ""

    def line(self) -> str:
        """Return a summary of one line."""
        skipped = "".join(f", {count:,} {reason.replace('_', ' ')}" for reason, count in sorted(self.skipped.items()))
        end = "; not finished" if self.error else ""
        return (
            f"{self.reference} version {self.version}: {self.searched:,} searched, {self.inherited:,} inherited, "
            f"{self.hits:,} with a hit{skipped}, {self.failed:,} failed{end}"
        )


@dataclass(frozen=True)
class SearchForecast:
    """What a search would do: structures by what is to be done with them, seconds of one worker, bytes on disk, and
    bytes of memory a worker."""

    todo: Todo
    seconds: float
    bytes: int
    memory: int

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        todo = self.todo
        return [
            f"search    {counted(todo.full, 'structure')} in full, {todo.newer:,} against newer entries alone, "
            f"{todo.kept:,} kept, {todo.members:,} inherit",
            f"time      {readable_time(self.seconds)} of one worker, as predicted",
            f"on disk   {readable_bytes(self.bytes)}, as predicted",
            f"memory    {readable_bytes(self.memory)} a worker",
        ]


@contextlib.contextmanager
def planned(folder: AtlasFolder, request: SearchRequest) -> Iterator[tuple[SearchPlan, Path]]:
    """Give the plan of a search run, and a folder beside the atlas to write its inputs in. Builds the index if it is
    missing or older than the atlas."""
    up_to_date(folder)
    reference, recipe = request.reference, request.recipe()
    base = None if request.full else base_of(folder, reference, recipe)
    with staging_of(folder) as staging, index_of(folder).open(_CONFIG) as connection:
        connection.execute("SET temp_directory = ?", [str(staging.work / "spill")])
        copies = LocalCopies(folder.storage, staging.work)
        yield SearchPlan(connection, copies, reference, recipe, base, each=request.each), staging.work


def search_atlas(
    folder: AtlasFolder,
    request: SearchRequest,
    *,
    engine: Engine = EMBEDDED,
    show_progress: bool = True,
    log: str | None = None,
) -> SearchReport:
    """Search the atlas's structures as `request` says, and index what was found.

    What an earlier run of the same recipe found is kept; against a newer version of the reference its new entries alone
    are searched, and structures whose hit left it. A search that fails is a report with its `error`. Raise UsageError,
    before anything is searched, on a machine that cannot, and Interrupted with every committed shard kept.
    """
    reference = request.reference
    check_machine(reference)
    with planned(folder, request) as (plan, work):
        latest = latest_search(folder, reference.kind)
        if latest is not None and latest == plan.base and plan.is_up_to_date:
            return _report(folder, latest, 0, 0.0, is_new=False)
        (inputs := work / "inputs").mkdir()
        search = plan.begin(folder, notes_for(reference, request.name, plan.base), inputs)
    needs = Requirements(str(reference.root), reference.version, reference.digest)
    payload = SearchPayload(needs, request.settings, num_threads(engine.workers))
    try:
        done = run_stage(
            search.run,
            search_shard,
            payload,
            engine=engine,
            doing="searching",
            unit="structures",
            show_progress=show_progress,
            log=log,
        )
        if search.run.completion() is None:
            search.run.complete({TARGETS_TABLE: [write_targets(search, reference)]}, done.counts)
        build_index(folder)
    except Interrupted:
        raise
    except FoldAtlasError as error:
        return _unfinished(search, str(error))
    return _report(folder, search, done.items, done.seconds, is_new=True)


def _unfinished(search: SearchRun, error: str) -> SearchReport:
    """Count the committed rows of a run that did not finish."""
    counts: Counter[str] = Counter()
    for entry in search.run.entries().values():
        counts.update(entry.counts)
    members = sum(file.rows for file in search.run.document.inputs.get(MEMBERS_TABLE, ()))
    return SearchReport(
        run=search.run.name,
        reference=search.notes.reference,
        version=search.settings.version,
        searched=counts["searched"],
        hits=counts["hits"],
        inherited=members,
        skipped={reason: counts[reason] for reason in REASONS if counts[reason] and reason not in RETRIED},
        failed=counts["failed"],
        now=0,
        seconds=0.0,
        is_new=True,
        error=error,
    )


def _report(folder: AtlasFolder, search: SearchRun, now: int, seconds: float, *, is_new: bool) -> SearchReport:
    """Count the run's rows in the index."""
    table = INDEX_TABLES[search.settings.search]
    with index_of(folder).open(_CONFIG) as connection:
        rows = connection.execute(
            f"SELECT state, reason, structure_id = novelty_source, count(*) FROM {table} WHERE run = ? GROUP BY ALL "
            "ORDER BY ALL",
            [search.run.name],
        ).fetchall()
    found = [count for state, _, _, count in rows if state == HIT]
    searched = [count for state, _, own, count in rows if state != NOT_SEARCHED and own]
    inherited = [count for state, _, own, count in rows if state != NOT_SEARCHED and not own]
    skipped: dict[str, int] = {}
    for _, reason, _, count in rows:
        if reason is not None:
            skipped[reason] = skipped.get(reason, 0) + count
    failed = sum(skipped.pop(reason, 0) for reason in RETRIED)
    return SearchReport(
        run=search.run.name,
        reference=search.notes.reference,
        version=search.settings.version,
        searched=sum(searched),
        hits=sum(found),
        inherited=sum(inherited),
        skipped=skipped,
        failed=failed,
        now=now,
        seconds=seconds,
        is_new=is_new,
    )


def forecast(folder: AtlasFolder, request: SearchRequest) -> SearchForecast:
    """Predict what `search_atlas` would do, without writing to the atlas but for its index."""
    with planned(folder, request) as (plan, _):
        return predict(folder, request.reference, plan.todo, plan.mean_length, plan.since)


def predict(
    folder: AtlasFolder | None, reference: Reference, todo: Todo, mean_length: float, since: int = 0
) -> SearchForecast:
    """Predict a search of structures of this mean length. Where `folder` has shards of a search of the same kind, time
    follows from theirs."""
    costs = {0: query_cost(reference, 0), since: query_cost(reference, since)}
    cost = mean_length * (todo.full * costs[0] + todo.newer * costs[since])
    rate = measured_rate(folder, reference.kind) if folder is not None else None
    rate = rate or _DEFAULT_RATE[reference.kind]
    targets = min(todo.searches + todo.kept, len(reference))
    residues = reference.document.residues / max(1, len(reference))
    rows = todo.searches + todo.kept + todo.members / 8
    return SearchForecast(
        todo=todo,
        seconds=cost / rate,
        bytes=round(rows * _ROW_BYTES + targets * residues * _TARGET_BYTES[reference.kind]),
        memory=check_machine(reference),
    )


def measured_rate(folder: AtlasFolder, search: str) -> float | None:
    """Return the predicted cost that one worker searched in a second, over the latest run of the kind; None where there
    is none."""
    cost = seconds = 0.0
    for run, _ in search_runs(folder):
        if run.settings.search == search:
            entries = run.run.entries()
            shards = {shard.name: shard.cost for shard in run.run.document.shards}
            if entries:
                cost = float(sum(shards[name] for name in entries))
                seconds = sum(entry.run.seconds for entry in entries.values())
    return cost / seconds if seconds > 0 else None
