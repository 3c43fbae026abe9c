"""CUDA graphs of trunk passes, without CUDA: a recorder that repeats torch's operations on the same memory.

As in a CUDA graph, an address, a shape or a number that the host read while recording is what it was then in every run.
"""

import logging
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foldatlas.folding.multimer import encode_complexes
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.graphs import PassGraphs, graphs_on, padded_proteins
from foldatlas.folding.network.tokens import encode, language_tokens, widened
from foldatlas.folding.planning import cost, memory
from foldatlas.folding.planning.buckets import MAX_GRAPH_LENGTH
from foldatlas.folding.stages import FoldingStages
from foldatlas.schemas.errors import OutOfMemory

FLAGS = OutputFlags(mean_embedding=True, pae=True)
FIELDS = ("positions_BLA3", "plddt_BL", "ptm_B", "mean_embedding_BD", "pae_BLL")
FIRST, SECOND, THIRD = ["MKTAYIAKQRQISF", "ACDEFGH"], ["GSHMRSLEVQAPILSR", "MKV"], ["WWWWWWWWW", "ACDY"]


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class WithoutHost(TorchFunctionMode):
    """Fails at functions that copy to or from the host."""

    FORBIDDEN = ("tensor", "as_tensor", "from_numpy", "new_tensor", "item", "tolist", "cpu", "numpy", "__bool__")

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert getattr(func, "__name__", "") not in self.FORBIDDEN, func
        return func(*args, **(kwargs or {}))


class OnDevice(TorchDispatchMode):
    """Fails at what a CUDA graph cannot hold: values read by the host, shapes that depend on values, host copies."""

    FORBIDDEN = ("_local_scalar_dense", "item", "nonzero", "masked_select", "unique", "is_nonzero", "equal")

    def __enter__(self) -> "OnDevice":
        self.without_host = WithoutHost()
        self.without_host.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.without_host.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert not name.startswith(self.FORBIDDEN), name
        result = func(*args, **(kwargs or {}))
        given = tensors((args, kwargs))
        # Numbers of Python become tensors without axes on the host, which are arguments of a launch.
        assert all(tensor.device.type == "meta" or tensor.ndim == 0 for tensor in given), f"{name} reads the host"
        assert all(tensor.device.type == "meta" for tensor in tensors(result)), f"{name} writes to the host"
        if name.startswith("index"):
            assert all(tensor.dtype != torch.bool for tensor in given[1:]), f"{name} by a mask"
        return result


class Tape(TorchDispatchMode):
    """Records operations. `recording` are those that run on memory of the recording alone."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.steps.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, recorded in self.steps:
            for old, new in zip(tensors(recorded), tensors(func(*args, **kwargs)), strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class TapeRecorder:
    """Recorder of PassGraphs. The operations have an effect while they are recorded: their memory is cleared after."""

    def __init__(self) -> None:
        self.bytes = 0
        self.replays = 0
        self.cleared = 0
        self.error: Exception | None = None

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if self.error is not None:
            raise self.error
        with Tape() as tape:
            result = function()
        self.bytes += 1000

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return result, replay

    def clear(self) -> None:
        self.bytes = 0
        self.cleared += 1


@pytest.fixture
def graphs(two_blocks) -> Iterator[PassGraphs]:
    made = PassGraphs(TapeRecorder(), 10**9)
    two_blocks.network.trunk.graphs = made
    yield made
    two_blocks.network.trunk.graphs = None


def fold(network, sequences, recycles=3, rows=16, length=16, **options):
    batch = widened(encode_complexes([[sequence] for sequence in sequences]), len(sequences), length)
    with torch.inference_mode():
        output = network(batch, recycles=recycles, outputs=FLAGS, rows=rows, **options)
    return {name: getattr(output, name).clone() for name in FIELDS}


def test_pass_reads_nothing_from_the_device(two_blocks):
    """Neither a pass, nor what comes before and after it. A first pass makes constants, as before a recording."""
    network, batch = deepcopy(two_blocks.network).to("meta"), encode(["ACDEF", "MK"], "meta")
    single_BLC = torch.empty(2, 5, network.config.trunk.single_width, device="meta")
    pair_BLLZ = torch.empty(2, 5, 5, network.config.trunk.pair_width, device="meta")
    with torch.inference_mode():
        tokens_BT = language_tokens(batch)
        weights_N = network.esm_s_combine.softmax(dim=0)
        network.trunk._pass(single_BLC, pair_BLLZ, batch.mask_BL, 5)
        with OnDevice():
            network.trunk._pass(single_BLC, pair_BLLZ, batch.mask_BL, 5)
            network.esm(tokens_BT, weights_N)
            found = network.trunk(single_BLC, batch.aatype_BL, batch.mask_BL, 1, 5)
            network.trunk.structure_module.atoms(
                found.backbone, found.state_BLC, found.initial_state_BLC, batch.aatype_BL
            )
            network._aligned_errors(found.pair_BLLZ, batch, FLAGS, 5)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x: x.new_tensor([1.0, 2.0]),
        lambda x: x[torch.ones(3, dtype=torch.bool, device="meta")],
        lambda x: x.cpu(),
    ],
)
def test_what_a_graph_cannot_hold_is_found(operation):
    with pytest.raises((AssertionError, NotImplementedError)), OnDevice():
        operation(torch.ones(3, device="meta"))


def test_graphs_change_nothing(two_blocks, graphs):
    """Other sequences and masks on the memory of a recording: the same bits as without graphs."""
    network, recorder = two_blocks.network, graphs._recorder
    network.trunk.graphs = None
    expected = [fold(network, sequences) for sequences in (FIRST, SECOND, THIRD)]
    network.trunk.graphs = graphs
    replays = []
    for sequences, of_sequences in zip((FIRST, SECOND, THIRD), expected, strict=True):
        found = fold(network, sequences)
        replays.append(recorder.replays)
        for name in FIELDS:
            assert torch.equal(found[name], of_sequences[name]), name
    assert replays == [0, 4, 8], "the first batch runs without a graph, and compiles kernels"
    assert graphs.shapes == [(2, 16)]


def test_early_stop_with_graphs_changes_nothing(two_blocks, graphs):
    """Finished proteins stay in the batch until half of it is finished, so that few shapes are recorded."""
    sequences = [*FIRST, *SECOND, *THIRD]
    two_blocks.network.trunk.graphs = None
    expected = fold(two_blocks.network, sequences, recycles=5, recycle_tolerance=4.0)
    two_blocks.network.trunk.graphs = graphs
    for _ in range(4):
        found = fold(two_blocks.network, sequences, recycles=5, recycle_tolerance=4.0)
        for name in FIELDS:
            torch.testing.assert_close(found[name], expected[name], atol=2e-3, rtol=0)
    assert graphs._recorder.replays and {proteins for proteins, _ in graphs.shapes} <= {6, 3, 2, 1}


def test_batch_is_reduced_by_halves_where_there_are_graphs(graphs):
    assert [graphs.reduced(10, 16, needed) for needed in (10, 6, 5, 4, 3, 2, 1)] == [10, 10, 5, 5, 3, 2, 1]
    assert graphs.reduced(10, MAX_GRAPH_LENGTH + 1, 7) == 7


def test_only_whole_short_batches_without_gradients_have_graphs(two_blocks, graphs):
    for _ in range(3):
        fold(two_blocks.network, FIRST, rows=7)
    tall = torch.zeros(1, MAX_GRAPH_LENGTH + 1, 2)
    for _ in range(9):
        graphs.run(lambda single, pair: pair, tall, tall)
    two_blocks.network(encode(FIRST), recycles=0, outputs=OutputFlags(), rows=14)
    assert graphs.shapes == [] and not graphs._seen.keys() & {(2, 14), (2, 16)}


def test_failed_recording_is_logged_and_folds_without_graphs(two_blocks, graphs, caplog):
    expected = fold(two_blocks.network, FIRST)
    graphs._recorder.error = RuntimeError("operation not permitted\nwhen stream is capturing")
    for _ in range(2):
        found = fold(two_blocks.network, FIRST)
        assert torch.equal(found["positions_BLA3"], expected["positions_BLA3"])
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "no CUDA graph of 2 proteins of 16 residues, passes run without graphs from now on: RuntimeError" in (
        record.message
    )


def run(graphs: PassGraphs, proteins: int, length: int, times: int) -> None:
    for _ in range(times):
        graphs.run(lambda single, pair: pair.add_(single), torch.ones(proteins, length), torch.ones(proteins, length))


def test_memory_of_buffers_is_limited():
    """The graph that was not used for longest is dropped; a batch that is too large has none."""
    graphs = PassGraphs(TapeRecorder(), most_bytes=2 * 2 * 4 * 16)
    for length in (8, 16, 8):
        run(graphs, 1, length, 5)
    assert graphs.shapes == [(1, 16), (1, 8)]
    run(graphs, 1, 24, 5)
    assert graphs.shapes == [(1, 8), (1, 24)]
    run(graphs, 1, 40, 5)
    assert graphs.shapes == [(1, 8), (1, 24)]


def end_of_a_recording_without_memory() -> RuntimeError:
    error = RuntimeError("operation failed due to a previous error during capture")
    error.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    return error


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), end_of_a_recording_without_memory()])
def test_exhausted_memory_drops_graphs_but_does_not_end_them(error, caplog):
    graphs = PassGraphs(TapeRecorder(), 10**9)
    run(graphs, 1, 8, 5)
    graphs._recorder.error = error
    run(graphs, 1, 16, 5)
    assert graphs.shapes == [] and graphs.bytes == 0
    assert f"the others are dropped: {type(error).__name__}" in caplog.text
    graphs._recorder.error = None
    run(graphs, 1, 8, 4)
    assert graphs.shapes == []
    run(graphs, 1, 8, 1)
    assert graphs.shapes == [(1, 8)]


def test_graphs_are_dropped_before_a_batch_is_refused(two_blocks, graphs, monkeypatch):
    """Memory of graphs, which torch counts as free, is not planned with; without it the batch fits."""
    fold(two_blocks.network, FIRST)
    fold(two_blocks.network, FIRST)
    assert graphs.shapes and graphs.bytes == 1000
    rows = cost.preferred_rows(two_blocks.network.config, 2, 16, "cpu")
    needed = cost.peak_bytes(two_blocks.network.config, 2, 16, rows=rows, pair_output_bytes=FLAGS.pair_bytes)
    monkeypatch.setattr(memory, "free_bytes", lambda device, enough=None: needed + 1000)
    fold(two_blocks.network, FIRST, rows=None)
    assert graphs.shapes
    monkeypatch.setattr(memory, "free_bytes", lambda device, enough=None: needed + 999)
    fold(two_blocks.network, FIRST, rows=None)
    assert graphs._recorder.cleared == 1


def test_fold_batch_uses_and_drops_graphs(two_blocks, graphs, monkeypatch):
    from foldatlas.folding.predictor import Predictor
    from foldatlas.schemas.records import Settings

    predictor = Predictor(two_blocks.network, Settings("two_blocks", "none", 3, "fp32"))
    two_blocks.network.trunk.graphs = None
    expected = [predictor.fold_batch(sequences) for sequences in (FIRST, ["ACDE:WWW", "MKV"])]
    two_blocks.network.trunk.graphs = graphs
    run(graphs, 2, 16, 5)
    graphs._seen.clear()
    graphs._recordings.clear()
    for _ in range(3):
        for sequences, predictions in zip((FIRST, ["ACDE:WWW", "MKV"]), expected, strict=True):
            for one, of_one in zip(predictor.fold_batch(sequences), predictions, strict=True):
                assert abs(one.positions - of_one.positions).max() < 1e-3
                assert one.chain_lengths == of_one.chain_lengths
    assert graphs.shapes == [(2, 16), (2, 32)]

    def exhausted(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError

    stages = FoldingStages(two_blocks.network, 3)
    monkeypatch.setattr(two_blocks.network.trunk.structure_module, "atoms", exhausted)
    with pytest.raises(OutOfMemory):
        predictor.fold_batch(FIRST)
    assert graphs.shapes == []
    run(graphs, 3, 8, 5)
    with pytest.raises(OutOfMemory):
        stages.compute(stages.prepare(FIRST))
    assert graphs.shapes == []


def test_stages_use_a_graph_of_more_proteins(two_blocks, graphs):
    """A batch of 8 proteins on a graph of 9: the same predictions as without."""
    stages, sequences = FoldingStages(two_blocks.network, 0), [f"ACDE{letter * 4}" for letter in "GHIKLMNP"]
    two_blocks.network.trunk.graphs = None
    expected = stages.collect(stages.compute(stages.prepare(sequences)))
    two_blocks.network.trunk.graphs = graphs
    for _ in range(5):
        fold(two_blocks.network, [*sequences, "MKT"], recycles=0, length=8)
    assert graphs.shapes == [(9, 8)] and graphs._recorder.replays == 1
    found = stages.collect(stages.compute(stages.prepare(sequences)))
    assert graphs._recorder.replays == 2
    for one, of_one in zip(found, expected, strict=True):
        assert one.sequence == of_one.sequence and abs(one.coordinates - of_one.coordinates).max() <= 2


def test_padding_joins_a_graph_that_is_little_larger():
    assert padded_proteins(16, [15, 17, 18, 19]) == 17
    assert padded_proteins(16, [15, 19]) == 16
    assert padded_proteins(7, [8]) == 7
    assert padded_proteins(1, []) == 1
    graphs = PassGraphs(TapeRecorder(), 10**9)
    assert graphs.padded(16, 9) == (16, 16)
    run(graphs, 17, 16, 5)
    assert graphs.padded(16, 9) == (17, 16) and graphs.padded(16, 17) == (16, 24)


def test_added_proteins_have_one_residue():
    batch = widened(encode_complexes([["AC", "D"], ["MKT"]]), 4, 40)
    assert batch.mask_BL.sum(dim=1).tolist() == [28, 3, 1, 1] == list(batch.lengths)
    assert batch.is_residue_BL.sum(dim=1).tolist() == [3, 3, 1, 1]
    assert batch.aatype_BL.shape == batch.residue_index_BL.shape == (4, 40)


def test_graphs_are_for_gpus_alone(monkeypatch):
    assert graphs_on("cpu") is None
    monkeypatch.setenv("FOLDATLAS_GRAPHS", "off")
    assert graphs_on("cuda:0") is None
