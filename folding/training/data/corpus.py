"""The training sequences of a language model, in memory as one-byte tokens, by cluster; some clusters are held out.

Clusters come from a table, for ESM-2 that of UniRef50 clusters of UniRef90 members. Without a table, and for sequences
that are not in it, equal sequences are a cluster. Whether a cluster is held out depends on its name alone, so it is the
same in every run. numpy only.

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
    """C clusters. The sequences of cluster c are `members[starts[c]:starts[c + 1]]`."""

    members: Integers
    starts: Integers

    def __len__(self) -> int:
        return len(self.starts) - 1


@dataclass(frozen=True)
class Corpus:
    """Sequences and their clusters.

    `residues` [R] are tokens; those of sequence s are `residues[starts[s]:starts[s + 1]]`. `training` and `valid` are
    the clusters to train on and the held-out ones. `unlisted` counts sequences that were not in the table of clusters.
    """

    residues: npt.NDArray[np.uint8]
    starts: Integers
    training: Clusters
    valid: Clusters
    unlisted: int

    def num_tokens(self, sequences: Integers) -> Integers:
        """Return the number of tokens of each of `sequences`, including <cls> and <eos>."""
        lengths: Integers = self.starts[sequences + 1] - self.starts[sequences] + 2
        return lengths

    def tokens(self, sequence: int) -> Tokens:
        """Return the tokens of a sequence: <cls>, residues, <eos>."""
        residues = self.residues[self.starts[sequence] : self.starts[sequence + 1]].astype(np.int64)
        return np.concatenate(([CLS], residues, [EOS]))

    def digest(self) -> str:
        """Return the sha256 of sequences and clusters, which is equal for equal data."""
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
    """Return the corpus of `records`, pairs of an id and a sequence of upper-case residue codes.

    `cluster_of` maps ids to clusters. A random `valid_fraction` (0 to 1) of the clusters is held out, and the clusters
    of `valid_records`, of which only these sequences are used.

    Raise SourceError if nothing is left to train on, or if none of the ids is in the table.
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
            # The tab makes it different from all names in tables, which have no tabs.
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
            f"none of {counted(len(lengths), 'sequence')} is in the table of {counted(len(cluster_of), 'member')}: its "
            "first column must be the ids of the FASTA files"
        )
    if not by_cluster:
        raise SourceError("no record was accepted, so there is nothing to train on: give other FASTA files")
    training = {name: numbers for name, numbers in by_cluster.items() if name not in named_valid}
    if valid_fraction:
        held_out = {name: rank for name in training if (rank := _rank(name)) < valid_fraction}
        named_valid.update((name, training.pop(name)) for name in sorted(held_out, key=held_out.__getitem__))
    if not training:
        raise SourceError(
            f"all of {counted(len(by_cluster), 'cluster')} would be held out, so there is nothing to train on: hold "
            "out fewer, or give other FASTA files"
        )
    return Corpus(
        residues=np.frombuffer(bytes(letters).translate(_TOKEN_OF_LETTER), dtype=np.uint8),
        starts=_starts(lengths),
        training=_clusters(training),
        valid=_clusters(named_valid),
        unlisted=unlisted,
    )


def _rank(name: str) -> float:
    """Return a pseudo-random number, 0 to 1, that is a function of the cluster's name."""
    digest = hashlib.blake2b(name.encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest, "little") / (1 << (8 * _HASH_BYTES))


def _clusters(by_name: Mapping[str, list[int]]) -> Clusters:
    members = [number for numbers in by_name.values() for number in numbers]
    return Clusters(np.array(members, dtype=np.int64), _starts([len(numbers) for numbers in by_name.values()]))


def _starts(lengths: list[int]) -> Integers:
    return np.concatenate(([0], np.cumsum(np.array(lengths, dtype=np.int64))))
