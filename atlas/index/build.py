"""Build `atlas.duckdb` from the Parquet files that plans and manifest list, or bring it up to date.

Two tables are largest, and each is sorted by its own key, so that a look-up reads few blocks: `records` by id, `scores`
(one row per structure, with the location of its coordinates) by structure_id. A copy of the records that have a
structure, `folded_records`, is sorted by structure_id too. Smaller ones are `failures`, `titles`, `runs`, `files`,
`documents`, `copies` and `settings`; `views.py` has the views. An unfinished atlas has an index too:
records whose shards are not committed are `pending`.

Plans may overlap. `superseded` marks records of versions of sources that were superseded (lineage.py). If several
shards have a structure, the index takes that of the first plan (`folder.plan_order`); `copies` lists the rows of other
files that are not used. Only ids that occur in several plans are compared, so an atlas without overlap needs at most
one pass over the sequence ids.

The database is built aside and then replaces the published one. If the published one can be continued (update.py), it
is copied, and what is new is added to the copy.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from foldatlas.atlas.accounting import Accounting
from foldatlas.atlas.folder import AtlasFolder, now
from foldatlas.atlas.index import clusters, novelty
from foldatlas.atlas.index.annotations import create_annotation_views, make_annotations
from foldatlas.atlas.index.contents import LAYOUT, Contents, contents_of
from foldatlas.atlas.index.counts import count_records
from foldatlas.atlas.index.files import MEMORY_LIMIT, create_presence, list_files
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.index.low_confidence import count_low_residues
from foldatlas.atlas.index.projection import make_projection
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.index.records import make_folded_records, make_records, make_titles
from foldatlas.atlas.index.runs import make_runs, retried_rows, run_of_files
from foldatlas.atlas.index.state import IndexedState, read_state
from foldatlas.atlas.index.structures import (
    delete_superseded_failures,
    find_shared,
    find_winners,
    list_retried,
    list_shards,
    make_copies,
    make_failures,
    make_scores,
)
from foldatlas.atlas.index.update import CannotContinue, Increment, increment_since, update_tables
from foldatlas.atlas.index.views import create_views
from foldatlas.atlas.macros.install import create_structure_sql
from foldatlas.atlas.sql.interruptible import interruptible_call
from foldatlas.atlas.sql.text import first_line, literal
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.schemas.errors import DamagedAtlasError, FoldAtlasError
from foldatlas.schemas.manifest import AtlasHeader, Plan, ShardEntry
from foldatlas.schemas.version import program_version

# DuckDB 1.4 and 1.5 refuse files of the storage version of DuckDB 2.0; with this one they read them.
STORAGE_VERSION: Final = "v1.4.0"
_WORK: Final = ".index."  # prefix of the hidden folder in which an index is built
_PREVIOUS: Final = "previous"  # the name under which the index to be replaced is attached


@dataclass(frozen=True)
class _Content:
    """What an index is built from."""

    folder: AtlasFolder
    header: AtlasHeader
    plans: list[Plan]
    histories: list[list[ShardEntry]]
    contents: Contents

    @property
    def entries(self) -> list[ShardEntry]:
        """The manifest entries that count."""
        return [history[-1] for history in self.histories]

    @property
    def run_of(self) -> dict[str, str]:
        """The run that wrote each file, by path."""
        return {path: run for history in self.histories for path, run in run_of_files(history).items()}


def build_index(folder: AtlasFolder, *, full: bool = False, memory_limit: str | None = None) -> Accounting:
    """Bring the index up to date and replace the published one. Readers see either the old or the new index.

    If nothing is new or the published index cannot be continued, it is built from nothing, but for counts of files that
    the published index has. With `full` nothing of the published index is used, which may be damaged.
    `memory_limit` is that of DuckDB, such as "4GB" (None: half of the memory); what exceeds it goes to temporary files.

    Return the number of records by state. Raise NotAnAtlasError, and DamagedAtlasError for a listed file that is
    missing or unreadable.
    """
    # 1. Note what the index is built from, before reading it: any later commit makes the index stale.
    index = index_of(folder)
    publication = index.publication()
    contents = contents_of(folder)
    header, plans = folder.header(), folder.plans()
    names = {plan.name for plan in plans}
    histories = [history for history in folder.histories().values() if history[-1].plan in names]
    content = _Content(folder, header, plans, histories, contents)
    # 2. Build the database in a hidden folder of the atlas, or, for a store, in a temporary one.
    with folder.storage.work_folder(_WORK) as work:
        database = work / "atlas.duckdb"
        state = None if full else read_state(index, work)
        increment = None if full else increment_since(state, plans, histories, contents)
        accounting = None
        if state is not None and increment is not None:
            accounting = _continue(content, database, state, increment, memory_limit)
        if accounting is None:
            accounting = _build(content, database, state, memory_limit)
        # 3. Replace the published index.
        publication.publish(database, contents, accounting)
    folder.pack_manifest()
    return accounting


def current_accounting(folder: AtlasFolder) -> Accounting | None:
    """Return the number of records by state from the index, or None if there is no index or it is stale."""
    return index_of(folder).accounting(contents_of(folder))


def up_to_date(folder: AtlasFolder, on_phase: Callable[[str], None] = lambda name: None) -> Accounting:
    """Return the number of records by state from the index, which is built first if it is missing or stale.

    `on_phase` is called before it is built.
    """
    accounting = current_accounting(folder)
    if accounting is None:
        on_phase("indexing")
        accounting = build_index(folder)
    return accounting


def _continue(
    content: _Content, database: Path, state: IndexedState, increment: Increment, memory_limit: str | None
) -> Accounting | None:
    """Copy the published index to `database` and add what is new; None if it has to be built from nothing."""
    shutil.copyfile(state.path, database)

    def update(connection: Any, copies: LocalCopies) -> int:
        folder, plans, entries = content.folder, content.plans, content.entries
        version = content.header.format
        return state.runs + update_tables(
            connection, folder, copies, plans, entries, content.run_of, increment, version
        )

    try:
        return _write(content, database, memory_limit, update)
    except CannotContinue:
        database.unlink()
        return None


def _build(content: _Content, database: Path, state: IndexedState | None, memory_limit: str | None) -> Accounting:
    """Build `database` from nothing, but for what the published index has of files that are never changed."""

    def make(connection: Any, copies: LocalCopies) -> int:
        if state is not None:
            connection.execute(f"ATTACH {literal(str(state.path))} AS {_PREVIOUS} (READ_ONLY)")
        _make_tables(connection, content, copies, _PREVIOUS if state is not None else None)
        if state is not None:
            connection.execute(f"DETACH {_PREVIOUS}")
        return 1

    return _write(content, database, memory_limit, make)


def _write(
    content: _Content, database: Path, memory_limit: str | None, make: Callable[[Any, LocalCopies], int]
) -> Accounting:
    """Run `make`, which returns the number of sorted runs, on the open `database`; then add what comes from documents
    alone, and the views."""
    folder = content.folder
    work = database.parent
    config: dict[str, Any] = {
        "memory_limit": memory_limit or MEMORY_LIMIT,
        "temp_directory": str(work / "spill"),
        "storage_compatibility_version": STORAGE_VERSION,
    }
    with duckdb.connect(str(database), config=config) as connection:
        try:
            copies = LocalCopies(folder.storage, work)
            runs = interruptible_call(connection, lambda: make(connection, copies), copies.stop)
            annotations = interruptible_call(
                connection, lambda: make_annotations(connection, folder, copies), copies.stop
            )
            interruptible_call(connection, lambda: make_projection(connection, folder, copies), copies.stop)
        except FileNotFoundError as error:
            raise DamagedAtlasError(
                f"{error.filename} does not exist: `foldatlas verify {folder.uri}` lists what is missing"
            ) from error
        except duckdb.OutOfMemoryException as error:
            raise FoldAtlasError(f"the index of {folder.uri} needs more memory: {first_line(error)}") from error
        except duckdb.Error as error:
            raise DamagedAtlasError(
                f"the index of {folder.uri} cannot be built: {first_line(error)}; "
                f"`foldatlas verify {folder.uri}` lists what is missing or damaged"
            ) from error
        with _writing(folder):
            # One transaction: otherwise each of hundreds of statements is synced to the disk.
            connection.begin()
            _make_small_tables(connection, content, runs)
            create_views(connection, content.header.settings.model, content.header.format)
            create_structure_sql(connection, work)
            create_annotation_views(connection, annotations)
            accounting = count_records(connection)
            connection.commit()
            # Closing writes everything too, but on a full disk it leaves the rest in a log file and raises nothing.
            connection.execute("CHECKPOINT")
    return accounting


@contextmanager
def _writing(folder: AtlasFolder) -> Iterator[None]:
    """Raise FoldAtlasError where DuckDB cannot write, as on a full disk."""
    try:
        yield
    except duckdb.Error as error:
        raise FoldAtlasError(f"the index of {folder.uri} could not be written: {first_line(error)}") from error


def _make_tables(connection: Any, content: _Content, copies: LocalCopies, previous: str | None) -> None:
    """Create the tables of the index, in the order of their dependencies."""
    folder, plans = content.folder, content.plans
    # Files, the run that wrote each, and which sources are present.
    list_files(connection, copies, plans, content.entries, content.run_of)
    create_presence(connection, plans, lineage_of(plans))
    # Structures: those in several plans, those that a later run retried, and the row of each that the index takes.
    find_shared(connection, copies)
    list_retried(connection, retried_rows(content.histories))
    clusters.make_members(connection, folder, copies)
    novelty.make_novelty(connection, folder, copies)
    list_shards(connection)
    find_winners(connection, copies)
    count_low_residues(connection, folder, previous)
    make_scores(connection, copies, content.header.format)
    make_copies(connection, copies)
    for table in ("sequences", "scores"):
        copies.drop(table)
    # Records: their state follows from scores and failures.
    make_failures(connection, copies)
    make_records(connection, copies, content.header.format)
    make_folded_records(connection, content.header.settings.model, content.header.format)
    make_titles(connection)
    delete_superseded_failures(connection)
    clusters.make_clusters(connection)


def _make_small_tables(connection: Any, content: _Content, runs: int) -> None:
    """Create the tables that come from documents alone: `runs`, `documents` and `settings`."""
    header, contents = content.header, content.contents
    make_runs(connection, content.histories, header.settings.model)
    connection.register("given", pa.table({"name": pa.array(contents.names, pa.string())}))
    connection.execute("CREATE OR REPLACE TABLE documents AS FROM given")
    connection.unregister("given")
    connection.execute(
        "CREATE OR REPLACE TABLE settings AS SELECT $model AS model, $weights AS weights, $recycles AS recycles, "
        "$precision AS precision, $format AS format, $version AS version, $created AS created, "
        "$indexed AS indexed, $contents AS contents, $stages AS stages, "
        "$annotations AS annotations, $projections AS projections, $layout AS layout, $runs AS runs",
        {
            "model": header.settings.model,
            "weights": header.settings.weights,
            "recycles": header.settings.recycles,
            "precision": header.settings.precision,
            "format": header.format,
            "version": program_version(),
            "created": header.created,
            "indexed": now(),
            "contents": contents.digest,
            "stages": contents.stages,
            "annotations": contents.annotations,
            "projections": contents.projections,
            "layout": LAYOUT,
            "runs": runs,
        },
    )
