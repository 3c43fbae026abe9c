"""Records and sequences of a committed plan of folding, made again from its sources.

A source counts if its bytes have the sha256 that the plan states, whatever its path is now. The files are written by
planning with the plan's own shards; a file replaces the committed one only if it has the same sha256.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.parquet.files import is_sound
from foldatlas.atlas.planning.planned_tables import plan_tables
from foldatlas.atlas.storage.protocol import file_sha256
from foldatlas.atlas.storage.scratch import LocalCopies
from foldatlas.pipeline.planning.ingest import IngestTask, ingest, staged_path
from foldatlas.pipeline.planning.planner import check_notes, planning_memory_bytes, source_and_start
from foldatlas.pipeline.sources.find import SourceFile, cut_ranges, find_sources
from foldatlas.pipeline.staging import staging_of
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.manifest import FileEntry, Plan, Source


def make_tables_again(folder: AtlasFolder, name: str, moved: Sequence[str] = ()) -> Mapping[str, str]:
    """Make the files of records and sequences of the plan `name` again, and replace those at fault.

    moved: paths or addresses of sources that are no longer where they were read.

    Return the files that differ from the committed ones, each with the reason. Raise SourceError if a source is not
    found, or has other bytes.
    """
    plans = folder.plans()
    plan = next(plan for plan in plans if plan.name == name)
    earlier = [other for other in plans if (other.created, other.name) < (plan.created, plan.name)]
    sources = _found(plan, moved)
    with staging_of(folder) as staging:
        ranges = cut_ranges(sources)
        for range_ in ranges:
            ingest(IngestTask(range_, staging.uri, plan.max_length))
        staging.collect()
        work = staging.work
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they were given when the sources were planned
            read = check_notes(work, ranges, next((source.genes for source in plan.sources if source.genes), ""))
        for source in plan.sources:
            if read[source.uri].sha256 != source.sha256:
                raise _changed(source)
        tables = plan_tables(
            work,
            [work / staged_path(range_.number) for range_ in sorted(ranges, key=source_and_start)],
            LocalCopies(folder.storage, work).have(file.path for other in earlier for file in other.sequences),
            _same_shards(plan),
            memory_bytes=planning_memory_bytes(),
        )
        made = {**_by_number(plan.records, tables.records), **_by_number(plan.sequences, tables.sequences)}
        left = {}
        for committed in (*plan.records, *plan.sequences):
            again = made.get(committed.path)
            if again is None or again.sha256 != committed.sha256:
                left[committed.path] = (
                    "the sources give a file that differs from the committed one, which another version wrote"
                )
            elif not is_sound(folder.storage, committed):
                folder.storage.put(work / again.path, committed.path)
        return left


def _found(plan: Plan, moved: Sequence[str]) -> list[SourceFile]:
    """Return the files of a plan's sources, under the names that its records have."""
    by_digest = {file_sha256(Path(file.path)): file for file in find_sources(moved)} if moved else {}
    found = []
    for source in plan.sources:
        file = by_digest.get(source.sha256)
        if file is None:
            try:
                [file] = find_sources([source.uri], genes=bool(source.genes))
            except (SourceError, ValueError) as error:
                raise SourceError(
                    f"{source.uri} cannot be read again ({error}): give the file with --source"
                ) from error
            if not file.is_remote and file_sha256(Path(file.path)) != source.sha256:
                raise _changed(source)
        elif source.genes:
            [file] = find_sources([file.path], genes=True)
        found.append(file._replace(uri=source.uri))
    return found


def _changed(source: Source) -> SourceError:
    return SourceError(f"{source.uri} has other content than when it was planned: give the earlier file with --source")


def _same_shards(plan: Plan) -> Callable[[list[tuple[int, int]]], Sequence[tuple[int, int, int]]]:
    """Return a function that cuts sequences into the shards of `plan`."""

    def cut(lengths: list[tuple[int, int]]) -> Sequence[tuple[int, int, int]]:
        if sum(count for _, count in lengths) != plan.proteins:
            raise SourceError(f"the sources of plan {plan.name} give other sequences now")
        ends = [0]
        for shard in plan.shards:
            ends.append(ends[-1] + shard.proteins)
        return [(start, end, shard.cost) for start, end, shard in zip(ends, ends[1:], plan.shards, strict=False)]

    return cut


def _by_number(committed: Iterable[FileEntry], made: Sequence[FileEntry]) -> dict[str, FileEntry]:
    return {file.path: again for file, again in zip(committed, made, strict=False)}
