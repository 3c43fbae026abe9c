"""The host never waits for a GPU while it launches a batch: no value is read from it, and copies are queued.

Without a GPU, torch's meta device shows every copy between devices, and refuses operations whose shapes depend on
values. tests/folding/gpu has the same test with CUDA's own check.
"""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from foldatlas.folding.models import load
from foldatlas.folding.network import precision, segments, tokens, transfer
from foldatlas.folding.network.tokens import encode, language_tokens, widened
from foldatlas.folding.stages import FoldingStages

META = torch.device("meta")


class Waits(TorchDispatchMode):
    """Notes copies for which the host would wait, if the meta device were a GPU.

    `pinned` are addresses of tensors of the host that are pinned.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pinned: set[int] = set()
        self.copies = 0
        self.waits: list[str] = []

    def pin(self, values: Tensor, device: torch.device) -> Tensor:
        self.pinned.add(values.data_ptr())
        return values

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        hosts = [tensor for tensor in inputs if tensor.device.type == "cpu" and tensor.dim()]  # numbers are arguments
        if isinstance(result, Tensor) and result.device.type == "meta" and hosts:
            self.copies += 1
            queued = bool(kwargs.get("non_blocking")) or (func is torch.ops.aten.copy_.default and args[2:] == (True,))
            if not queued or not all(tensor.data_ptr() in self.pinned for tensor in hosts):
                self.waits.append(str(func))
        return result


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    found = Waits()
    monkeypatch.setattr(transfer, "pinned", found.pin)
    monkeypatch.setattr("foldatlas.folding.stages.pinned", found.pin)
    return found


@pytest.fixture(scope="module")
def stages() -> FoldingStages:
    network = load("nano")._network.to("meta")
    precision.get("bf16").apply(network)
    return FoldingStages(network, 1)


@pytest.mark.parametrize("sequences", [["MKTAYIAKQRW", "GXBG", "M"], ["MKTAYIAK", "GSHMRSLE"]])
def test_host_does_not_wait_while_it_launches_a_batch(stages, waits, sequences) -> None:
    """Of a pack, and of proteins of one length. Constants are on the device after the first batch."""
    stages.compute(stages.prepare(sequences))
    prepared = stages.prepare(sequences, mean_embedding=True, residue_embedding=True, pae=True)
    waits.copies, waits.waits = 0, []
    with waits:
        stages.compute(prepared)
    assert waits.waits == []
    is_packed = len(set(map(len, sequences))) > 1
    assert waits.copies == (3 if is_packed else 2)  # residue types, mask, and the boundaries of a pack


def test_padding_to_a_graph_does_not_wait(stages, waits) -> None:
    batch = encode(["MKV", "MK"], META)
    with waits:
        language_tokens(widened(batch, 4, 8))
    assert (waits.waits, waits.copies) == ([], 0)


def in_pageable_memory(values: Tensor, device: torch.device) -> Tensor:
    return values.clone().to(device, non_blocking=True)


def waiting(values: Tensor, device: torch.device) -> Tensor:
    return transfer.pinned(values, device).to(device)


def from_a_list(device: torch.device) -> Tensor:
    return torch.tensor(tokens.AATYPE_TOKENS).to(device)


@pytest.mark.parametrize(
    ("module", "name", "replacement"),
    [
        (segments, "to_device", in_pageable_memory),
        (segments, "to_device", waiting),
        (tokens, "_aatype_tokens", from_a_list),
    ],
)
def test_copies_for_which_the_host_waits_are_found(stages, waits, monkeypatch, module, name, replacement) -> None:
    monkeypatch.setattr(module, name, replacement)
    prepared = stages.prepare(["MKTAYIAKQRW", "M"])
    with waits:
        stages.compute(prepared)
    assert waits.waits


@pytest.mark.parametrize(
    "read",
    [
        lambda values: values.sum().item(),
        lambda values: bool(values.any()),
        lambda values: values.tolist(),
        lambda values: values.cpu(),
        lambda values: values.nonzero(),
        lambda values: values[values > 0],
    ],
)
def test_meta_device_refuses_what_the_host_would_read(read) -> None:
    """So the network reads nothing from its device, if it runs there."""
    with pytest.raises((RuntimeError, NotImplementedError)):
        read(torch.ones(3, device=META))


def test_attention_of_a_network_is_not_computed_by_cudnn(stages) -> None:
    """It would make the host plan each new shape. The setting of the process is restored."""
    used = []
    hook = stages._network.esm_s_mlp.register_forward_hook(
        lambda *_: used.append(torch.backends.cuda.cudnn_sdp_enabled())
    )
    try:
        stages.compute(stages.prepare(["MKTAYIAK", "M"]))
    finally:
        hook.remove()
    assert used == [False] and torch.backends.cuda.cudnn_sdp_enabled()
