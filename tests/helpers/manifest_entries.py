"""Manifest entries that are made up: a test names the fields that it is about."""

from msgspec import structs

from foldatlas.schemas.manifest import Run, Shard, ShardEntry

RUN = Run("run-1", "host", "cpu", "0.1.0", "2026-11-01T10:00:00.000+00:00", 2.5)
_ENTRY = ShardEntry(
    format=1,
    shard="p-00000",
    plan="p",
    generation=0,
    attempt="host_1_00",
    settings_digest="",
    shard_digest="",
    folded=1,
    failed=0,
    residues=10,
    cost=100,
    files={},
    run=RUN,
)


def made_run(**fields: object) -> Run:
    return structs.replace(RUN, **fields)


def made_entry(**fields: object) -> ShardEntry:
    return structs.replace(_ENTRY, **fields)


def entry_of(shard: Shard, **fields: object) -> ShardEntry:
    """The entry of a shard of which every protein was folded."""
    planned = {
        "shard": shard.name,
        "plan": shard.name.rpartition("-")[0],
        "shard_digest": shard.digest,
        "folded": shard.proteins,
        "residues": shard.residues,
        "cost": shard.cost,
    }
    return made_entry(**{**planned, **fields})
