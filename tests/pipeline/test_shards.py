"""Cutting a sorted list into shards: whole, in order, and of equal cost in each size class."""

import itertools
from collections import Counter

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from foldatlas.pipeline.planning import cut as shards
from foldatlas.pipeline.planning.cut import FINE_DIVISOR, MIN_SHARDS, Cut, LengthCount, cut_shards


def cost(length: int) -> int:
    return length * length + 5 * length + 1


def histogram(lengths: list[int]) -> list[LengthCount]:
    return [LengthCount(*item) for item in sorted(Counter(lengths).items(), reverse=True)]


def cut(lengths: list[int], rate: float = 1e3) -> list[Cut]:
    return cut_shards(histogram(lengths), cost, lambda length: 34 * length, rate)


LENGTHS = st.lists(st.integers(1, 1280), min_size=1, max_size=300)


@given(lengths=LENGTHS, rate=st.sampled_from([1.0, 1e2, 1e4, 1e9]))
@settings(deadline=None)
def test_shards_hold_every_protein_once_and_say_what_they_cost(lengths: list[int], rate: float) -> None:
    cuts = cut(lengths, rate)
    assert cuts[0].start == 0 and cuts[-1].end == len(lengths)
    assert all(first.end == second.start for first, second in itertools.pairwise(cuts))
    ordered = sorted(lengths, reverse=True)
    for shard in cuts:
        assert shard.end > shard.start
        assert shard.cost == sum(map(cost, ordered[shard.start : shard.end]))
    assert len(cuts) >= min(MIN_SHARDS, len(lengths))


def test_large_runs_are_cut_evenly_with_a_fine_tail() -> None:
    # 200,000 proteins of a metagenome's lengths; 256 full-size shards' worth of work
    lengths = [40 + (number * number * 7919) % 900 for number in range(200_000)]
    total = sum(map(cost, lengths))
    cuts = cut(lengths, rate=total / 256 / 100)
    size = total / 256
    coarse = [shard.cost for shard in cuts if shard.cost > size / 2]
    fine = [shard.cost for shard in cuts if shard.cost <= size / 2]
    one_protein = cost(940)
    for class_, wanted in ((coarse, size), (fine, size / FINE_DIVISOR)):
        mean = sum(class_) / len(class_)
        assert mean == pytest.approx(wanted, rel=0.05)
        assert max(class_) - min(class_) <= max(0.05 * mean, 2 * one_protein)
    assert sum(fine) == pytest.approx(total / FINE_DIVISOR, rel=0.02)
    assert [shard.cost for shard in cuts[len(coarse) :]] == fine  # the fine ones come last


def test_a_shard_writes_no_more_than_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_SHARD_BYTES", 10_000)
    lengths = [100] * 1000
    for shard in cut(lengths, rate=1e12):
        assert (shard.end - shard.start) * 3400 <= 10_000


def test_nothing_makes_no_shards() -> None:
    assert cut_shards([], cost, cost, 1.0) == []


HISTOGRAMS = st.dictionaries(st.integers(1, 1280), st.integers(1, 20_000_000), min_size=1, max_size=60)


@given(counts=HISTOGRAMS, hours=st.sampled_from([0.1, 10.0, 2000.0]))
@settings(deadline=None, max_examples=25, phases=[Phase.explicit, Phase.reuse, Phase.generate])
def test_hundreds_of_millions_of_proteins_are_cut_evenly(counts: dict[int, int], hours: float) -> None:
    """In each size class every shard costs what the others do, to 5 % or the cost of one protein; sizes keep the rules.

    Up to 1.2 billion proteins, on a device that needs so many `hours` for all. The classes are distinguished by cost
    alone: full-size shards hold nine tenths of it.
    """
    bins = [LengthCount(*item) for item in sorted(counts.items(), reverse=True)]
    total = sum(cost(length) * count for length, count in bins)
    rate = total / (3600 * hours)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "MAX_SHARD_BYTES", 1 << 60)  # a limit that cuts a shard short has a test of its own
        cuts = cut_shards(bins, cost, lambda length: length, rate)
    assert cuts[0].start == 0 and cuts[-1].end == sum(counts.values())
    assert all(first.end == second.start for first, second in itertools.pairwise(cuts))
    assert sum(shard.cost for shard in cuts) == total

    longest = cost(bins[0].length)
    before = list(itertools.accumulate((shard.cost for shard in cuts), initial=0))
    boundary = total * (1 - 1 / FINE_DIVISOR) - longest
    coarse = [shard.cost for shard, cost_before in zip(cuts, before, strict=False) if cost_before < boundary]
    fine = [shard.cost for shard in cuts[len(coarse) :]]
    for class_ in (coarse, fine):
        mean = sum(class_) / max(len(class_), 1)
        assert all(abs(each - mean) <= max(0.05 * mean, longest) for each in class_)

    size = min(max(total / 256, 60 * rate), 1800 * rate)  # design.md: total/256, within 1 to 30 minutes
    if len(coarse) > MIN_SHARDS and longest < size / 100:
        assert sum(coarse) / len(coarse) == pytest.approx(size, rel=0.1)
        assert sum(fine) / len(fine) == pytest.approx(size / FINE_DIVISOR, rel=0.15)


def test_the_esm_atlas_makes_some_forty_thousand_shards() -> None:
    """617 M proteins of a metagenome on one H100's worth of speed each: design.md's number, in a moment."""
    bins = [LengthCount(length, round(617e6 * 2 / 1250 * (1 - (length - 30) / 1250))) for length in range(1279, 29, -1)]
    total = sum(cost(length) * count for length, count in bins)
    cuts = cut_shards(bins, cost, lambda length: 34 * length + 80, mflop_per_second=total / 617e6 / 0.1)
    assert sum(shard.end - shard.start for shard in cuts) == sum(bin_.proteins for bin_ in bins)
    assert 35_000 < len(cuts) < 90_000
    assert all((shard.end - shard.start) * 34 * 30 <= shards.MAX_SHARD_BYTES for shard in cuts)
