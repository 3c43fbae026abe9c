"""Documents of derived stages: runs that compute tables from an atlas's structures (novelty, clusters, projections).

A run lives in `<kind>/<name>/` of the atlas. `run.json` is committed first and says what is computed from what;
`manifest/<shard>.json` is committed once a shard, by the attempt that was first; `complete.json` is committed last. A
file that none of them lists does not exist for a reader.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any, Final

import msgspec

from foldatlas.schemas.manifest import NAME_DIGITS, FileEntry, Run, check_name

STAGE_FORMAT: Final = 1
KINDS: Final = ("novelty", "clusters", "projections")


class StageShard(msgspec.Struct, frozen=True):
    """A piece of a run's work. `path` and `row_group` say where its input is: a row group of a Parquet file that the
    run lists ("" where the input follows from the shard's number alone).

    `items` are what is counted as work (structures, pairs); `cost` predicts it in a unit of the stage's own; `digest`
    is the sha256 of what the results depend on beside the run's settings.
    """

    name: str
    items: int
    cost: int
    digest: str
    path: str = ""
    row_group: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)


class StageDocument(msgspec.Struct, frozen=True):
    """`<kind>/<name>/run.json`: what a run computes. Immutable.

    `settings` are all that the results depend on beside the inputs: for novelty the search, the reference's digest and
    its version. `notes` change no result (where the reference is, its licences). `base` names the run whose results
    are taken over, "" for none. `inputs` are files by table that were written before the run began.
    """

    format: int
    kind: str
    name: str
    created: str
    program: str
    settings: dict[str, Any]
    settings_digest: str
    notes: dict[str, Any]
    base: str
    inputs: dict[str, tuple[FileEntry, ...]]
    shards: tuple[StageShard, ...]

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.kind not in KINDS:
            raise ValueError(f"{self.kind!r} is not a kind of derived stage")
        _check_inside(self.kind, self.inputs)


class StageEntry(msgspec.Struct, frozen=True):
    """`<kind>/<name>/manifest/<shard>.json`: the files of the attempt that was first, by table, and its counts."""

    format: int
    kind: str
    name: str
    shard: str
    shard_digest: str
    attempt: str
    files: dict[str, FileEntry]
    counts: dict[str, int]
    run: Run

    def __post_init__(self) -> None:
        check_name(self.name)
        check_name(self.shard)
        _check_inside(self.kind, {table: (file,) for table, file in self.files.items()})


class StageCompletion(msgspec.Struct, frozen=True):
    """`<kind>/<name>/complete.json`: all shards are committed. `files` are of the run as a whole, by table."""

    format: int
    kind: str
    name: str
    completed: str
    files: dict[str, tuple[FileEntry, ...]]
    counts: dict[str, int]

    def __post_init__(self) -> None:
        check_name(self.name)
        _check_inside(self.kind, self.files)


def _check_inside(kind: str, files: Mapping[str, tuple[FileEntry, ...]]) -> None:
    """Raise ValueError for a file outside the folder of the kind: readers and sweeps look there alone."""
    for listed in files.values():
        for file in listed:
            if PurePosixPath(file.path).parts[0] != kind:
                raise ValueError(f"{file.path!r} is not in {kind}/")


def stage_settings_digest(settings: Mapping[str, Any]) -> str:
    """Return the sha256 of a run's settings, 64 hexadecimal digits."""
    return hashlib.sha256(msgspec.json.encode(settings, order="deterministic")).hexdigest()


def stage_name(kind: str, settings_digest: str, base: str, shards: Iterable[StageShard]) -> str:
    """Return a run's name: the digest of what its results depend on.

    Two drivers that begin the same run share it, and the same command finds an unfinished one again.
    """
    content = [kind, settings_digest, base, [[shard.digest, shard.items] for shard in shards]]
    return hashlib.sha256(msgspec.json.encode(content)).hexdigest()[:NAME_DIGITS]
