"""How much of an atlas is folded, from its plans and manifest.

No Parquet file and no index is opened, unless a version of a source was superseded (index/needed.py).
"""

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from foldatlas.atlas.folder import AtlasFolder, newest_entries
from foldatlas.atlas.forecast.device_rates import Device, first_entries, main_device, measured_rate
from foldatlas.atlas.forecast.pace import DevicePace, RunPace, busy_share, devices_of, pace_now, runs_of
from foldatlas.atlas.index.needed import Presence, left_to_fold, presence_of
from foldatlas.atlas.index.published import index_of
from foldatlas.atlas.stages.runs import StageStatus, all_runs, stage_status
from foldatlas.schemas.manifest import Plan, ShardEntry
from foldatlas.schemas.wording import counted, readable_bytes, readable_time


@dataclass(frozen=True)
class AtlasStatus:
    """What of an atlas is folded, and what is left.

    `proteins` counts distinct sequences of each plan; sequences in several plans count in each (the index counts them
    once). If versions of sources were superseded, only present records and their distinct sequences are counted, and
    shards without any of these count as done.

    outcomes: records by outcome of planning (`schemas.records.Outcome`).
    shards_failed: shards that are done but have failed proteins.
    cost, cost_done: predicted MFLOP.
    seconds: time that devices spent on committed shards, summed over devices.
    seconds_left: predicted time that one `main_device` needs for the rest, None before the first shard.
    main_device: the device model that folded the most, "" if unknown.
    bytes: size of the index and all listed files.
    workers: number of workers that are folding now.
    residues_per_second_now: rate of all these workers together.
    ends: predicted end in UTC, ISO 8601; None if nothing is left or no worker is folding.
    busy_share: fraction of `seconds` in which devices worked on batches, 0 to 1, None if not measured.
    runs, devices: all runs and devices that committed shards.
    """

    model: str
    plans: int
    outcomes: dict[str, int]
    shards: int
    shards_done: int
    proteins: int
    folded: int
    failed: int
    residues: int
    residues_done: int
    cost: int
    cost_done: int
    seconds: float
    seconds_left: float | None
    residues_folded: int
    bytes: int
    shards_failed: int
    workers: int
    residues_per_second_now: float | None
    ends: str | None
    busy_share: float | None
    runs: tuple[RunPace, ...]
    main_device: str
    devices: tuple[DevicePace, ...]
    stages: tuple[StageStatus, ...] = ()

    @property
    def records(self) -> int:
        return sum(self.outcomes.values())

    @property
    def proteins_left(self) -> int:
        return self.proteins - self.folded - self.failed

    @property
    def is_complete(self) -> bool:
        return self.shards_done == self.shards

    @property
    def residues_per_second(self) -> float | None:
        """The mean rate of one device."""
        return self.residues_folded / self.seconds if self.seconds > 0 else None

    def lines(self) -> list[str]:
        """Return lines for the terminal."""
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        lines = [
            f"model     {self.model}",
            f"records   {self.records:,} in {counted(self.plans, 'plan')}" + (f": {outcomes}" if outcomes else ""),
            f"proteins  {self.folded:,} of {self.proteins:,} folded, {self.failed:,} failed, "
            f"{self.proteins_left:,} left",
            f"shards    {self.shards_done:,} of {self.shards:,} done, {self.shards - self.shards_done:,} left"
            + (f", {self.shards_failed:,} of these with failures" if self.shards_failed else ""),
            f"residues  {self.residues_done:,} of {self.residues:,} done"
            + (f", {self.residues_per_second:,.0f} residues/s per device" if self.residues_per_second else ""),
            f"on disk   {readable_bytes(self.bytes)}",
        ]
        if self.busy_share is not None:
            lines.append(f"busy      {self.busy_share:.0%} of the time devices were folding")
        if any(device.name for device in self.devices):
            lines.append(f"devices   {'; '.join(map(_device_line, self.devices))}")
        if not self.is_complete:
            left = "unknown until a shard is done" if self.seconds_left is None else readable_time(self.seconds_left)
            one = f" of one {self.main_device or 'device'}, as predicted"
            lines.append(f"left      {left}" + ("" if self.seconds_left is None else one))
            lines.append(self._now())
        return [*lines, *(stage.line() for stage in self.stages)]

    def _now(self) -> str:
        if not self.workers:
            return "now       no worker has committed a shard recently"
        workers = f"{counted(self.workers, 'device')} folding"
        ends = "" if self.ends is None else f", until about {self.ends.replace('T', ' ')[:16]} UTC"
        return f"now       {workers}, {self.residues_per_second_now or 0:,.0f} residues/s{ends}"


def _device_line(device: DevicePace) -> str:
    memory = f" ({readable_bytes(device.bytes)})" if device.bytes else ""
    shards = counted(device.shards, "shard")
    return f"{device.name or device.kind}{memory}: {shards}, {device.residues_per_second or 0:,.0f} residues/s"


def status(folder: AtlasFolder, at: datetime.datetime | None = None) -> AtlasStatus:
    """Return the status of an atlas at the time `at`, by default now. Raise NotAnAtlasError and DamagedAtlasError."""
    at = at or datetime.datetime.now(datetime.UTC)
    header, plans, histories = folder.header(), folder.plans(), folder.histories()
    entries = newest_entries(histories)
    shards = [shard for plan in plans for shard in plan.shards]
    left = {shard.name for shard in left_to_fold(folder, plans, entries)}
    done = [shard for shard in shards if shard.name in entries]
    committed = [entries[shard.name] for shard in done]
    outcomes: Counter[str] = Counter()
    for plan in plans:
        outcomes.update(plan.outcomes)
    counts = presence_of(folder, plans, committed) or Presence(
        dict(outcomes),
        sum(plan.proteins for plan in plans),
        sum(entry.folded for entry in committed),
        sum(entry.failed for entry in committed),
        sum(plan.residues for plan in plans),
        sum(shard.residues for shard in done),
    )
    every = [entry for shard in done for entry in histories[shard.name]]
    seconds_left: float | None = 0.0
    pace = ends = None
    first = first_entries(histories)
    device = main_device(first)
    if left:
        predicted = {} if device is None else _predicted_seconds(device, plans, first)
        seconds_left = sum(predicted[name] for name in sorted(left)) if predicted else None
        pace = pace_now(every, predicted, at)
        if seconds_left is not None and pace.devices > 0:
            ends = at + datetime.timedelta(seconds=seconds_left / pace.devices)
    listed = [file for plan in plans for file in (*plan.records, *plan.sequences)]
    listed += [file for entry in committed for file in entry.files.values()]
    stage_runs = all_runs(folder)
    # by path: a run that took rows over may list files of the run that computed them
    listed += {file.path: file for run in stage_runs for _, file in run.listed()}.values()
    return AtlasStatus(
        model=header.settings.model,
        plans=len(plans),
        outcomes=counts.outcomes,
        shards=len(shards),
        shards_done=len(shards) - len(left),
        proteins=counts.proteins,
        folded=counts.folded,
        failed=counts.failed,
        residues=counts.residues,
        residues_done=counts.residues_done,
        cost=sum(plan.cost for plan in plans),
        cost_done=sum(shard.cost for shard in shards if shard.name not in left),
        seconds=sum(entry.run.seconds for entry in every),
        seconds_left=seconds_left,
        residues_folded=sum(entry.residues for entry in every),
        bytes=index_of(folder).size() + sum(file.bytes for file in listed),
        shards_failed=sum(entry.failed > 0 for entry in committed),
        workers=pace.workers if pace is not None else 0,
        residues_per_second_now=pace.residues_per_second if pace is not None and pace.workers else None,
        ends=None if ends is None else ends.isoformat(timespec="seconds"),
        busy_share=busy_share(every),
        runs=tuple(runs_of(every)),
        main_device="" if device is None else device.name,
        devices=tuple(devices_of(every)),
        stages=tuple(stage_status(stage_runs)),
    )


def _predicted_seconds(device: Device, plans: Sequence[Plan], first: Mapping[str, ShardEntry]) -> dict[str, float]:
    """Of each shard, on one such device. `first` are `first_entries`."""
    rate = measured_rate(device.kind, plans, first, device.name)
    shards = [shard for plan in plans for shard in plan.shards]
    return {shard.name: seconds for shard, seconds in zip(shards, rate.seconds(shards), strict=True)}
