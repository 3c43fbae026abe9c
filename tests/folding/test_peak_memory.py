"""Long proteins on a GPU that is not there: live bytes of the published network, counted on torch's meta device."""

import dataclasses
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import ESMFold, OutputFlags
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.planning import cost

from .conftest import RELEASED

GB = 10**9
WEIGHTS_BYTES = 7.2 * GB  # 3.5 billion parameters, all but 50 million of them in bfloat16
# One layer of each kind: memory does not depend on their number.
ONE_LAYER = dataclasses.replace(
    RELEASED,
    language_model=dataclasses.replace(RELEASED.language_model, num_layers=1),
    trunk=dataclasses.replace(RELEASED.trunk, num_blocks=1),
    structure_module=dataclasses.replace(RELEASED.structure_module, num_iterations=2),
)


def tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


class LiveBytes(TorchDispatchMode):
    """Counts bytes of tensors that were made by operations and are alive. Memory inside an operation is not seen."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {
            tensor.untyped_storage()._cdata for tensor in tree_leaves((args, kwargs)) if isinstance(tensor, Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in given | self._known:
                storage = tensor.untyped_storage()
                self._known.add(key)
                self.now += storage.nbytes()
                weakref.finalize(storage, self._free, key, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


@pytest.fixture(scope="module")
def network() -> ESMFold:
    with without_values():
        made = ESMFold(ONE_LAYER)
    made.to("meta")
    precision.BF16.apply(made)
    return made


def peak(network: ESMFold, length: int, rows: int) -> int:
    batch = encode(["A" * length], "meta")
    with torch.inference_mode(), LiveBytes() as live:
        output = network(batch, recycles=1, outputs=OutputFlags(), rows=rows)
    assert 0 < live.now < live.peak and output.positions_BLA3.shape == (1, length, 14, 3)
    return live.peak


def test_live_bytes_are_counted() -> None:
    with LiveBytes() as live:
        a = torch.zeros(100)
        b = a.view(10, 10) + 1
        assert live.now == 800
        del a, b
        assert live.now == 0
    assert live.peak == 800


@pytest.mark.parametrize(
    "length", [512, 6000, *(pytest.param(length, marks=pytest.mark.long) for length in (1024, 2048, 4000, 12000))]
)
def test_at_most_three_pair_tensors_are_alive(network: ESMFold, length: int) -> None:
    """With the rows that are planned for a GPU; at 512 residues, with fewer than it would take."""
    pair_bytes = 2 * ONE_LAYER.trunk.pair_width * length**2
    rows = cost.preferred_rows(ONE_LAYER, 1, length, "cuda") if length > 512 else 40
    measured = peak(network, length, rows)
    assert measured <= 3 * pair_bytes, measured / pair_bytes
    predicted = cost.peak_bytes(ONE_LAYER, 1, length, precision="bf16", rows=rows)
    assert measured <= predicted <= 1.5 * measured


@pytest.mark.parametrize(
    ("length", "card_bytes"), [(2048, 80 * GB), (6000, 141 * GB), (10_500, 80 * GB), (14_700, 141 * GB)]
)
def test_long_proteins_fit_without_flags(length: int, card_bytes: int) -> None:
    limit = int(0.9 * (card_bytes - WEIGHTS_BYTES))
    rows = cost.choose_rows(ONE_LAYER, 1, length, precision="bf16", device="cuda", memory_limit=limit)
    assert rows == cost.preferred_rows(ONE_LAYER, 1, length, "cuda"), "no fewer rows than with any memory"
