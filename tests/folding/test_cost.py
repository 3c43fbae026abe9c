"""Predicted operations and memory against what torch counts on the real network."""

import contextlib
import copy
import itertools

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.language_heads import ContactHead
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.tokens import encode, encode_language
from foldatlas.folding.planning import cost
from foldatlas.folding.weights import fitting, nano

from .conftest import CONFIGS


@pytest.fixture(scope="module")
def nano_network():
    return fitting.generate(nano.CONFIG)


@pytest.fixture(scope="module")
def half(nano_network):
    """The network of nano's sizes in bfloat16."""
    network = copy.deepcopy(nano_network)
    precision.BF16.apply(network)
    return network


@pytest.fixture(params=["nano_network", *CONFIGS])
def network(request):
    """A network of nano's sizes, then those of the other tests."""
    made = request.getfixturevalue(request.param)
    return getattr(made, "network", made)


@pytest.fixture(params=["nano_network", "half", *(pytest.param(name, marks=pytest.mark.long) for name in CONFIGS)])
def any_precision(request):
    """As `network`, and one in bfloat16."""
    made = request.getfixturevalue(request.param)
    return getattr(made, "network", made)


NOTHING = OutputFlags()
PAE = OutputFlags(pae=True)
LOGITS = OutputFlags(distogram_logits=True, pae_logits=True)


def run(network, num_proteins, length, recycles, rows=None, wanted=NOTHING):
    with torch.inference_mode():
        network(encode(["A" * length] * num_proteins), recycles=recycles, outputs=wanted, rows=rows)


@contextlib.contextmanager
def counted():
    """Yield torch's counter. It counts no operations of fused attention, so attention is computed in its parts."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.inference_mode():
        yield counter


@pytest.mark.parametrize(("length", "recycles"), [(40, 0), (40, 3), (96, 1), (160, 0)])
def test_operations_are_those_that_torch_counts(network, length, recycles):
    on_meta = copy.deepcopy(network).to("meta")  # operations are counted and not carried out
    with counted() as counter:
        on_meta(encode(["A" * length], "meta"), recycles=recycles, outputs=NOTHING)
    predicted = cost.mflop(network.config, length, recycles)
    assert predicted == pytest.approx(counter.get_total_flops() / 1e6, rel=0.01, abs=1)


@pytest.mark.parametrize("length", [64, 200])
def test_language_model_operations_equal_torchs_count(network, length):
    model = copy.deepcopy(network.esm).to("meta")
    with counted() as counter:
        for _ in model.hidden_states(encode_language(["A" * length], "meta")):
            pass
    predicted = cost.language_mflop(network.config.language_model, length)
    assert predicted == pytest.approx(counter.get_total_flops() / 1e6, rel=0.01, abs=1)


def peak_bytes(network, num_proteins, length, rows, wanted):
    """Most memory allocated at once, by torch's own records of each allocation."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        run(network, num_proteins, length, 1, rows, wanted)
    events = profiler.profiler.kineto_results.events()
    return max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))


@pytest.mark.parametrize(
    ("num_proteins", "length", "rows", "wanted"),
    [
        (1, 64, 64, NOTHING),
        (1, 150, 150, NOTHING),
        (1, 150, 15, NOTHING),
        (3, 80, 10, NOTHING),
        (1, 150, 15, PAE),
        (1, 150, 15, LOGITS),
        (3, 80, 80, LOGITS),
    ],
)
def test_memory_is_enough_and_not_wasted(any_precision, num_proteins, length, rows, wanted):
    network = any_precision
    # Outside torch's records: the outputs beside their copies, when the pair representation is gone.
    copying = 2 * wanted.pair_bytes * num_proteins * length**2
    measured = max(peak_bytes(network, num_proteins, length, rows, wanted), copying)
    predicted = cost.peak_bytes(
        network.config,
        num_proteins,
        length,
        precision=network.precision,
        rows=rows,
        pair_output_bytes=wanted.pair_bytes,
    )
    assert measured <= predicted <= 2 * measured


@pytest.mark.parametrize(("num_proteins", "length", "heads"), [(1, 150, 8), (1, 150, 1), (3, 90, 4), (1, 300, 3)])
def test_memory_of_contacts_is_enough_and_not_wasted(num_proteins, length, heads):
    sizes = LanguageModelConfig(num_layers=3, width=64, num_heads=8, transition_width=128)
    model, head = LanguageModel(sizes).eval(), ContactHead(sizes).eval()
    tokens = encode_language(["A" * length] * num_proteins)
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        head(tokens, model.attention_maps(tokens, heads))
    events = profiler.profiler.kineto_results.events()
    measured = max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))
    assert measured <= cost.contact_bytes(sizes, num_proteins, length, heads) <= 2 * measured


def test_the_head_of_the_aligned_error_holds_only_rows(nano_network):
    """What PAE adds to the peak of the heads: 4 bytes a pair, where its logits would add 256."""
    pair = torch.zeros(1, 300, 300, nano_network.config.trunk.pair_width)
    batch = encode(["A" * 300])

    def peak(wanted):
        with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            nano_network._aligned_errors(pair, batch, wanted, rows=5)
        events = profiler.profiler.kineto_results.events()
        return max(itertools.accumulate(event.nbytes() for event in events if event.name() == "[memory]"))

    without = peak(NOTHING)
    assert without <= 3 * 5 * 300 * 64 * 4
    assert peak(PAE) == without + PAE.pair_bytes * 300 * 300
    assert PAE.pair_bytes == 4 and LOGITS.pair_bytes == 512


def test_cost_is_an_integer_that_grows(nano_network):
    costs = [cost.mflop(nano_network.config, length, 3) for length in range(1, 300)]
    assert all(type(value) is int and value > 0 for value in costs)
    assert costs == sorted(set(costs))
