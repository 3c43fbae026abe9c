"""Predicted operations and memory against what torch counts on the real network."""

import copy
import itertools
import math

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from foldatlas.folding import cost, precision, weights
from foldatlas.folding.esmfold import Wanted
from foldatlas.folding.tokens import encode


@pytest.fixture(scope="module")
def nano_network():
    return weights.generate_nano()


def run(network, num_proteins, length, recycles, rows=None):
    with torch.inference_mode():
        network(encode(["A" * length] * num_proteins), recycles=recycles, wanted=Wanted(), rows=rows)


def onednn_operations(x_shape, weight_shape, *arguments, **keywords):
    """What torch's counter does not know of linear.py."""
    return 2 * math.prod(x_shape) * weight_shape[0]


@pytest.mark.parametrize(("length", "recycles"), [(64, 0), (64, 3), (128, 1), (256, 0)])
def test_operations_are_those_that_torch_counts(nano_network, pair, length, recycles):
    for network in (nano_network, pair.network):
        # torch counts no operations of its fused attention on a CPU, so attention is computed in its parts.
        counter = FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: onednn_operations})
        with counter, sdpa_kernel(SDPBackend.MATH):
            run(network, 1, length, recycles)
        predicted = cost.mflop(network.config, length, recycles)
        assert predicted == pytest.approx(counter.get_total_flops() / 1e6, rel=0.01, abs=1)


def peak_bytes(network, num_proteins, length, rows):
    """Most memory allocated at once, by torch's own records of each allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run(network, num_proteins, length, 1, rows)
    events = profiler.profiler.kineto_results.events()
    return max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))


@pytest.mark.parametrize(("num_proteins", "length", "rows"), [(1, 64, 64), (1, 200, 200), (1, 200, 20), (3, 100, 10)])
def test_memory_is_enough_and_not_wasted(nano_network, pair, num_proteins, length, rows):
    half = copy.deepcopy(nano_network)
    precision.BF16.apply(half)
    for network in (nano_network, pair.network, half):
        measured = peak_bytes(network, num_proteins, length, rows)
        predicted = cost.peak_bytes(network.config, num_proteins, length, precision=network.precision, rows=rows)
        assert measured <= predicted <= 2 * measured


def test_cost_is_an_integer_that_grows(nano_network):
    costs = [cost.mflop(nano_network.config, length, 3) for length in range(1, 300)]
    assert all(type(value) is int and value > 0 for value in costs)
    assert costs == sorted(set(costs))
