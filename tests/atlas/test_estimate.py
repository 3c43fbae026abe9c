"""Wall time, bytes and money of a plan, against a slower way of counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.atlas.forecast.device_rates import Rate, default_rate
from foldatlas.atlas.forecast.estimate import estimate, makespan
from foldatlas.atlas.forecast.output_sizes import default_output_bytes
from foldatlas.schemas.manifest import Shard


def shard(cost: int, proteins: int = 10, length: int = 100) -> Shard:
    return Shard("", 0, 0, proteins, proteins * length, length, length, cost, "")


@given(st.lists(st.floats(0.1, 100), max_size=40), st.integers(1, 7))
def test_each_shard_goes_to_the_device_that_is_free_first(seconds: list[float], devices: int) -> None:
    ends = [0.0] * devices
    for each in seconds:
        first = ends.index(min(ends))
        ends[first] += each
    assert makespan(seconds, devices) == pytest.approx(max(ends))


def test_an_estimate_adds_up() -> None:
    shards = [shard(400_000), shard(4_000_000), shard(3_600_000), shard(400_000, proteins=20, length=50)]
    made = estimate(shards, default_rate("cpu"), default_output_bytes(320, ["pae"]), devices=2, price=3.0)
    assert (made.shards, made.fine_shards, made.proteins, made.residues) == (4, 2, 50, 4000)
    assert made.tflop == pytest.approx(8.4)
    assert made.device_seconds == pytest.approx(8_400_000 / 20_000)
    # the two large ones first, 200 s and 180 s, then each device takes a fine one of 20 s
    assert made.wall_seconds == pytest.approx(220)
    assert made.cost == pytest.approx(3.0 * 2 * 220 / 3600)  # a device that waits is paid too
    assert made.bytes == {"structures": 4000 * 34, "scores": 50 * 80, "pae": 30 * 100**2 + 20 * 50**2}
    text = "\n".join(made.lines())
    assert "2 of full size and 2 fine" in text and "by default rates" in text and "CPU-hours" in text
    assert made.as_json()["cost"] == made.cost


def test_a_measured_rate_is_named_and_used() -> None:
    made = estimate([shard(3_600_000)], Rate("cuda", 7, 1000.0), default_output_bytes(320))
    assert made.device_seconds == made.wall_seconds == pytest.approx(3600)
    assert made.cost is None
    text = "\n".join(made.lines())
    assert "1.00 GPU-hours, by 7 shards of this atlas" in text and "cost" not in text
    rate = Rate("cuda", 7, 1000.0, names=("NVIDIA L4", "Tesla T4"))
    mixed = estimate([shard(3_600_000)], rate, default_output_bytes(320))
    assert "by 7 shards of this atlas on NVIDIA L4 and Tesla T4" in "\n".join(mixed.lines())
    assert mixed.as_json()["measured_on"] == ["NVIDIA L4", "Tesla T4"]


def test_nothing_takes_nothing() -> None:
    made = estimate([], default_rate("cuda"), default_output_bytes(320), devices=3, price=1.0)
    assert (made.device_seconds, made.wall_seconds, made.cost, made.total_bytes) == (0.0, 0.0, 0.0, 0)
