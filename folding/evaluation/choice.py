"""Selection of the chains to evaluate: by split, length, and role.

A table of roles divides a split: chains of the roles `trunk` and `confidence`, on which different parts of a model were
trained, are then evaluated separately, although both are `train` in the file of chains.
"""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from foldatlas.folding.compare.experimental import Chain
from foldatlas.schemas.errors import UsageError

_SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """Chains to evaluate: those of `split` with at most `max_length` residues (None: any length)."""

    split: str
    max_length: int | None = None

    @property
    def label(self) -> str:
        return self.split if self.max_length is None else f"{self.split}, up to {self.max_length} residues"


def parse_choice(text: str, max_length: int | None) -> Choice:
    """Parse `valid`, or `train:150` with its own longest length. Raise UsageError for an invalid length."""
    split, colon, number = text.partition(":")
    if colon and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise UsageError(f"--split {text!r}: give a split, or a split and its longest length, such as train:150")
    return Choice(split, int(number) if colon else max_length)


def choose(chains: Sequence[Chain], choices: Sequence[Choice], limit: int | None) -> dict[str, list[Chain]]:
    """Return label -> chains; at most `limit` of each, drawn by a fixed seed.

    Raise UsageError if no chain matches a choice.
    """
    chosen = {}
    for choice in choices:
        found = [
            chain
            for chain in chains
            if chain.split == choice.split and (choice.max_length is None or len(chain.sequence) <= choice.max_length)
        ]
        if not found:
            splits = sorted({chain.split for chain in chains})
            raise UsageError(
                f"there is no chain of split {choice.label}: the splits are {', '.join(splits)}; check --split"
            )
        if limit is not None and len(found) > limit:
            drawn = np.random.default_rng(_SEED).choice(len(found), limit, replace=False)
            found = [found[index] for index in sorted(drawn)]
        chosen[choice.label] = found
    return chosen


def distinct(chosen: Mapping[str, Sequence[Chain]]) -> list[Chain]:
    """Return the chains of all labels, each once, shortest first."""
    by_name = {chain.name: chain for chains in chosen.values() for chain in chains}
    return sorted(by_name.values(), key=lambda chain: (len(chain.sequence), chain.name))


def read_roles(path: str | Path) -> dict[str, str]:
    """Return chain -> role from a tab-separated table with a header and the columns `name` and `role`.

    Raise UsageError if the file is missing or lacks one of these columns.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            missing = [column for column in ("name", "role") if column not in (table.fieldnames or ())]
            if missing:
                raise UsageError(
                    f"{path} has no column {missing[0]!r}: give a tab-separated table with the columns name and role"
                )
            return {row["name"]: row["role"] for row in table if row["role"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): give a tab-separated table with the columns name and role"
        ) from error


def with_roles(chains: Sequence[Chain], roles: Mapping[str, str]) -> list[Chain]:
    """Return the chains, with the role in place of the split for those in `roles` (by name)."""
    return [dataclasses.replace(chain, split=roles.get(chain.name, chain.split)) for chain in chains]
