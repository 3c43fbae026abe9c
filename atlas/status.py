"""How far an atlas is, from its plans and manifest alone: no Parquet file and no index is opened."""

from collections import Counter
from dataclasses import dataclass

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.atlas.published_index import index_bytes


@dataclass(frozen=True)
class AtlasStatus:
    """What is done and what is left.

    Proteins are distinct sequences of a plan; where plans overlap, what they share is counted in each (the index
    counts it once). `outcomes` are those of planning, by `schemas.records.Outcome`. `seconds` is the time devices
    spent on committed shards, all devices added; `seconds_left` predicts the same for what is left, at that rate,
    and is None before the first shard. `cost` is predicted MFLOP; `bytes` what listed files and the index take.
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
    bytes: int

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
    def seconds_left(self) -> float | None:
        if self.is_complete:
            return 0.0
        return self.seconds * (self.cost - self.cost_done) / self.cost_done if self.cost_done else None

    @property
    def residues_per_second(self) -> float | None:
        """Of one device."""
        return self.residues_done / self.seconds if self.seconds > 0 else None

    def lines(self) -> list[str]:
        """For people: what is done, how fast, and what is left."""
        outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in sorted(self.outcomes.items()))
        lines = [
            f"model     {self.model}",
            f"records   {self.records:,} in {self.plans} plan{'' if self.plans == 1 else 's'}"
            + (f": {outcomes}" if outcomes else ""),
            f"proteins  {self.folded:,} of {self.proteins:,} folded, {self.failed:,} failed, "
            f"{self.proteins_left:,} left",
            f"shards    {self.shards_done:,} of {self.shards:,} done",
            f"residues  {self.residues_done:,} of {self.residues:,} done"
            + (f", {self.residues_per_second:,.0f} residues/s a device" if self.residues_per_second else ""),
            f"on disk   {readable_bytes(self.bytes)}",
        ]
        if not self.is_complete:
            left = "unknown until a shard is done" if self.seconds_left is None else readable_time(self.seconds_left)
            lines.append(f"left      {left}" + ("" if self.seconds_left is None else " of one device, as predicted"))
        return lines


def status(folder: AtlasFolder) -> AtlasStatus:
    """Reads plans and manifest. Raises NotAnAtlasError and DamagedAtlasError."""
    header, plans, entries = folder.header(), folder.plans(), folder.entries()
    shards = [shard for plan in plans for shard in plan.shards]
    done = [shard for shard in shards if shard.name in entries]
    committed = [entries[shard.name] for shard in done]
    outcomes: Counter[str] = Counter()
    for plan in plans:
        outcomes.update(plan.outcomes)
    listed = [file for plan in plans for file in (*plan.records, *plan.sequences)]
    listed += [file for entry in committed for file in entry.files.values()]
    return AtlasStatus(
        model=header.settings.model,
        plans=len(plans),
        outcomes=dict(outcomes),
        shards=len(shards),
        shards_done=len(done),
        proteins=sum(plan.proteins for plan in plans),
        folded=sum(entry.folded for entry in committed),
        failed=sum(entry.failed for entry in committed),
        residues=sum(plan.residues for plan in plans),
        residues_done=sum(shard.residues for shard in done),
        cost=sum(plan.cost for plan in plans),
        cost_done=sum(shard.cost for shard in done),
        seconds=sum(entry.run.seconds for entry in committed),
        bytes=index_bytes(folder) + sum(file.bytes for file in listed),
    )


def readable_bytes(number: int) -> str:
    """`1.2 GB`: decimal units, as disks are sold."""
    value = float(number)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} TB"


def readable_time(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 05 min`."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, rest = divmod(minutes, 60)
    return f"{hours:,} h {rest:02d} min"
