"""Sequences to train a language model on, in memory as tokens of a byte each, by clusters; some clusters held out.

Clusters come from a table, as UniRef50's of UniRef90's members for ESM-2. Without one, and for a sequence that the
table lacks, equal sequences are a cluster. Whether a cluster is held out depends on its name alone, so it is held out
of every run. numpy only.

Shapes: R residues of all sequences, S sequences, C clusters.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.network.tokens import CLS, EOS, LANGUAGE_TOKENS
from foldatlas.folding.training.data.masking import Tokens
from foldatlas.schemas.errors import SourceError
from foldatlas.schemas.wording import counted

Integers = npt.NDArray[np.int64]

_TOKEN_OF_LETTER: Final = bytes(LANGUAGE_TOKENS.get(chr(byte), 0) for byte in range(256))
_HASH_BYTES: Final = 8


@dataclass(frozen=True)
class Clusters:
    """C clusters: the sequences of cluster c are `members[starts[c]:starts[c + 1]]`."""

    members: Integers
    starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Corpus:
    """`residues` [R], tokens of sequence s from `starts[s]` to `starts[s + 1]`; clusters for training and held out.

    `unlisted` sequences were not in the table of clusters.
    """

    residues: npt.NDArray[np.uint8]
    starts: Integers
    training: Clusters
    valid: Clusters
    unlisted: int

    def num_tokens(self, sequences: Integers) -> Integers:
        """Tokens of each of `sequences`, <cls> and <eos> among them."""
        lengths: Integers = self.starts[sequences + 1] - self.starts[sequences] + 2
        return lengths

    def tokens(self, sequence: int) -> Tokens:
        """<cls>, residues, <eos>."""
        residues = self.residues[self.starts[sequence] : self.starts[sequence + 1]].astype(np.int64)
        return np.concatenate(([CLS], residues, [EOS]))

    def digest(self) -> str:
        """sha256 of everything: equal for equal data."""
        total = hashlib.sha256()
        for part in (self.residues, self.starts, self.training.members, self.training.starts):
            total.update(np.ascontiguousarray(part).data)
        for part in (self.valid.members, self.valid.starts):
            total.update(np.ascontiguousarray(part).data)
        return total.hexdigest()


def build(
    records: Iterable[tuple[str, str]],
    *,
    cluster_of: Mapping[str, str] | None = None,
    valid_fraction: float = 0.0,
    valid_records: Iterable[tuple[str, str]] = (),
) -> Corpus:
    """A corpus of `records`, (id, sequence of upper-case residue codes) each.

    `cluster_of` gives the cluster of an id. Held out are a part of the clusters, `valid_fraction` (0 to 1) of them on
    average, or the clusters of `valid_records`, which are then all that they consist of.

    Raises SourceError where nothing is left to train on, and where the table knows none of the ids.
    """
    letters = bytearray()
    lengths: list[int] = []
    by_cluster: dict[str, list[int]] = {}
    unlisted = 0

    def add(identifier: str, sequence: str) -> str:
        nonlocal unlisted
        name = None if cluster_of is None else cluster_of.get(identifier)
        if name is None:
            unlisted += cluster_of is not None
            # A name that no table has, as tables are of text without a tab.
            name = "\t" + hashlib.sha256(sequence.encode()).hexdigest()
        letters.extend(sequence.encode("ascii"))
        lengths.append(len(sequence))
        return name

    named_valid: dict[str, list[int]] = {}
    for identifier, sequence in valid_records:
        named_valid.setdefault(add(identifier, sequence), []).append(len(lengths) - 1)
    for identifier, sequence in records:
        by_cluster.setdefault(add(identifier, sequence), []).append(len(lengths) - 1)
    if cluster_of is not None and lengths and unlisted == len(lengths):
        raise SourceError(
            f"of {counted(len(lengths), 'sequence')} none is in the table of {counted(len(cluster_of), 'member')}: its "
            "first column must have the ids of the FASTA files"
        )
    if not by_cluster:
        raise SourceError("no record was accepted, so there is nothing to train on: name other FASTA files")
    training = {name: numbers for name, numbers in by_cluster.items() if name not in named_valid}
    if valid_fraction:
        held_out = {name: place for name in training if (place := _place(name)) < valid_fraction}
        named_valid.update((name, training.pop(name)) for name in sorted(held_out, key=held_out.__getitem__))
    if not training:
        raise SourceError(
            f"of {counted(len(by_cluster), 'cluster')} none is left to train on: hold out fewer, or name "
            "other FASTA files"
        )
    return Corpus(
        residues=np.frombuffer(bytes(letters).translate(_TOKEN_OF_LETTER), dtype=np.uint8),
        starts=_starts(lengths),
        training=_clusters(training),
        valid=_clusters(named_valid),
        unlisted=unlisted,
    )


def _place(name: str) -> float:
    """Where a cluster stands, 0 to 1, in an order that is random and always the same."""
    digest = hashlib.blake2b(name.encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "little") / (1 << (8 * _HASH_BYTES))


def _clusters(by_name: Mapping[str, list[int]]) -> Clusters:
    members = [number for numbers in by_name.values() for number in numbers]
    return Clusters(np.array(members, dtype=np.int64), _starts([len(numbers) for numbers in by_name.values()]))


def _starts(lengths: list[int]) -> Integers:
    return np.concatenate(([0], np.cumsum(np.array(lengths, dtype=np.int64))))
