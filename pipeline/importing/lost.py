"""Shards of imported structures that were dropped: imported again by the same command, or recorded as lost."""

import socket
import urllib.parse
from collections.abc import Collection
from pathlib import Path

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline import events
from foldatlas.pipeline.importing.planning import missing_shards
from foldatlas.pipeline.importing.shards import ShardOptions, import_shard
from foldatlas.schemas.wording import counted


def settle_dropped(folder: AtlasFolder, shards: Collection[str]) -> list[str]:
    """Record the structures of dropped `shards` as lost where a source of their plan no longer exists.

    Shards whose sources exist stay missing: how files were read is not recorded, so only the same command can read
    them again. Return a line for each plan.
    """
    run_id = events.new_run_id()
    lines = []
    for plan in folder.plans():
        dropped = [shard for shard in plan.shards if shard.name in shards]
        if not dropped:
            continue
        what = counted(sum(shard.proteins for shard in dropped), "structure")
        uris = ", ".join(source.uri for source in plan.sources)
        if all(_exists(source.uri) for source in plan.sources):
            lines.append(f"{what}: run the same `foldatlas import` of {uris} again")
            continue
        options = ShardOptions(folder.resolved().uri, run_id, socket.gethostname())
        with missing_shards(folder, plan, [], options) as tasks:
            for task in tasks:
                if task.shard.name in shards:
                    import_shard(task)
        lines.append(f"{what}: recorded as lost, since {uris} no longer exists")
    return lines


def _exists(uri: str) -> bool:
    """Return whether a source may still be read: not a local path that does not exist."""
    if not uri.startswith("file://"):
        return True  # an address, or a name by --as
    path = uri.removeprefix("file://").partition("#")[0]  # after # of a Lance table is what was looked up
    return Path(urllib.parse.unquote(path)).exists()
