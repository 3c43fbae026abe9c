"""Weights: fitted strictly into a network, digested, written.

Nothing is loaded that does not fit exactly, and nothing is left at its initial value. A network is laid out on the
meta device and its weights are assigned: tensors that are mapped from a file stay there, and only what changes its
type, or goes to another device, is copied.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Final, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.weights import untrained
from foldatlas.folding.weights.tensor_names import LANGUAGE_MODEL, canonical
from foldatlas.schemas.errors import ModelError

CONFIG_KEY: Final = "config"  # of the sizes, in the metadata of our files

DtypeOf = Callable[[str], torch.dtype]  # the type in which the network keeps a tensor of this name
Network = TypeVar("Network", bound=nn.Module)

_DIGEST_CHUNK: Final = 1 << 18  # numbers: 1 MB of float32 at a time, which stays in a core's cache
_MAX_DIGEST_THREADS: Final = 8


def float32(name: str) -> torch.dtype:
    """Every tensor in single precision."""
    return torch.float32


def build(
    config: ESMFoldConfig, state: Mapping[str, Tensor], *, dtype_of: DtypeOf = float32, device: str = "cpu"
) -> ESMFold:
    """A network of these sizes on `device` with the weights of `state`, under our or published names.

    `dtype_of` says for each of our names in which type the network keeps the tensor. A tensor that has the type, and
    is on the device, is used as it is, not copied.

    Raises ModelError that names the tensor when one is missing, unexpected, given twice or of another shape.
    """
    with without_values():
        network = ESMFold(config)
    return _fit(network, canonical(state).state, dtype_of, device)


def build_language_model(
    config: LanguageModelConfig, state: Mapping[str, Tensor], *, dtype_of: DtypeOf = float32, device: str = "cpu"
) -> LanguageModel:
    """A language model of these sizes with the weights of `state`, our names under `esm.`; as `build` otherwise.

    `dtype_of` is asked for the names of the whole network, `esm.embed_tokens.weight`.
    """
    with without_values():
        network = LanguageModel(config)
    own = {name.removeprefix(LANGUAGE_MODEL): tensor for name, tensor in state.items()}
    return _fit(network, own, lambda name: dtype_of(LANGUAGE_MODEL + name), device)


def generate(config: ESMFoldConfig) -> ESMFold:
    """A network of these sizes that has learnt nothing: generated weights (untrained.py)."""
    with without_values():
        shapes = {name: tuple(tensor.shape) for name, tensor in ESMFold(config).state_dict().items()}
    return build(config, {name: torch.from_numpy(array) for name, array in untrained.generate(shapes).items()})


def _fit(network: Network, state: Mapping[str, Tensor], dtype_of: DtypeOf, device: str) -> Network:
    """`network`, laid out on the meta device, with exactly the tensors of `state`."""
    expected = network.state_dict()
    if missing := sorted(expected.keys() - state.keys()):
        raise ModelError(f"the weights lack {_first_of(missing)}: give the whole state of the model")
    if unexpected := sorted(state.keys() - expected.keys()):
        raise ModelError(
            f"the network has no place for {_first_of(unexpected)} of the weights: do the sizes belong to them?"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)}, the network needs {tuple(expected[name].shape)}: "
                "do the sizes belong to these weights?"
            )
        if not tensor.is_floating_point():
            raise ModelError(f"{name} holds {tensor.dtype}, not floating-point numbers")
    network.load_state_dict(
        {name: tensor.to(device, dtype_of(name)) for name, tensor in state.items()}, strict=True, assign=True
    )
    # What the network makes itself, such as ideal geometry, is no weight and was laid out on the host.
    return network.to(device).eval().requires_grad_(False)


def _first_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256, in hex, of the weights: of a line for each tensor, in the order of names, `name shape sha256`, where
    the latter is of its values in float32, row after row, little-endian.

    So equal numbers have one digest, whatever file held them and in which type: float16 and bfloat16 widen exactly.
    Tensors are digested side by side, one a thread, and never copied whole.
    """
    names = sorted(state)
    threads = min(_MAX_DIGEST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    # The largest first, so that the last thread is not left alone with one of them.
    by_size = sorted(names, key=lambda name: -state[name].numel())
    with ThreadPoolExecutor(threads) as pool:
        of = dict(zip(by_size, pool.map(lambda name: _value_digest(state[name]), by_size), strict=True))
    lines = (f"{name} {tuple(state[name].shape)} {of[name]}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _value_digest(tensor: Tensor) -> str:
    total = hashlib.sha256()
    flat = tensor.detach().contiguous().reshape(-1)
    widened = torch.empty(min(_DIGEST_CHUNK, len(flat)), dtype=torch.float32, device="cpu")
    for chunk in flat.split(_DIGEST_CHUNK):
        total.update(widened[: len(chunk)].copy_(chunk).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save(network: ESMFold, path: Path, heads: Mapping[str, Tensor] | None = None) -> None:
    """Write `network` to `path`: one safetensors file, under our names, the sizes in its metadata.

    `heads` are tensors of the language model's heads, by the names of checkpoints.Checkpoint.
    """
    state = {name: tensor.contiguous() for name, tensor in {**network.state_dict(), **(heads or {})}.items()}
    save_file(state, path, metadata={CONFIG_KEY: json.dumps(asdict(network.config))})
