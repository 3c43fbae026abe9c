"""The optional outputs of folding: the table of each, and the argument that asks the network for it."""

from collections.abc import Collection
from typing import Final

from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import ShardEntry
from foldatlas.schemas.tables import OPTIONAL_TABLES

# Table -> the option of Predictor.fold_batch that asks for it.
ARGUMENTS: Final = {"embeddings": "mean_embedding", "residue_embeddings": "residue_embedding", "pae": "pae"}


def chosen_outputs(embeddings: str = "none", pae: bool = False) -> tuple[str, ...]:
    """Return the optional tables to write. `embeddings` is "none", "mean", or "residue" (with the mean, which is
    small).

    Raise UsageError for another value.
    """
    if embeddings not in ("none", "mean", "residue"):
        raise UsageError(f"unknown embeddings={embeddings!r}: choose 'none', 'mean' or 'residue'")
    asked = {
        "embeddings": embeddings != "none",
        "residue_embeddings": embeddings == "residue",
        "pae": pae,
    }
    return tuple(table for table in OPTIONAL_TABLES if asked[table])


def lacking(entry: ShardEntry, outputs: Collection[str]) -> list[str]:
    """Return which of `outputs` a committed shard lacks."""
    return [table for table in outputs if table not in entry.files]


def refuse_missing_outputs(location: str, entries: Collection[ShardEntry], outputs: Collection[str]) -> None:
    """Raise UsageError if `outputs` cannot be asked for, because committed shards (`entries` of the atlas at
    `location`) lack one."""
    for table in outputs:
        without = sum(table not in entry.files for entry in entries)
        if without:
            raise UsageError(
                f"{without} of {len(entries)} folded shards of {location} have no {table}: pass --add-outputs to "
                f"fold them again for it, or omit {OPTIONAL_TABLES[table]}"
            )


def refuse_to_mix(location: str, entries: Collection[ShardEntry], outputs: Collection[str]) -> None:
    """Raise UsageError if shards that are to be folded now would lack an output that committed ones have."""
    for table, option in OPTIONAL_TABLES.items():
        having = sum(table in entry.files for entry in entries)
        if having and table not in outputs:
            raise UsageError(
                f"{having} of {len(entries)} folded shards of {location} have {table}: pass {option} again, so that "
                "all shards have the same tables"
            )
