"""The network on a GPU: kernels against float64, and structures against the CPU. Run by scripts/gpu-check.

Everything needed is in this file, so that it runs with `--noconftest` on a machine with torch, Triton, numpy and
pytest. FOLDATLAS_CHECK_DEVICE=cpu runs the same tests on a CPU, with the kernels, in float32, in Triton's interpreter
(TRITON_INTERPRET=1) as far as it is fast enough.
"""

import importlib.util
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import numpy as np
import pytest
import torch

from foldatlas.folding.models import load
from foldatlas.folding.network.esmfold import OutputFlags
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.kernels.policy import ATTENTION, TO_SEQUENCE, UPDATES, Case
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.planning.buckets import bucket
from foldatlas.folding.predictor import Predictor
from foldatlas.folding.stages import ComputedBatch, PreparedBatch
from foldatlas.schemas.errors import OutOfMemory

DEVICE = os.environ.get("FOLDATLAS_CHECK_DEVICE", "cuda")
ON_GPU = DEVICE.startswith("cuda")
DTYPE = torch.bfloat16 if ON_GPU else torch.float32
LENGTHS = (1, 31, 33, 64, 72, 100, 129, 257) if ON_GPU else (1, 8, 9)
WIDTHS = ((32, 2), (64, 2), (128, 4), (256, 8)) if ON_GPU else ((32, 2),)
MOST_ERROR = 1e-2 if ON_GPU else 2e-6
SEQUENCES = (
    "MKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
    "GSHMRSLEVQAPILSRVGDGTQDNLSGAEKAVQVKVKAL",
    "M",
    "ACDEFGHIKLMNPQRSTVWYX",
)
needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(ON_GPU and not torch.cuda.is_available(), reason="no GPU"),
]


@pytest.fixture(scope="module")
def on_cpu() -> Predictor:
    return load("nano")


@pytest.fixture(scope="module")
def on_device() -> Predictor:
    return load("nano", device=DEVICE)


@pytest.fixture(scope="module")
def in_bf16() -> Iterator[Predictor]:
    yield load("nano", device=DEVICE, precision="bf16")


@needs_triton
@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(("width", "heads"), WIDTHS)
def test_kernels_against_float64(update: str, width: int, heads: int) -> None:
    """Every direction, random masks, a protein without residues, whole and in chunks of rows."""
    if not ON_GPU and update == ATTENTION and version("triton") < "3.7":
        pytest.skip("Triton 3.6 cannot interpret a loop over a length with numpy 2.4")
    case = Case(DEVICE, DTYPE, width, 32 if update == TO_SEQUENCE else heads)
    case_layers = self_check.layers(update, case)
    for length in LENGTHS:
        mask_BL = torch.rand(3, length, generator=torch.Generator().manual_seed(length)) < 0.7
        mask_BL[:2, 0] = True
        mask_BL[2] = False
        for number, layer in enumerate(case_layers):
            rows = length if number else length // 2 + 1
            with torch.inference_mode():
                kernel, plain = self_check.errors(update, layer, case, mask_BL, rows, torch.float64)
            print(f"{update} {width} channels, {length} residues: kernel {kernel:.2g}, plain torch {plain:.2g}")
            assert kernel < MOST_ERROR, f"{update}, {length} residues: {kernel}, plain torch {plain}"


@needs_triton
@pytest.mark.skipif(not ON_GPU, reason="kernels are not chosen on a CPU")
def test_this_gpu_uses_every_kernel() -> None:
    for width, heads in WIDTHS:
        for update in UPDATES:
            device = f"{DEVICE}:0" if ":" not in DEVICE else DEVICE
            case = Case(device, DTYPE, width, 32 if update == TO_SEQUENCE else heads)
            assert policy.can_run(update, case)
            assert self_check.disagreement(update, case) is None


@pytest.mark.skipif(not ON_GPU, reason="variable-length attention needs a GPU")
@pytest.mark.parametrize(("width", "heads"), [(16, 20), (64, 40)])
def test_this_gpu_attends_to_packed_sequences_in_one_call(width: int, heads: int) -> None:
    case = Case(DEVICE, torch.bfloat16, width, heads)
    assert policy.can_attend_in_one_call(case)
    assert self_check.disagreement_of_packed_attention(policy.PACKED_ATTENTION, case) is None


def test_structures_equal_those_of_the_cpu(on_cpu: Predictor, on_device: Predictor) -> None:
    """float32: odd lengths in one batch, one residue, an unknown residue, and a complex."""
    sequences = [*SEQUENCES, f"{SEQUENCES[0]}:{SEQUENCES[3]}"]
    for expected, found in zip(on_cpu.fold(sequences, pae=True), on_device.fold(sequences, pae=True), strict=True):
        assert np.abs(expected.positions - found.positions).max() < 0.05
        assert np.abs(expected.plddt - found.plddt).max() < 0.05
        assert abs(expected.ptm - found.ptm) < 1e-3
        assert expected.pae is not None and found.pae is not None
        assert np.abs(expected.pae - found.pae).max() < 0.05


def test_bf16_is_near_float32(on_cpu: Predictor, in_bf16: Predictor) -> None:
    for expected, found in zip(on_cpu.fold(SEQUENCES), in_bf16.fold(SEQUENCES), strict=True):
        assert np.isfinite(found.positions).all()
        assert abs(expected.mean_plddt - found.mean_plddt) < 3
        assert abs(expected.ptm - found.ptm) < 0.05


def test_chunks_of_rows_change_nothing(on_device: Predictor) -> None:
    network, batch = on_device._network, encode(SEQUENCES, DEVICE)
    with torch.inference_mode():
        whole, parts = (network(batch, recycles=1, outputs=OutputFlags(), rows=rows) for rows in (39, 7))
    assert (whole.positions_BLA3 - parts.positions_BLA3).abs().max() < 0.05


@pytest.mark.skipif(not ON_GPU, reason="a CPU computes at once")
def test_host_does_not_wait_while_it_launches_a_batch(in_bf16: Predictor) -> None:
    """With a graph and without, once constants are on the device. tests/folding/test_transfer.py without a GPU."""
    stages = in_bf16.stages
    for sequences in (SEQUENCES, ["W" * 300, "A" * 290]):
        for _ in range(3):
            stages.collect(stages.compute(stages.prepare(sequences, pae=True)))
        prepared = stages.prepare(sequences, pae=True)
        torch.cuda.set_sync_debug_mode("error")
        try:
            computed = stages.compute(prepared)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert len(stages.collect(computed)) == len(sequences)


@pytest.mark.skipif(not ON_GPU, reason="CUDA graphs need a GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_change_nothing(precision: str, on_device: Predictor, in_bf16: Predictor) -> None:
    """The first batch of a shape runs without a graph, later ones with it: other proteins, masks and lengths."""
    predictor = on_device if precision == "fp32" else in_bf16
    graphs = predictor._network.trunk.graphs
    assert graphs is not None
    graphs.clear()
    batches = (SEQUENCES, [one[::-1] for one in SEQUENCES], [one[:30] for one in SEQUENCES[:3]] + ["W" * 40])
    try:
        predictor._network.trunk.graphs = None
        expected = [predictor.fold_batch(batch, pae=True) for batch in batches]
    finally:
        predictor._network.trunk.graphs = graphs
    for _ in range(4):
        predictor.fold_batch(batches[0])
    for batch, of_batch in zip(batches, expected, strict=True):
        for found, one in zip(predictor.fold_batch(batch, pae=True), of_batch, strict=True):
            # Batches are padded to 40 residues here and to 39 there.
            assert precision != "fp32" or np.abs(found.positions - one.positions).max() < 0.05
            assert abs(found.mean_plddt - one.mean_plddt) < 1
            assert abs(found.ptm - one.ptm) < 0.02
    assert graphs.shapes == [(len(SEQUENCES), 40)]
    print(f"memory of graphs {graphs.bytes / 1e6:.1f} MB")
    again = predictor.fold_batch(batches[0])
    for one, other in zip(again, predictor.fold_batch(batches[0]), strict=True):
        assert np.array_equal(one.positions, other.positions)


def test_threads_overlap_batches_while_graphs_are_recorded(on_device: Predictor) -> None:
    """As in the child process: one thread prepares, this one computes, one collects. Nothing depends on their order."""
    stages, graphs = on_device.stages, on_device._network.trunk.graphs
    batches = [[one[: 8 + 4 * shape] for one in SEQUENCES[:2]] for shape in range(6 if ON_GPU else 2)] * 4
    on_device._network.trunk.graphs = None
    shapes = batches[: len(batches) // 4]
    expected = [stages.collect(stages.compute(stages.prepare(batch, pae=True))) for batch in shapes]
    on_device._network.trunk.graphs = graphs
    if graphs is not None:
        graphs.clear()
    prepared: queue.Queue[PreparedBatch] = queue.Queue(1)
    computed: queue.Queue[ComputedBatch] = queue.Queue(1)
    with ThreadPoolExecutor(2) as threads:
        preparing = threads.submit(lambda: [prepared.put(stages.prepare(batch, pae=True)) for batch in batches])
        collecting = threads.submit(lambda: [stages.collect(computed.get(timeout=60)) for _ in batches])
        for _ in batches:
            computed.put(stages.compute(prepared.get(timeout=60)))
        preparing.result()
        found = collecting.result()
    for number, results in enumerate(found):
        for one, other in zip(results, expected[number % len(expected)], strict=True):
            assert np.abs(one.coordinates.astype(int) - other.coordinates).max() <= 5  # 0.05 angstrom
            assert one.pae is not None and other.pae is not None
            assert np.abs(one.pae.astype(int) - other.pae).max() <= 1
    if ON_GPU:
        assert graphs is not None and len(graphs.shapes) == len({bucket(len(batch[0])) for batch in shapes})


def test_killed_child_is_replaced(on_device: Predictor) -> None:
    """Killed with a batch: an error of that batch. The next process can lock the device, and gives the same result."""
    pytest.importorskip("msgspec", reason="messages between processes need msgspec")
    from foldatlas.pipeline.workers.supervisor import Child, WorkerSpec
    from foldatlas.schemas.errors import WorkerDied

    child = Child(WorkerSpec("nano", on_device.settings, DEVICE))
    try:
        (before,) = child.compute([SEQUENCES[0]], 1)
        assert child.pid is not None
        os.kill(child.pid, signal.SIGSTOP)
        with child.session() as session:
            session.submit([SEQUENCES[0]], 1)
            os.kill(child.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied, match="SIGKILL"):
                session.answer()
        (after,) = child.compute([SEQUENCES[0]], 1)
    finally:
        child.kill()
    assert np.abs(before.coordinates.astype(int) - after.coordinates).max() <= 1


@pytest.mark.skipif(not ON_GPU, reason="limits the memory of a GPU")
def test_out_of_memory_leaves_the_model_usable(on_device: Predictor) -> None:
    before = on_device.fold_batch(SEQUENCES[:1])
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.01)
    try:
        with pytest.raises(OutOfMemory):
            on_device.fold_batch(["A" * 3000] * 4)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert on_device._network.trunk.graphs is not None and on_device._network.trunk.graphs.shapes == []
    after = on_device.fold_batch(SEQUENCES[:1])[0]
    assert np.abs(before[0].positions - after.positions).max() < 0.05


def test_two_processes_share_the_device(on_device: Predictor) -> None:
    """The same structure in another process while this one has a model loaded."""
    code = f"from foldatlas.folding.models import load; p = load('nano', device={DEVICE!r}).fold([{SEQUENCES[0]!r}])[0]"
    command = [sys.executable, "-c", f"{code}; print(float(p.positions.sum()))"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        here = on_device.fold(SEQUENCES[:1])[0]
        printed, _ = other.communicate(timeout=300)
    assert other.returncode == 0
    assert float(printed) == pytest.approx(float(here.positions.sum()), abs=1)
