"""Strict loading of weights into a network, digests, and our own file format.

Names and shapes must match exactly; no parameter keeps an initial value. A network is built on the meta device and its
weights are assigned, not copied: memory-mapped tensors stay in their file, and only those that change their dtype or
device are copied.
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

CONFIG_KEY: Final = "config"  # key of the sizes in the metadata of our files

DtypeOf = Callable[[str], torch.dtype]  # tensor name -> dtype in the network
Network = TypeVar("Network", bound=nn.Module)

DIGEST_CHUNK: Final = 1 << 18  # elements: 1 MB of float32, which fits a core's cache
_MAX_DIGEST_THREADS: Final = 8


def float32(name: str) -> torch.dtype:
    """Return float32 for every tensor name."""
    return torch.float32


def build(
    config: ESMFoldConfig, state: Mapping[str, Tensor], *, dtype_of: DtypeOf = float32, device: str = "cpu"
) -> ESMFold:
    """Return a network of these sizes on `device` with the weights of `state`, under our or published names.

    `dtype_of` gives the dtype of each tensor by our name. A tensor that already has the dtype and is on the device is
    used without a copy.

    Raise ModelError, with the tensor's name, if a tensor is missing, unexpected, duplicate or of a wrong shape.
    """
    with without_values():
        network = ESMFold(config)
    return _fit(network, canonical(state).state, dtype_of, device)


def build_language_model(
    config: LanguageModelConfig, state: Mapping[str, Tensor], *, dtype_of: DtypeOf = float32, device: str = "cpu"
) -> LanguageModel:
    """Return a language model of these sizes with the weights of `state`, named `esm.*`; otherwise as `build`.

    `dtype_of` receives names in the whole network, such as `esm.embed_tokens.weight`.
    """
    with without_values():
        network = LanguageModel(config)
    own = {name.removeprefix(LANGUAGE_MODEL): tensor for name, tensor in state.items()}
    return _fit(network, own, lambda name: dtype_of(LANGUAGE_MODEL + name), device)


def generate(config: ESMFoldConfig) -> ESMFold:
    """Return an untrained network of these sizes with generated weights (untrained.py)."""
    with without_values():
        shapes = {name: tuple(tensor.shape) for name, tensor in ESMFold(config).state_dict().items()}
    return build(config, {name: torch.from_numpy(array) for name, array in untrained.generate(shapes).items()})


def _fit(network: Network, state: Mapping[str, Tensor], dtype_of: DtypeOf, device: str) -> Network:
    """Assign the tensors of `state` to `network`, which is on the meta device."""
    expected = network.state_dict()
    if missing := sorted(expected.keys() - state.keys()):
        raise ModelError(f"the weights lack {_first_of(missing)}: give the complete weights of the model")
    if unexpected := sorted(state.keys() - expected.keys()):
        raise ModelError(
            f"the weights have {_first_of(unexpected)}, which the configuration does not include: use the "
            "configuration that was published with them"
        )
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)}, the network needs {tuple(expected[name].shape)}: use the "
                "configuration that was published with these weights"
            )
        if not tensor.is_floating_point():
            raise ModelError(f"{name} holds {tensor.dtype}, not floating-point numbers: quantised weights are not read")
    network.load_state_dict(
        # converted on the device, and read from disk as it is copied
        {name: tensor.to(device).to(dtype_of(name)) for name, tensor in state.items()},
        strict=True,
        assign=True,
    )
    # Constants such as ideal geometry are not in the state dict; they were created on the CPU.
    return network.to(device).eval().requires_grad_(False)


def _first_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def digest(state: Mapping[str, Tensor]) -> str:
    """Return the sha256, in hex, of the weights.

    It is that of one line for each tensor, sorted by name, `name shape sha256`, where the last is of the tensor's
    values as little-endian float32 in row-major order. So equal values have the same digest in every file layout and
    dtype: float16 and bfloat16 convert to float32 exactly. Tensors are hashed in parallel, one per thread, in chunks.
    """
    names = sorted(state)
    threads = min(_MAX_DIGEST_THREADS, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    # The largest first, so that all threads finish at about the same time.
    by_size = sorted(names, key=lambda name: -state[name].numel())
    with ThreadPoolExecutor(threads) as pool:
        digests = dict(zip(by_size, pool.map(lambda name: _value_digest(state[name]), by_size), strict=True))
    lines = (f"{name} {tuple(state[name].shape)} {digests[name]}\n" for name in names)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _value_digest(tensor: Tensor) -> str:
    total = hashlib.sha256()
    flat = tensor.detach().contiguous().reshape(-1)
    widened = torch.empty(min(DIGEST_CHUNK, len(flat)), dtype=torch.float32, device="cpu")
    for chunk in flat.split(DIGEST_CHUNK):
        total.update(widened[: len(chunk)].copy_(chunk).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save(network: ESMFold, path: Path, heads: Mapping[str, Tensor] | None = None) -> None:
    """Write `network` to `path` as one safetensors file, with our names and the sizes in its metadata.

    `heads` are tensors of the language model's heads, with the names of checkpoints.Checkpoint.
    """
    state = {name: tensor.contiguous() for name, tensor in {**network.state_dict(), **(heads or {})}.items()}
    save_file(state, path, metadata={CONFIG_KEY: json.dumps(asdict(network.config))})
