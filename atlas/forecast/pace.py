"""Rates of folding, from the times in manifest entries.

A worker is a process that commits shards; it is identified by the beginning of its attempts' names. Shards take
minutes, so the current rate of a worker is that of the shards that it committed recently, and it counts as folding
until the time since its last commit is longer than its last shard explains. Times are of the workers' clocks, which
should agree with the reader's within minutes.
"""

import datetime
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from foldatlas.atlas.forecast.device_rates import device_kind
from foldatlas.schemas.manifest import ShardEntry

RECENT_SECONDS: Final = 600.0  # current rates are over the last ten minutes of each worker's commits
PATIENCE: Final = 2.0  # a worker counts as folding for RECENT_SECONDS plus so many times its last shard


@dataclass(frozen=True)
class Pace:
    """The current rate: the number of workers, each with one device, and the residues per second of all of them.

    `devices` is their rate as a number of devices of predicted speed; a prediction for one device is divided by it.
    """

    workers: int
    residues_per_second: float
    devices: float


@dataclass(frozen=True)
class DevicePace:
    """All devices of one model.

    kind: "cpu" or "cuda".
    name: device model, "" if unknown.
    bytes: memory of the smallest of them, 0 if unknown.
    workers: number of workers that had one.
    shards, residues, seconds: sums over what these committed.
    residues_per_second: rate of one device.
    """

    kind: str
    name: str
    bytes: int
    workers: int
    shards: int
    residues: int
    seconds: float
    residues_per_second: float | None


@dataclass(frozen=True)
class RunPace:
    """One run of the command.

    started, ended: UTC, ISO 8601.
    seconds: from the first start to the last commit.
    busy_share: fraction of the workers' time in which their devices worked on batches, 0 to 1, None if not measured.
    devices: device models of its workers, or kinds of devices if unknown.
    """

    run_id: str
    started: str
    ended: str
    seconds: float
    workers: int
    shards: int
    residues: int
    residues_per_second: float | None
    busy_share: float | None
    devices: tuple[str, ...] = ()


def pace_now(entries: Iterable[ShardEntry], predicted: Mapping[str, float], at: datetime.datetime) -> Pace:
    """Return the current rate at the time `at`.

    `entries` are of all generations; `predicted` are the predicted seconds of each shard on one device.
    """
    residues = devices = 0.0
    workers = 0
    for committed in _by_worker(entries).values():
        newest = max(_end(entry) for entry in committed)
        last = max(committed, key=_end)
        if (at - newest).total_seconds() > RECENT_SECONDS + PATIENCE * last.run.seconds:
            continue
        workers += 1
        recent = [entry for entry in committed if (newest - _end(entry)).total_seconds() <= RECENT_SECONDS]
        residues += _rate(sum(entry.residues for entry in recent), recent)
        whole = [entry for entry in recent if entry.generation == 0]  # later generations fold a part of the shard
        devices += _rate(sum(predicted[entry.shard] for entry in whole), whole)
    return Pace(workers, residues, devices)


def busy_share(entries: Sequence[ShardEntry]) -> float | None:
    """Return the fraction of the shards' time in which devices worked on batches, 0 to 1, or None if not measured."""
    measured = [entry.run for entry in entries if entry.run.busy_seconds > 0]
    total = sum(run.seconds for run in measured)
    return min(1.0, sum(run.busy_seconds for run in measured) / total) if total > 0 else None


def runs_of(entries: Iterable[ShardEntry]) -> list[RunPace]:
    """Return every run that committed shards, in order of their start. `entries` are of all generations."""
    by_run: dict[str, list[ShardEntry]] = {}
    for entry in entries:
        by_run.setdefault(entry.run.run_id, []).append(entry)
    return sorted((_run(run_id, ours) for run_id, ours in by_run.items()), key=lambda run: (run.started, run.run_id))


def _run(run_id: str, entries: list[ShardEntry]) -> RunPace:
    workers = _by_worker(entries)
    begin, end = min(map(_start, entries)), max(map(_end, entries))
    spans = sum(
        (max(map(_end, theirs)) - min(map(_start, theirs))).total_seconds() for theirs in workers.values()
    )  # including idle time between shards
    busy = sum(entry.run.busy_seconds for entry in entries)
    seconds, residues = (end - begin).total_seconds(), sum(entry.residues for entry in entries)
    return RunPace(
        run_id=run_id,
        started=begin.isoformat(timespec="seconds"),
        ended=end.isoformat(timespec="seconds"),
        seconds=seconds,
        workers=len(workers),
        shards=len(entries),
        residues=residues,
        residues_per_second=residues / seconds if seconds > 0 else None,
        busy_share=min(1.0, busy / spans) if busy and spans > 0 else None,
        devices=tuple(sorted({entry.run.device_name or device_kind(entry.run.device) for entry in entries})),
    )


def devices_of(entries: Iterable[ShardEntry]) -> list[DevicePace]:
    """Return every device model that folded, the one with the most residues first. `entries` are of all generations."""
    by_device: dict[tuple[str, str], list[ShardEntry]] = {}
    for entry in entries:
        by_device.setdefault((device_kind(entry.run.device), entry.run.device_name), []).append(entry)
    found = [
        DevicePace(
            kind=kind,
            name=name,
            bytes=min((entry.run.device_bytes for entry in theirs if entry.run.device_bytes), default=0),
            workers=len(_by_worker(theirs)),
            shards=len(theirs),
            residues=sum(entry.residues for entry in theirs),
            seconds=sum(entry.run.seconds for entry in theirs),
            residues_per_second=_rate(sum(entry.residues for entry in theirs), theirs) or None,
        )
        for (kind, name), theirs in sorted(by_device.items())
    ]
    return sorted(found, key=lambda device: -device.residues)


def _by_worker(entries: Iterable[ShardEntry]) -> dict[str, list[ShardEntry]]:
    workers: dict[str, list[ShardEntry]] = {}
    for entry in entries:
        workers.setdefault(entry.attempt.rpartition("_")[0], []).append(entry)
    return workers


def _rate(amount: float, entries: Sequence[ShardEntry]) -> float:
    seconds = sum(entry.run.seconds for entry in entries)
    return amount / seconds if seconds > 0 else 0.0


def _start(entry: ShardEntry) -> datetime.datetime:
    started = datetime.datetime.fromisoformat(entry.run.started)
    return started if started.tzinfo is not None else started.replace(tzinfo=datetime.UTC)


def _end(entry: ShardEntry) -> datetime.datetime:
    return _start(entry) + datetime.timedelta(seconds=entry.run.seconds)
