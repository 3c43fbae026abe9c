"""All steps of an import: read, plan, and copy into shards.

1. Files are read into staged chunks, which outlive an interruption (staging.py).
2. What they hold is planned, and the plan committed.
3. Each shard copies its rows and commits its manifest entry.

The same command resumes at any step. The atlas is not changed before all files were read.
"""

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.index.changes import Change
from foldatlas.atlas.index.lineage import lineage_of
from foldatlas.atlas.planning.imported_tables import Choice
from foldatlas.pipeline import events, progress
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.engine import EMBEDDED, Engine
from foldatlas.pipeline.engines.rounds import refuse_incomplete, run_in_rounds
from foldatlas.pipeline.importing.options import ImportOptions
from foldatlas.pipeline.importing.planning import ReadSource, make_import_plan, missing_shards, plans_to_finish
from foldatlas.pipeline.importing.reader import end_reader, read_files
from foldatlas.pipeline.importing.shards import ShardOptions, import_shard
from foldatlas.pipeline.importing.sources import StructureSource, find_structure_sources
from foldatlas.pipeline.importing.staging import StagedSource
from foldatlas.pipeline.interruption import interruptible
from foldatlas.schemas.errors import IncompleteError, StoreError, UsageError
from foldatlas.schemas.formats import IMPORTED_SETTINGS
from foldatlas.schemas.manifest import Plan
from foldatlas.schemas.version import program_version

LANES: Final = 8  # of an archive, on engines with workers of their own, whose number is not known


@dataclass(frozen=True)
class ImportReport:
    """What an import did.

    plan: the new plan, None if every source was in the atlas already. known: the sources that were.
    changes: what new versions of sources change. choice: which of the new files are kept.
    shards, structures, lost: committed by this run; lost structures' files changed before they were imported.
    files: read by this run. seconds: of wall time. unread: files whose confidence could not be read.
    """

    plan: Plan | None
    known: tuple[str, ...]
    changes: tuple[Change, ...]
    choice: Choice | None
    shards: int
    structures: int
    lost: int
    files: int
    seconds: float
    unread: int = 0


def import_structures(
    names: Sequence[str],
    folder: AtlasFolder,
    options: ImportOptions,
    *,
    name: str | None = None,
    replace_losses: bool = False,
    engine: Engine = EMBEDDED,
    log: str | None = None,
    show_progress: bool = True,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> ImportReport:
    """Import the structure files that `names` (files, folders, archives, patterns, addresses) refer to.

    name: the identity of the one source, in place of its URI. replace_losses: let a new version of a source have fewer
    than half of the earlier ids. log: where events go. on_phase: called with the name of each phase as it starts.

    Raise UsageError with the atlas untouched, Interrupted with everything kept that was staged and committed, and
    IncompleteError if shards are missing in the end.
    """
    started = time.monotonic()
    options.check()
    folder.refuse_foreign()
    folder.check_settings(IMPORTED_SETTINGS, next_step="give a new folder for imported structures")
    sources = _renamed(find_structure_sources(names), name)
    conformance.refuse_if_it_loses(engine, folder)
    run_id = events.new_run_id()
    written = None if log is None else events.Log(log, run_id)
    events.begin(written)
    events.emit(
        "import_started",
        version=program_version(),
        atlas=folder.resolved().uri,
        sources=[source.uri for source in sources],
        engine=engine.runner,
        workers=engine.workers,
    )
    with events.end_logged("import_ended") as ended, dispatch.opened(engine, "cpu"):
        # 1. Read the sources that are new, or whose shards are not all committed.
        all_of = [ReadSource(StagedSource.of(folder, source, options)) for source in sources]
        plans, lineage = folder.plans(), lineage_of(folder.plans())
        known = [one for one in all_of if one.is_known(lineage)]
        new = [one for one in all_of if one not in known]
        unfinished = plans_to_finish(folder, plans, lineage, [one.uri for one in known])
        needed = {source.uri for plan in unfinished for source in plan.sources}
        on_phase("read")
        to_read = [*new, *(one for one in known if one.uri in needed)]
        files = _read(to_read, engine, written, show_progress=show_progress)
        # 2. Plan what is new.
        on_phase("plan")
        made = make_import_plan(folder, new, options, replace_losses=replace_losses)
        # 3. Write the shards that are missing, of the new plan and of earlier ones.
        plans, lineage = folder.plans(), lineage_of(folder.plans())
        unfinished = plans_to_finish(folder, plans, lineage, [one.uri for one in all_of])
        on_phase("write")
        shard_options = ShardOptions(folder.resolved().uri, run_id, socket.gethostname(), written)
        shards, structures, lost = _write(
            folder, unfinished, to_read, shard_options, engine, options, show_progress=show_progress
        )
        for one in all_of:
            one.staged.remove()
        report = ImportReport(
            plan=made.plan,
            known=tuple(one.name for one in known if one.uri not in needed) + made.same,
            changes=made.changes,
            choice=made.choice,
            shards=shards,
            structures=structures,
            lost=lost,
            files=files,
            seconds=time.monotonic() - started,
            unread=0 if made.choice is None else made.choice.unread,
        )
        ended.update(shards=shards, structures=structures, lost=lost, files=files)
    return report


def _renamed(sources: list[StructureSource], name: str | None) -> list[StructureSource]:
    if name is None:
        return sources
    if not name.strip() or not name.isprintable():
        raise UsageError(f"--as {name!r} is not valid: give a line of text")
    if len(sources) != 1:
        raise UsageError(f"--as {name} names one source, but there are {len(sources)}: give one per run")
    return [replace(sources[0], uri=name)]


def _read(sources: Sequence[ReadSource], engine: Engine, log: events.Log | None, *, show_progress: bool) -> int:
    """Stage every file of `sources`. Return the number of files."""
    lanes = engine.workers or LANES

    def to_gather() -> list[object]:
        return [task for one in sources for task in one.staged.gathering(log)]

    def left() -> list[object]:
        return [task for one in sources for task in one.staged.tasks(lanes, log)]

    gathering, tasks = to_gather(), left()
    if tasks:
        expected = sum(one.staged.num_files() or 0 for one in sources)
        with (
            interruptible("run the same command again to resume: files that were read are kept"),
            progress.shown(len(tasks), expected, show=show_progress, doing="reading", unit="files"),
        ):
            try:
                still = run_in_rounds("gather", gathering, read_files, engine, to_gather)
                still = still or run_in_rounds("read", tasks, read_files, engine, left)
            finally:
                end_reader()
        if still:
            raise IncompleteError("not all files were read: see the messages above, and run the same command again")
    return sum(one.staged.num_files() or 0 for one in sources)


def _write(
    folder: AtlasFolder,
    plans: Sequence[Plan],
    sources: Sequence[ReadSource],
    shard_options: ShardOptions,
    engine: Engine,
    options: ImportOptions,
    *,
    show_progress: bool,
) -> tuple[int, int, int]:
    """Commit the missing shards of `plans`. Return the numbers of shards, structures and lost ones of this run."""
    with contextlib.ExitStack() as stack:
        missing = [
            task for plan in plans for task in stack.enter_context(missing_shards(folder, plan, sources, shard_options))
        ]
        if not missing:
            return 0, 0, 0
        total = sum(task.shard.proteins for task in missing)
        names = {task.shard.name for task in missing}
        with (
            interruptible(),
            progress.shown(len(missing), total, show=show_progress, doing="writing", unit="structures"),
        ):
            try:
                left = run_in_rounds(
                    "import", missing, import_shard, engine,
                    lambda: [task for task in missing if task.shard.name not in folder.entries()],
                )  # fmt: skip
            finally:
                with contextlib.suppress(StoreError):  # sweeping can wait, and must not hide what ended the run
                    folder.sweep()
    refuse_incomplete([task.shard.name for task in left], len(missing))
    folder.pack_manifest()
    ours = [entry for name, entry in folder.entries().items() if name in names]
    return len(ours), sum(entry.folded for entry in ours), sum(entry.failed for entry in ours)
