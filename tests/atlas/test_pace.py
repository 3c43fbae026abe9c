"""How fast, from made-up manifests, against sums made by hand."""

import datetime

import pytest
from manifest_entries import made_entry

from foldatlas.atlas.forecast import pace
from foldatlas.atlas.forecast.pace import DevicePace, Pace, busy_share, devices_of, pace_now, runs_of
from foldatlas.schemas.manifest import Run, ShardEntry

NOON = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)


def entry(
    worker: str,
    started: float,
    seconds: float,
    *,
    residues: int = 1000,
    busy: float = 0.0,
    run: str = "run",
    generation: int = 0,
    name: str = "",
    memory: int = 0,
) -> ShardEntry:
    """An entry of `worker`, begun `started` seconds after noon."""
    begin = (NOON + datetime.timedelta(seconds=started)).isoformat(timespec="milliseconds")
    return made_entry(
        shard=f"p-{started}",
        generation=generation,
        attempt=f"{worker}_17_abcd",
        residues=residues,
        cost=500,
        run=Run(run, worker, "cuda", "0", begin, seconds, busy, name, memory),
    )


def at(seconds: float) -> datetime.datetime:
    return NOON + datetime.timedelta(seconds=seconds)


def test_the_pace_is_the_sum_of_the_workers_at_work() -> None:
    entries = [
        entry("a", 0, 100),
        entry("a", 2_000, 100, residues=3_000),  # the only one of a's last ten minutes
        entry("b", 1_900, 300, residues=600),
    ]
    # a is as fast as a device was predicted to be, b a third of it
    predicted = {"p-0": 7.0, "p-2000": 100.0, "p-1900": 100.0}
    assert pace_now(entries, predicted, at(2_250)) == Pace(2, 3_000 / 100 + 600 / 300, 1 + 1 / 3)
    # a has been silent for longer than ten minutes and two of its shards, b not yet
    assert pace_now(entries, predicted, at(2_100 + 600 + 200 + 1)) == Pace(1, 2.0, 1 / 3)
    assert pace_now(entries, predicted, at(10_000)) == Pace(0, 0.0, 0.0)
    assert pace_now([], {}, at(0)) == Pace(0, 0.0, 0.0)


def test_worker_on_a_long_shard_counts_as_at_work() -> None:
    """A worker may stay silent for ten minutes and twice the time of its last shard."""
    long = [entry("a", 0, 1_800, residues=18_000)]
    assert pace_now(long, {"p-0": 1.0}, at(1_800 + pace.RECENT_SECONDS + 1_000)).residues_per_second == 10
    assert pace_now(long, {"p-0": 1.0}, at(-60)).workers == 1  # its clock goes before the reader's


def test_additions_and_retries_do_not_change_the_pace() -> None:
    entries = [entry("a", 0, 10), entry("a", 10, 10, residues=40, generation=1)]
    assert pace_now(entries, {"p-0": 20.0, "p-10": 20.0}, at(20)) == Pace(1, 1_040 / 20, 2.0)


def test_runs_and_how_busy_their_devices_were() -> None:
    entries = [
        entry("a", 100, 100, busy=90, run="second"),
        entry("a", 300, 100, busy=90, run="second"),  # 100 s idle before it
        entry("b", 100, 100, busy=70, run="second"),
        entry("a", 0, 50, run="first"),
    ]
    first, second = runs_of(entries)
    assert (first.run_id, first.workers, first.shards, first.busy_share) == ("first", 1, 1, None)
    assert first.residues_per_second == 20
    assert (second.workers, second.shards, second.seconds) == (2, 3, 300)
    assert second.busy_share == pytest.approx(250 / (300 + 100))
    assert (second.started, second.ended) == ("2026-11-01T12:01:40+00:00", "2026-11-01T12:06:40+00:00")
    assert busy_share(entries) == pytest.approx(250 / 300)
    assert busy_share(entries[3:]) is None


def test_makes_of_devices_and_what_each_did() -> None:
    entries = [
        entry("a", 0, 100, name="T4", memory=16),
        entry("b", 0, 50, name="T4", memory=15),
        entry("b", 60, 10, residues=9_000, name="H100", memory=80),
        entry("c", 0, 10),
    ]
    assert devices_of(entries) == [
        DevicePace("cuda", "H100", 80, 1, 1, 9_000, 10.0, 900.0),
        DevicePace("cuda", "T4", 15, 2, 2, 2_000, 150.0, 2_000 / 150),
        DevicePace("cuda", "", 0, 1, 1, 1_000, 10.0, 100.0),
    ]
    (run,) = runs_of(entries)
    assert run.devices == ("H100", "T4", "cuda")
