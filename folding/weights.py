"""Weights: read strictly, digested, written.

A network's own names are those of the released ESMFold (the same in fair-esm and transformers), with fair-esm's
names for the language model under `esm.`. States of transformers are renamed to them. Nothing is loaded that does
not fit exactly, nothing is left at its initial value, and nothing is ever unpickled.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from foldatlas.folding import nano
from foldatlas.folding.config import ESMFoldConfig, from_dict
from foldatlas.folding.esmfold import ESMFold
from foldatlas.folding.tokens import AATYPE_TOKENS, PAD
from foldatlas.schemas.errors import ModelError

# Tensors of released states that folding never reads, and why. Anything else that is not ours is an error.
UNUSED: Final = {
    r"lm_head\..*": "guesses masked residues from the trunk: a training loss",
    r"esm\.contact_head\..*": "guesses contacts from the language model's attention: the trunk replaces it",
    r"esm\.lm_head\..*": "guesses masked tokens: how the language model was trained",
    r"esm\.embeddings\.position_ids": "a range of integers",
    r"esm\.embeddings\.position_embeddings\.weight": "absolute positions, where ESM-2 has rotary ones",
}

_TRANSFORMERS_TO_FAIR: Final = (
    (r"esm\.embeddings\.word_embeddings\.", "esm.embed_tokens."),
    (r"esm\.encoder\.emb_layer_norm_after\.", "esm.emb_layer_norm_after."),
    (r"esm\.encoder\.layer\.(\d+|\*)\.attention\.self\.rotary_embeddings\.inv_freq", "esm.inv_freq"),
    (r"esm\.rotary_embeddings\.inv_freq", "esm.inv_freq"),
    (r"esm\.encoder\.layer\.(\d+)\.attention\.self\.query\.", r"esm.layers.\1.self_attn.q_proj."),
    (r"esm\.encoder\.layer\.(\d+)\.attention\.self\.key\.", r"esm.layers.\1.self_attn.k_proj."),
    (r"esm\.encoder\.layer\.(\d+)\.attention\.self\.value\.", r"esm.layers.\1.self_attn.v_proj."),
    (r"esm\.encoder\.layer\.(\d+)\.attention\.output\.dense\.", r"esm.layers.\1.self_attn.out_proj."),
    (r"esm\.encoder\.layer\.(\d+)\.attention\.LayerNorm\.", r"esm.layers.\1.self_attn_layer_norm."),
    (r"esm\.encoder\.layer\.(\d+)\.intermediate\.dense\.", r"esm.layers.\1.fc1."),
    (r"esm\.encoder\.layer\.(\d+)\.output\.dense\.", r"esm.layers.\1.fc2."),
    (r"esm\.encoder\.layer\.(\d+)\.LayerNorm\.", r"esm.layers.\1.final_layer_norm."),
)

_SHARED: Final = "esm.inv_freq"  # one tensor here, a copy in each layer of older states
_RESIDUE_TOKENS: Final = "af2_to_esm"  # the token of each residue type: ours to know, so it is compared
_CONFIG: Final = "config"  # key of the sizes in the metadata of our files


def build(config: ESMFoldConfig, state: Mapping[str, Tensor]) -> ESMFold:
    """A network of these sizes with the weights of `state`, under our or transformers' names, in float32.

    Raises ModelError that names the tensor when one is missing, unexpected, given twice or of another shape.
    """
    with torch.device("meta"):
        network = ESMFold(config)
    expected = network.state_dict()
    canonical = _canonical_state(state)
    if missing := sorted(expected.keys() - canonical.keys()):
        raise ModelError(f"the weights lack {_first_of(missing)}: give the whole state of the model")
    if unexpected := sorted(canonical.keys() - expected.keys()):
        raise ModelError(
            f"the network has no place for {_first_of(unexpected)} of the weights: do the sizes belong to them?"
        )
    for name, tensor in canonical.items():
        if tensor.shape != expected[name].shape:
            raise ModelError(
                f"{name} has shape {tuple(tensor.shape)}, the network needs {tuple(expected[name].shape)}: "
                "do the sizes belong to these weights?"
            )
        if not tensor.is_floating_point():
            raise ModelError(f"{name} holds {tensor.dtype}, not floating-point numbers")
    network.load_state_dict({name: tensor.float() for name, tensor in canonical.items()}, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def generate_nano() -> ESMFold:
    """The embedded model with its generated weights."""
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in ESMFold(nano.CONFIG).state_dict().items()}
    return build(nano.CONFIG, {name: torch.from_numpy(array) for name, array in nano.generate(shapes).items()})


def _canonical_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` under our names, without what folding never reads."""
    canonical: dict[str, Tensor] = {}
    source: dict[str, str] = {}
    for key, tensor in state.items():
        if any(re.fullmatch(pattern, key) for pattern in UNUSED):
            continue
        if key == _RESIDUE_TOKENS:
            _check_residue_tokens(tensor)
            continue
        name = canonical_name(key)
        if name in canonical:
            if name != _SHARED:
                raise ModelError(f"the weights hold {name} twice, as {source[name]} and as {key}")
            if not torch.equal(canonical[name], tensor):
                raise ModelError(f"{source[name]} and {key} differ: the layers share one set of rotary frequencies")
        canonical[name] = tensor
        source[name] = key
    return canonical


def canonical_name(key: str) -> str:
    """Our name of a tensor that transformers calls `key`; our own names stay as they are."""
    for pattern, replacement in _TRANSFORMERS_TO_FAIR:
        if match := re.match(pattern, key):
            key = match.expand(replacement) + key[match.end() :]
            break
    # LayerNorms of older frameworks, which transformers 5 still writes.
    return re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", key))


def _check_residue_tokens(tensor: Tensor) -> None:
    expected = [PAD, *AATYPE_TOKENS]
    if tensor.tolist() != expected:
        raise ModelError(
            f"{_RESIDUE_TOKENS} is {tensor.tolist()}; this network numbers residues {expected}: "
            "the weights belong to another vocabulary"
        )


def _first_of(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def digest(state: Mapping[str, Tensor]) -> str:
    """sha256, in hex, of every tensor's name, type, shape and bytes, in the order of the names."""
    total = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        dtype = str(tensor.dtype).removeprefix("torch.")
        total.update(f"{name} {dtype} {tuple(tensor.shape)}\n".encode())
        total.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def save(network: ESMFold, path: Path) -> None:
    """Write `network` to `path`: one safetensors file, under our names, the sizes in its metadata."""
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, path, metadata={_CONFIG: json.dumps(asdict(network.config))})


def load(path: Path) -> ESMFold:
    """Read a network that `save` wrote.

    Raises ModelError when the file is missing or not such a file, or its weights do not fit the sizes it states.
    """
    try:
        with safe_open(path, framework="pt") as file:
            config = (file.metadata() or {})[_CONFIG]
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return build(from_dict(json.loads(config)), state)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, ModelError):
            raise
        raise ModelError(f"{path} holds no network that FoldAtlas saved ({error!r})") from error
