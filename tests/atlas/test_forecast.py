"""Speed and bytes from the manifest, against a made-up world whose true speed is known."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import pytest
from manifest_entries import entry_of, made_run

from foldatlas.atlas.forecast.device_rates import (
    DEFAULT_MFLOP_PER_SECOND,
    Device,
    device_names,
    main_device,
    measured_rate,
)
from foldatlas.atlas.forecast.output_sizes import PAIRS, PROTEINS, RESIDUES, default_output_bytes, measured_output_bytes
from foldatlas.schemas.manifest import FileEntry, Plan, Shard, ShardEntry


@dataclass
class World:
    plan: Plan
    entries: dict[str, ShardEntry]


def true_rate(length: float) -> float:
    """MFLOP a second: five times as fast on long proteins as on short ones."""
    return 1e8 * (1 + 4 / (1 + (150 / length) ** 2))


def shard(number: int, length: int, cost: int) -> Shard:
    return Shard(f"plan-{number:05d}", 0, number, 100, 100 * length, length, length, cost, "")


def entry(of: Shard, seconds: float, **changes: object) -> ShardEntry:
    files = {
        "structures": FileEntry("s", 100, 40 * of.residues, ""),
        "scores": FileEntry("c", 100, 50 * of.proteins, ""),
        "pae": FileEntry("p", 100, 3 * of.residues**2 // (4 * of.proteins), ""),
    }
    return entry_of(of, **{"files": files, "run": made_run(device="cuda:1", seconds=seconds), **changes})


def world(
    lengths: Sequence[int], seconds: Callable[[Shard], float], done: Callable[[int], bool] = lambda number: True
) -> World:
    shards = tuple(shard(number, length, 10**10 + 10**6 * length) for number, length in enumerate(lengths))
    totals = [sum(getattr(each, name) for each in shards) for name in ("proteins", "residues", "cost")]
    plan = Plan(1, "plan", "", 1280, (), {}, *totals, (), (), shards)
    return World(plan, {each.name: entry(each, seconds(each)) for n, each in enumerate(shards) if done(n)})


def true_seconds(each: Shard) -> float:
    return each.cost / true_rate(each.residues / each.proteins)


def test_the_time_left_is_predicted_though_some_shards_lie() -> None:
    """Half of 400 shards are measured, to 10 %; one in ten of these took up to a hundred times as long as it should.
    What is left is predicted to 5 %, the rate at lengths that are met often to 20 %."""
    chance = random.Random(5)

    def seconds(each: Shard) -> float:
        slow = chance.uniform(5, 100) if chance.random() < 0.1 else 1.0
        return true_seconds(each) * slow * chance.uniform(0.9, 1.1)

    lengths = sorted((min(max(30, round(chance.lognormvariate(5.1, 0.75))), 1280) for _ in range(400)), reverse=True)
    made = world(lengths, seconds, lambda number: number % 2 == 0)
    left = [shard for shard in made.plan.shards if shard.name not in made.entries]
    assert [each.name for each in left] == [f"plan-{number:05d}" for number in range(1, 400, 2)]
    rate = measured_rate("cuda", [made.plan], made.entries)
    assert sum(rate.seconds(left)) == pytest.approx(sum(map(true_seconds, left)), rel=0.05)
    assert rate.num_shards == 200
    for length in (64, 100, 200, 400, 800):
        assert rate.at(length) == pytest.approx(true_rate(length), rel=0.2)
    assert rate.slowest == pytest.approx(min(rate.at(length) for length in range(1, 5000)))


def test_rate_of_long_proteins_is_used_for_unmeasured_lengths() -> None:
    """Runs begin with the longest: a few such shards set the rate, and lengths without any get it unchanged."""
    made = world([1200, 1190, 1180, 1170, *[50] * 10], true_seconds, lambda number: number < 4)
    rate = measured_rate("cuda", [made.plan], made.entries)
    assert rate.at(1185) == pytest.approx(true_rate(1185), rel=0.02)
    assert rate.at(50) == pytest.approx(rate.typical) == pytest.approx(true_rate(1185), rel=0.02)


def test_between_knots_the_rate_is_between_theirs() -> None:
    made = world([*range(40, 1200, 10)], true_seconds)
    rate = measured_rate("cuda", [made.plan], made.entries)
    for low, high in ((64, 128), (256, 512)):
        middle = rate.at(math.sqrt(low * high))
        assert middle == pytest.approx(math.sqrt(rate.at(low) * rate.at(high)))
    assert rate.at(1) == rate.at(16) and rate.at(1e6) == rate.at(4096)


def test_kinds_of_devices_are_distinguished() -> None:
    made = world([100, 200, 300], lambda each: each.cost / 5e7)
    assert measured_rate("cuda:0", [made.plan], made.entries).typical == pytest.approx(5e7)
    assert measured_rate("cpu", [made.plan], made.entries).typical == DEFAULT_MFLOP_PER_SECOND["cpu"]
    assert measured_rate("cpu", [made.plan], made.entries).num_shards == 0
    assert main_device(made.entries) == Device("cuda", "")


def test_device_models_of_one_kind_are_distinguished() -> None:
    """Two shards by a fast make, three by a slow one, one of before makes were recorded."""
    rates = {"H100": 9e8, "T4": 3e7, "": 3e8}
    makes = ["H100", "T4", "H100", "T4", "T4", ""]
    made = world([200] * 6, lambda each: each.cost / rates[makes[each.row_group]])
    for number, name in enumerate(makes):
        before = made.entries[f"plan-{number:05d}"]
        run = msgspec.structs.replace(before.run, device_name=name)
        made.entries[before.shard] = msgspec.structs.replace(before, run=run)
    plans = [made.plan]
    for name, shards in (("H100", 2), ("T4", 3)):
        rate = measured_rate("cuda", plans, made.entries, name)
        assert (rate.typical, rate.num_shards, rate.names) == (pytest.approx(rates[name]), shards, (name,))
    for unknown in ("", "L40S"):  # what is not measured goes by its kind
        rate = measured_rate("cuda", plans, made.entries, unknown)
        assert (rate.num_shards, rate.names) == (6, ("H100", "T4"))
    assert measured_rate("cpu", plans, made.entries, "T4").num_shards == 0
    assert device_names("cuda:1", made.entries) == ["", "H100", "T4"] and device_names("cpu", made.entries) == []
    assert main_device(made.entries) == Device("cuda", "T4")


def test_without_measurement_nothing_is_predicted() -> None:
    made = world([100, 200], true_seconds, lambda number: False)
    assert main_device({}) is None
    expected = made.plan.cost / DEFAULT_MFLOP_PER_SECOND["cpu"]
    assert sum(measured_rate("cpu", [made.plan], {}).seconds(made.plan.shards)) == pytest.approx(expected)


@pytest.mark.parametrize("change", [{"generation": 1}, {"failed": 11}, {"run": None}])
def test_shards_that_did_other_work_do_not_count(change: dict[str, object]) -> None:
    made = world([100, 200, 300], lambda each: each.cost / 5e7)
    other = made.entries["plan-00001"]
    if "run" in change:
        change = {"run": msgspec.structs.replace(other.run, seconds=0.0)}
    made.entries["plan-00001"] = msgspec.structs.replace(other, **change)
    assert measured_rate("cuda", [made.plan], made.entries).num_shards == 2


def test_measured_bytes_shrink_to_the_default_when_few() -> None:
    """Bytes are measured per table; a small sample moves the default only a little."""
    default = default_output_bytes(320, ["pae", "embeddings"])
    assert default.tables == {"structures": 34.0, "scores": 80.0, "pae": 1.0, "embeddings": 1280.0}
    assert (default.by(RESIDUES), default.by(PROTEINS), default.by(PAIRS)) == (34.0, 1360.0, 1.0)
    one = world([20], true_seconds)
    few = measured_output_bytes(default, [one.plan], one.entries).tables
    assert few["structures"] == pytest.approx((34 * 100_000 + 40 * 2000) / 102_000)
    many = world([500] * 400, true_seconds)
    found = measured_output_bytes(default, [many.plan], many.entries)
    assert found.tables["structures"] == pytest.approx(40, rel=0.01)
    assert found.tables["scores"] == pytest.approx(50, rel=0.02)
    assert found.tables["pae"] == pytest.approx(0.75, rel=0.02)
    assert found.tables["embeddings"] == 1280.0  # of which no shard has any
    of_one = found.of_shard(many.plan.shards[0])
    assert of_one["structures"] == pytest.approx(40 * 50_000, rel=0.01)
    assert of_one["pae"] == pytest.approx(0.75 * 100 * 500**2, rel=0.02)
