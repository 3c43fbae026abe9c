"""Names of weights: what releases call each tensor, and what the network calls it.

A network's own names are those of the released ESMFold (the same in fair-esm and transformers), with fair-esm's
names for the language model under `esm.`. Sources: the states of facebookresearch/esm and of transformers 5.23.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from foldatlas.folding.network.tokens import AATYPE_TOKENS, PAD
from foldatlas.schemas.errors import ModelError

LANGUAGE_MODEL: Final = "esm."  # prefix of the language model's tensors in the whole network

# Tensors of released states that no part of ours reads, and why. Anything else that is not ours is an error.
UNUSED: Final = {
    r"lm_head\..*": "guesses masked residues from the trunk: a training loss",
    r"esm\.embeddings\.position_ids": "a range of integers",
    r"esm\.embeddings\.position_embeddings\.weight": "absolute positions, where ESM-2 has rotary ones",
}
# The same for a language model alone, whose masked-token head transformers calls `lm_head`.
_UNUSED_ALONE: Final = {
    r"esm\.embeddings\.position_ids": "a range of integers",
    r"esm\.embeddings\.position_embeddings\.weight": "absolute positions, where ESM-2 has rotary ones",
    r"esm\.pooler\..*": "a layer that transformers adds and ESM-2 never trained",
}

# Heads of the language model. Folding does without them; who wants logits or contacts finds them in `Named.heads`.
_HEADS: Final = (
    "lm_head.dense.weight",
    "lm_head.dense.bias",
    "lm_head.layer_norm.weight",
    "lm_head.layer_norm.bias",
    "lm_head.weight",  # the same values as embed_tokens.weight, where a file repeats them
    "lm_head.bias",
    "contact_head.regression.weight",
    "contact_head.regression.bias",
)

_PUBLISHED_TO_OURS: Final = (
    (r"esm\.encoder\.sentence_encoder\.", "esm."),
    (r"esm\.encoder\.(?=lm_head\.|contact_head\.)", "esm."),
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
    (r"esm\.lm_head\.decoder\.", "esm.lm_head."),
)
_FAIR_FREQUENCIES: Final = re.compile(r"esm\.layers\.\d+\.self_attn\.rot_emb\.inv_freq")

_SHARED: Final = "esm.inv_freq"  # one tensor here, a copy in each layer of older states
_RESIDUE_TOKENS: Final = "af2_to_esm"  # the token of each residue type: ours to know, so it is compared


@dataclass(frozen=True)
class Named:
    """Weights under our names: `state`, what the network needs, and the language model's `heads`, without `esm.`."""

    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    notes: tuple[str, ...] = ()  # what was stripped and left out, a sentence each


# Modules around a model whose names end up in those of its tensors: DDP and torch.compile.
_WRAPPERS: Final = ("module", "_orig_mod")
_MODEL_PARTS: Final = ("esm", "lm_head", "contact_head")  # of transformers' EsmForMaskedLM


def _unwrapped(state: Mapping[str, Tensor]) -> tuple[dict[str, tuple[str, Tensor]], str | None]:
    """The tensors with the names they have without wrappers, by their own names, and what was stripped."""
    stripped = {key: ".".join(part for part in key.split(".") if part not in _WRAPPERS) for key in state}
    found = {part for key in state for part in key.split(".")} & set(_WRAPPERS)
    note = f"stripped {' and '.join(f'{part}.' for part in sorted(found))} from names of weights" if found else None
    return {key: (stripped[key], tensor) for key, tensor in state.items()}, note


def canonical_name(key: str) -> str:
    """Our name of a tensor that fair-esm or transformers calls `key`; our own names stay as they are."""
    for pattern, replacement in _PUBLISHED_TO_OURS:
        if match := re.match(pattern, key):
            key = match.expand(replacement) + key[match.end() :]
            break
    if _FAIR_FREQUENCIES.fullmatch(key):
        return _SHARED
    # LayerNorms of older frameworks, which transformers 5 still writes.
    return re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", key))


def canonical(state: Mapping[str, Tensor], *, alone: bool = False) -> Named:
    """The tensors of `state` under our names. `alone`: it holds a language model and nothing else, as fair-esm
    (`encoder.sentence_encoder.layers`), transformers' EsmForMaskedLM (`esm.encoder.layer`) or its EsmModel
    (`encoder.layer`) call it.

    Raises ModelError when one tensor is given twice with different values, or for another vocabulary.
    """
    named = Named({}, {})
    source: dict[str, str] = {}
    unwrapped, note = _unwrapped(state)
    # In transformers' models of a task all but `esm.` is a head of that task: nothing that `esm.` computes needs it.
    inside = alone and any(key.startswith(LANGUAGE_MODEL) for key, _ in unwrapped.values())
    left_out = []
    for written, (key, tensor) in unwrapped.items():
        if inside and key.partition(".")[0] not in _MODEL_PARTS:
            left_out.append(key)
            continue
        full = LANGUAGE_MODEL + key if alone and not key.startswith(LANGUAGE_MODEL) else key
        if any(re.fullmatch(pattern, full) for pattern in (_UNUSED_ALONE if alone else UNUSED)):
            continue
        if key == _RESIDUE_TOKENS:
            _check_residue_tokens(tensor)
            continue
        name = canonical_name(full)
        head = name.removeprefix(LANGUAGE_MODEL)
        is_head = head in _HEADS and name != head
        target, place = (named.heads, head) if is_head else (named.state, name)
        if place in target:
            if name != _SHARED and not is_head:
                raise ModelError(f"the weights hold {name} twice, as {source[name]} and as {written}")
            if not torch.equal(target[place], tensor):
                raise ModelError(f"{source[name]} and {written} differ: they are one tensor, {name}, in this network")
        target[place] = tensor
        source[name] = written
    notes = [note] if note else []
    if left_out:
        listed = ", ".join(sorted(left_out)[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        notes.append(f"left out the head of a fine-tuned model ({listed}): its language model is used")
    return Named(named.state, named.heads, tuple(notes))


def _check_residue_tokens(tensor: Tensor) -> None:
    expected = [PAD, *AATYPE_TOKENS]
    if tensor.tolist() != expected:
        raise ModelError(
            f"{_RESIDUE_TOKENS} is {tensor.tolist()}; this network numbers residues {expected}: "
            "the weights belong to another vocabulary"
        )
