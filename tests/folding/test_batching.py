"""Batches hold every protein once, in order, within both limits, and are as large as the limits allow."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldatlas.folding.planning import cost
from foldatlas.folding.planning.batching import cut_into_batches, padded_length
from foldatlas.folding.planning.buckets import MAX_GRAPH_LENGTH, bucket, has_graph
from foldatlas.folding.weights import nano

RECYCLES = 3


def cut(lengths, budget_mflop, memory_limit):
    return cut_into_batches(
        lengths, config=nano.CONFIG, recycles=RECYCLES, budget_mflop=budget_mflop, memory_limit=memory_limit
    )


def fits(num_proteins, longest, budget_mflop, memory_limit):
    return (
        num_proteins * cost.mflop(nano.CONFIG, longest, RECYCLES) <= budget_mflop
        and cost.peak_bytes(nano.CONFIG, num_proteins, longest) <= memory_limit
    )


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(1, 400), max_size=60).map(sorted),
    budget_mflop=st.integers(1, 10**6),
    memory_limit=st.integers(1, 10**9),
)
def test_batches(lengths, budget_mflop, memory_limit):
    batches = cut(lengths, budget_mflop, memory_limit)
    assert [index for batch in batches for index in batch] == list(range(len(lengths)))
    assert all(batches), "no batch is empty"
    for batch in batches:
        assert len(batch) == 1 or fits(len(batch), lengths[batch[-1]], budget_mflop, memory_limit)
    for batch, following in pairwise(batches):
        assert not fits(len(batch) + 1, lengths[following[0]], budget_mflop, memory_limit), "one more would fit"
    assert batches == cut(lengths, budget_mflop, memory_limit)


def test_limits_are_reached_and_not_passed():
    lengths = [100] * 12
    one, plenty = cost.mflop(nano.CONFIG, 100, RECYCLES), 10**12
    assert cut(lengths, 4 * one, plenty) == [range(4), range(4, 8), range(8, 12)]
    assert cut(lengths, 4 * one - 1, plenty) == [range(3), range(3, 6), range(6, 9), range(9, 12)]
    four = cost.peak_bytes(nano.CONFIG, 4, 100)
    assert cut(lengths, plenty, four) == [range(4), range(4, 8), range(8, 12)]
    assert cut(lengths, plenty, four - 1) == [range(3), range(3, 6), range(6, 9), range(9, 12)]


def test_batch_fits_the_grid_of_a_kernel():
    found = cut([1] * 5000, 10**9, 10**15)
    assert [len(batch) for batch in found] == [2048, 2048, 904]


def test_a_protein_beyond_the_budget_is_a_batch_of_its_own():
    assert cut([10, 10, 900, 901], budget_mflop=10_000, memory_limit=10**9) == [range(2), range(2, 3), range(3, 4)]


def test_no_proteins_give_no_batches():
    assert cut([], 1, 1) == []


def test_unsorted_lengths_are_refused():
    with pytest.raises(ValueError, match="decrease from 20 to 10 at index 2"):
        cut([5, 20, 10], 10_000, 10**9)
    with pytest.raises(ValueError, match="0 residues"):
        cut([0, 10], 10_000, 10**9)


def test_buckets_are_whole_steps_and_hold_their_lengths():
    assert [bucket(length) for length in (1, 8, 9, 250, 257)] == [8, 8, 16, 256, 264]
    assert all(length <= bucket(length) < length + 8 for length in range(1, 3000))
    assert has_graph(MAX_GRAPH_LENGTH) and not has_graph(MAX_GRAPH_LENGTH + 1)
    with pytest.raises(ValueError, match="0 residues"):
        bucket(0)


def test_batch_on_a_gpu_costs_its_padded_length():
    """Three proteins of 33 fit the budget as they are, two when they are padded to 40."""
    budget, lengths = 3 * cost.mflop(nano.CONFIG, 33, RECYCLES), [33, 33, 33]
    assert 2 * cost.mflop(nano.CONFIG, 40, RECYCLES) <= budget < 3 * cost.mflop(nano.CONFIG, 40, RECYCLES)
    options = {"config": nano.CONFIG, "recycles": RECYCLES, "budget_mflop": budget, "memory_limit": 10**9}
    assert cut_into_batches(lengths, **options, padded=padded_length("cpu")) == [range(3)]
    assert cut_into_batches(lengths, **options, padded=padded_length("cuda")) == [range(2), range(2, 3)]
