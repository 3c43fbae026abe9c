"""CUDA graphs of trunk passes: the launches of a pass, recorded once for a shape of batch and replayed as one.

A pass of the published network has thousands of launches. For short proteins these take longer than the work itself. A
graph repeats launches with the same addresses, so its inputs are copied to buffers of its own, and its outputs are
overwritten when it is replayed. Batches are padded so that they share graphs: in length to a bucket
(planning/buckets.py), in number of proteins to a recorded number that is at most an eighth more.

A shape is recorded after a batch of it ran without a graph: that compiles kernels, which a recording cannot, and a
recording takes longer than it saves in one batch. Memory of graphs is limited: the least recently used are dropped. A
recording that fails is logged, and no graphs are recorded afterwards. FOLDATLAS_GRAPHS=off in the environment turns
graphs off.
"""

import gc
import logging
import os
import traceback
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from foldatlas.folding.network.tokens import Batch, widened
from foldatlas.folding.planning.buckets import bucket, has_graph
from foldatlas.schemas.errors import OutOfMemory

_VARIABLE: Final = "FOLDATLAS_GRAPHS"
_MOST_SHAPES: Final = 64
_PASSES_BEFORE: Final = 4  # of a shape before it is recorded: those of one batch
# Part of a GPU's memory that buffers of graphs may take.
_MEMORY_SHARE: Final = 0.05

Key = tuple[int, int]  # proteins and length of a batch

_logger = logging.getLogger(__name__)


class Recorder(Protocol):
    """Records the operations of a function on a device, and replays them."""

    bytes: int  # memory of the recordings on the device, beside inputs

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        """Record `function`, without any effect of its operations; return its result, and a function that runs them.

        The result holds tensors that are written by each run.
        """
        ...

    def clear(self) -> None:
        """Forget the memory of all recordings, none of which will be run again."""
        ...


class CudaRecorder:
    """CUDA graphs that share one pool of memory: between runs, nothing but their outputs is in it."""

    def __init__(self, device: torch.device):
        self.bytes = 0
        self._device = device
        self._pool: Any = None

    def record(self, function: Callable[[], Any]) -> tuple[Any, Callable[[], None]]:
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.device(self._device):
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            before = torch.cuda.memory_reserved(self._device)
            # Other threads may allocate memory and wait for events meanwhile. This one must not: garbage that is
            # collected in it could be an event, a graph or memory of the host.
            with (
                _no_garbage_collection(),
                torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"),
            ):
                result = function()
            self.bytes += max(0, torch.cuda.memory_reserved(self._device) - before)
        return result, graph.replay

    def clear(self) -> None:
        self._pool = None
        self.bytes = 0
        torch.cuda.empty_cache()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@dataclass(slots=True)
class _Recording:
    """A graph with its buffers."""

    inputs: tuple[Tensor, ...]
    result: Any
    replay: Callable[[], None]

    @property
    def bytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.inputs)


class PassGraphs:
    """Graphs of one network, by shape of batch. Their buffers take `most_bytes` at most."""

    def __init__(self, recorder: Recorder, most_bytes: int):
        self._recorder = recorder
        self._most_bytes = most_bytes
        self._recordings: OrderedDict[Key, _Recording] = OrderedDict()  # the one used last at the end
        self._seen: Counter[Key] = Counter()
        self._enabled = True

    @property
    def bytes(self) -> int:
        """Memory that torch's allocator counts as unused, and that other computations cannot use."""
        return self._recorder.bytes

    @property
    def shapes(self) -> list[Key]:
        """Proteins and length of the recorded passes, the one used last at the end."""
        return list(self._recordings)

    def padded(self, proteins: int, length: int) -> Key:
        """Return the proteins and the length to which a batch is to be padded."""
        length = bucket(length)
        recorded = [of_graph for of_graph, of_length in self._recordings if of_length == length]
        return padded_proteins(proteins, recorded), length

    def reduced(self, proteins: int, length: int, needed: int) -> int:
        """Return how many of the `proteins` of a batch to keep if only `needed` have to go on.

        Where there are graphs, the number is halved as often as it stays large enough, so that batches have few
        different shapes; elsewhere it is `needed`.
        """
        if not has_graph(length):
            return needed
        while -(-proteins // 2) >= needed and proteins > 1:
            proteins = -(-proteins // 2)
        return proteins

    def run(self, function: Callable[..., Any], *inputs: Tensor) -> Any:
        """Return `function(*inputs)`, whose second input is [B, L, ...], from a graph if there is one for B and L.

        `function` may change its inputs in place. The next call overwrites the tensors of the result; it may be given
        some of them as inputs.
        """
        proteins, length = inputs[1].shape[:2]
        key = (proteins, length)
        if key not in self._recordings and not self._record(key, function, inputs):
            return function(*inputs)
        recording = self._recordings[key]
        self._recordings.move_to_end(key)
        for static, tensor in zip(recording.inputs, inputs, strict=True):
            if static is not tensor:
                static.copy_(tensor)
        recording.replay()
        return recording.result

    def clear(self) -> None:
        """Drop all graphs and their memory. They are recorded again after another batch of their shape."""
        self._seen.clear()
        self._recordings.clear()
        self._recorder.clear()

    def _record(self, key: Key, function: Callable[..., Any], inputs: tuple[Tensor, ...]) -> bool:
        """Record `function` if `key` was seen before; return whether there is a graph now."""
        size = sum(tensor.nbytes for tensor in inputs)
        if not self._enabled or not has_graph(key[1]) or size > self._most_bytes:
            return False
        if self._seen[key] < _PASSES_BEFORE:
            self._seen[key] += 1
            return False
        self._make_room(size)
        try:
            static = tuple(tensor.clone() for tensor in inputs)
            result, replay = self._recorder.record(lambda: function(*static))
        except Exception as error:  # of torch, Triton or the driver, which have no common class
            self._enabled = _is_out_of_memory(error)
            traceback.clear_frames(error.__traceback__)  # or its tensors would be in memory until this function returns
            consequence = "the others are dropped" if self._enabled else "passes run without graphs from now on"
            _logger.warning(
                "no CUDA graph of %d proteins of %d residues, %s: %s: %s",
                *key,
                consequence,
                type(error).__name__,
                " ".join(str(error).split())[:300],
            )
            self.clear()
            return False
        self._recordings[key] = _Recording(static, result, replay)
        _logger.info("recorded a CUDA graph of %d proteins of %d residues", *key)
        return True

    def _make_room(self, size: int) -> None:
        while self._recordings and (
            len(self._recordings) >= _MOST_SHAPES
            or size + sum(recording.bytes for recording in self._recordings.values()) > self._most_bytes
        ):
            self._recordings.popitem(last=False)


def padded_proteins(proteins: int, recorded: Iterable[int]) -> int:
    """Return the least `recorded` number that is `proteins` or at most an eighth more; without one, `proteins`."""
    return min((number for number in recorded if proteins <= number <= proteins + proteins // 8), default=proteins)


def padded_to_graph(batch: Batch, graphs: PassGraphs | None) -> Batch:
    """Return `batch` with the padding that `graphs` ask for. Outputs of proteins that are added come last."""
    return batch if graphs is None else widened(batch, *graphs.padded(*batch.mask_BL.shape))


def _is_out_of_memory(error: BaseException | None) -> bool:
    """Return whether `error` is exhausted memory, or was raised while that was handled, as when a recording ends."""
    while error is not None and not isinstance(error, torch.OutOfMemoryError):
        error = error.__context__
    return error is not None


@contextmanager
def dropped_without_memory(graphs: PassGraphs | None) -> Iterator[None]:
    """Drop `graphs` if OutOfMemory is raised in this block."""
    try:
        yield
    except OutOfMemory:
        if graphs is not None:
            graphs.clear()
        raise


def graphs_on(device: str) -> PassGraphs | None:
    """Return graphs for a network on `device`, or None where there are none."""
    if not device.startswith("cuda") or os.environ.get(_VARIABLE, "on") == "off":
        return None
    of_device = torch.device(device)
    memory = torch.cuda.get_device_properties(of_device).total_memory
    return PassGraphs(CudaRecorder(of_device), int(_MEMORY_SHARE * memory))
