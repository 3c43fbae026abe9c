"""Unites the latest search runs of atlases that are merged, where they are of one reference and recipe.

The united run lists the files of the runs that it unites where they are: no row is copied. Of a structure that several
searched the row of the atlas that was named first counts, as its structure does.
"""

import hashlib
from collections.abc import Sequence
from typing import get_args

import msgspec

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.novelty.search_run import KIND, SearchRun, latest_search
from foldatlas.atlas.stages.run import StageRun
from foldatlas.schemas.manifest import FileEntry
from foldatlas.schemas.reference_tables import Kind
from foldatlas.schemas.stages import StageEntry, StageShard


def unite_searches(new: AtlasFolder, merged: Sequence[AtlasFolder]) -> None:
    """Begin and complete the united runs in the atlas `new`, which has all runs of the atlases `merged`."""
    for search in get_args(Kind):
        latest = [run for folder in merged if (run := latest_search(folder, search)) is not None]
        runs = list({run.run.name: SearchRun.of(StageRun.open(new, KIND, run.run.name)) for run in latest}.values())
        if len(runs) > 1 and len({_searched(run) for run in runs}) == 1:
            _unite(new, runs)


def _searched(run: SearchRun) -> bytes:
    settings = run.settings
    return msgspec.json.encode([settings.digest, settings.version, settings.recipe], order="deterministic")


def _unite(new: AtlasFolder, runs: Sequence[SearchRun]) -> None:
    names = "".join(f"{run.run.name}\n" for run in runs)
    settings = msgspec.structs.replace(runs[0].settings, structures=hashlib.sha256(names.encode()).hexdigest())
    versions = {one.version: one for run in runs for one in run.notes.versions}
    notes = msgspec.structs.replace(runs[0].notes, versions=[versions[number] for number in sorted(versions)])
    shards: list[StageShard] = []
    entries: list[StageEntry] = []
    inputs: dict[str, list[FileEntry]] = {}
    files: dict[str, list[FileEntry]] = {}
    counts: dict[str, int] = {}
    for number, run in enumerate(runs):
        committed = run.run.entries()
        for shard in run.run.document.shards:
            name = f"{number}-{shard.name}"
            shards.append(msgspec.structs.replace(shard, name=name))
            entries.append(msgspec.structs.replace(committed[shard.name], shard=name))
        for table, listed in run.run.document.inputs.items():
            inputs.setdefault(table, []).extend(listed)
        mark = run.run.completion()
        assert mark is not None, "the latest search of an atlas is complete"
        for table, listed in mark.files.items():
            files.setdefault(table, []).extend(listed)
        for what, count in mark.counts.items():
            counts[what] = counts.get(what, 0) + count
    united = StageRun.begin(
        new,
        KIND,
        settings=msgspec.to_builtins(settings),
        shards=shards,
        notes=msgspec.to_builtins(notes),
        inputs=inputs,
    )
    for entry in entries:
        united.commit_entry(msgspec.structs.replace(entry, name=united.name))
    united.complete(files, counts)
