"""Which chains are evaluated: splits, each with a longest chain of its own, and roles that divide a split.

A training run that withholds chains from part of a model says so in a table of roles: `trunk` and `confidence` are then
evaluated apart, though both are `train` in the file of chains.
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
    """Chains to evaluate: those of `split`, as long as `max_length` residues at most (None: any)."""

    split: str
    max_length: int | None = None

    @property
    def label(self) -> str:
        return self.split if self.max_length is None else f"{self.split}, up to {self.max_length} residues"


def parse_choice(text: str, max_length: int | None) -> Choice:
    """`valid`, or `train:150` with a length of its own. Raises UsageError for a length that is none."""
    split, colon, number = text.partition(":")
    if colon and not (number.isascii() and number.isdigit() and int(number) > 0):
        raise UsageError(f"--split {text!r}: give a split, or a split and the longest chain of it, as in train:150")
    return Choice(split, int(number) if colon else max_length)


def choose(chains: Sequence[Chain], choices: Sequence[Choice], limit: int | None) -> dict[str, list[Chain]]:
    """Label -> its chains; `limit` of each at most, drawn by a fixed seed.

    Raises UsageError for a choice that no chain meets.
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
            raise UsageError(f"there is no chain of split {choice.label}: the splits are {', '.join(splits)}")
        if limit is not None and len(found) > limit:
            drawn = np.random.default_rng(_SEED).choice(len(found), limit, replace=False)
            found = [found[index] for index in sorted(drawn)]
        chosen[choice.label] = found
    return chosen


def distinct(chosen: Mapping[str, Sequence[Chain]]) -> list[Chain]:
    """Every chain of any label once, shortest first."""
    by_name = {chain.name: chain for chains in chosen.values() for chain in chains}
    return sorted(by_name.values(), key=lambda chain: (len(chain.sequence), chain.name))


def read_roles(path: str | Path) -> dict[str, str]:
    """Chain -> role, from a tab-separated table whose header names the columns `name` and `role`.

    Raises UsageError for a file that is missing or has no such columns.
    """
    try:
        with open(path, encoding="utf-8", newline="") as file:
            table = csv.DictReader(file, delimiter="\t")
            missing = [column for column in ("name", "role") if column not in (table.fieldnames or ())]
            if missing:
                raise UsageError(
                    f"{path} has no column {missing[0]!r}: roles are a table of name and role, tab-separated"
                )
            return {row["name"]: row["role"] for row in table if row["role"]}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path} cannot be read as a table of roles ({error})") from error


def with_roles(chains: Sequence[Chain], roles: Mapping[str, str]) -> list[Chain]:
    """The chains, the split of those in `roles` (by name) replaced by their role."""
    return [dataclasses.replace(chain, split=roles.get(chain.name, chain.split)) for chain in chains]
