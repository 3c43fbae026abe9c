"""What folding gives on request: the table of each output, and how the network is asked for it."""

from collections.abc import Collection
from typing import Final

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.tables import OPTIONAL_TABLES

# Table -> the option of Predictor.fold_batch that asks for it.
ARGUMENTS: Final = {"embeddings": "mean_embedding", "residue_embeddings": "residue_embedding", "pae": "pae"}


def chosen_outputs(embeddings: str = "none", pae: bool = False) -> tuple[str, ...]:
    """Tables to write. `embeddings` is "none", "mean" or "residue"; the last has the mean, which is small, with it.

    Raises UsageError for another word.
    """
    if embeddings not in ("none", "mean", "residue"):
        raise UsageError(f"embeddings={embeddings!r} is not known: give 'none', 'mean' or 'residue'")
    asked = {
        "embeddings": embeddings != "none",
        "residue_embeddings": embeddings == "residue",
        "pae": pae,
    }
    return tuple(table for table in OPTIONAL_TABLES if asked[table])


def lacking(entry: ShardEntry, outputs: Collection[str]) -> list[str]:
    """Those of `outputs` that a committed shard does not have."""
    return [table for table in outputs if table not in entry.files]


def refuse_missing_outputs(place: str, entries: Collection[ShardEntry], outputs: Collection[str]) -> None:
    """Raises UsageError if `outputs` cannot be asked for, because committed shards (`entries` of the atlas at `place`)
    lack one."""
    for table in outputs:
        without = sum(table not in entry.files for entry in entries)
        if without:
            raise UsageError(
                f"{without} of {len(entries)} folded shards of {place} have no {table}: pass --add-outputs to "
                f"fold them again for it, or leave out {OPTIONAL_TABLES[table]}"
            )


def refuse_to_mix(place: str, entries: Collection[ShardEntry], outputs: Collection[str]) -> None:
    """Raises UsageError if shards that are to be folded now would lack an output that committed ones have."""
    for table, option in OPTIONAL_TABLES.items():
        having = sum(table in entry.files for entry in entries)
        if having and table not in outputs:
            raise UsageError(
                f"{having} of {len(entries)} folded shards of {place} have {table}: go on with {option}, so that "
                "all have them"
            )
