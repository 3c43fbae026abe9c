"""Translation of published tensor names to the names in our networks.

Our names are those of the published ESMFold (the same in fair-esm and transformers), with fair-esm's names of the
language model under `esm.`. Sources: the state dicts of facebookresearch/esm and of transformers 5.23.
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

# Tensors of published files that are not used, and why. Any other unknown tensor is an error.
UNUSED: Final = {
    r"lm_head\..*": "predicts masked residues from the trunk's single representation: a training loss",
    r"esm\.embeddings\.position_ids": "a range of integers",
    r"esm\.embeddings\.position_embeddings\.weight": "absolute positions; ESM-2 has rotary ones",
}
# The same for a language model alone, whose masked-token head transformers calls `lm_head`.
_UNUSED_ALONE: Final = {
    r"esm\.embeddings\.position_ids": "a range of integers",
    r"esm\.embeddings\.position_embeddings\.weight": "absolute positions; ESM-2 has rotary ones",
    r"esm\.pooler\..*": "a layer that transformers adds, untrained in ESM-2",
}

# Heads of the language model, for logits and contacts. Folding does not need them.
_HEADS: Final = (
    "lm_head.dense.weight",
    "lm_head.dense.bias",
    "lm_head.layer_norm.weight",
    "lm_head.layer_norm.bias",
    "lm_head.weight",  # equal to embed_tokens.weight; some files repeat it
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

_SHARED: Final = "esm.inv_freq"  # one tensor here; older files have a copy in each layer
_RESIDUE_TOKENS: Final = "af2_to_esm"  # the token of each residue type: a constant here, so it is only compared


@dataclass(frozen=True)
class CanonicalTensors:
    """Tensors under our names: `state` of the network, and the language model's `heads`, without the prefix `esm.`."""

    state: dict[str, Tensor]
    heads: dict[str, Tensor]
    notes: tuple[str, ...] = ()  # prefixes that were stripped and tensors that were left out, a sentence each


# Modules that wrap a model and become part of its tensors' names: DDP and torch.compile.
_WRAPPERS: Final = ("module", "_orig_mod")
_MODEL_PARTS: Final = ("esm", "lm_head", "contact_head")  # of transformers' EsmForMaskedLM


def _unwrapped(state: Mapping[str, Tensor]) -> tuple[dict[str, tuple[str, Tensor]], str | None]:
    """Return (name without wrappers, tensor) by original name, and a note on what was stripped."""
    stripped = {key: ".".join(part for part in key.split(".") if part not in _WRAPPERS) for key in state}
    found = {part for key in state for part in key.split(".")} & set(_WRAPPERS)
    note = f"stripped {' and '.join(f'{part}.' for part in sorted(found))} from tensor names" if found else None
    return {key: (stripped[key], tensor) for key, tensor in state.items()}, note


def canonical_name(key: str) -> str:
    """Return our name of the tensor `key` of fair-esm or transformers. Our own names are returned unchanged."""
    for pattern, replacement in _PUBLISHED_TO_OURS:
        if match := re.match(pattern, key):
            key = match.expand(replacement) + key[match.end() :]
            break
    if _FAIR_FREQUENCIES.fullmatch(key):
        return _SHARED
    # Old names of LayerNorm parameters, which transformers 5 still writes.
    return re.sub(r"gamma$", "weight", re.sub(r"beta$", "bias", key))


def canonical(state: Mapping[str, Tensor], *, alone: bool = False) -> CanonicalTensors:
    """Return the tensors of `state` under our names.

    With `alone`, `state` is a language model only, with the names of fair-esm (`encoder.sentence_encoder.layers`), of
    transformers' EsmForMaskedLM (`esm.encoder.layer`) or of its EsmModel (`encoder.layer`).

    Raise ModelError if two tensors have the same name here and differ, or if the vocabulary is not ESM-2's.
    """
    named = CanonicalTensors({}, {})
    source: dict[str, str] = {}
    unwrapped, note = _unwrapped(state)
    # In transformers' models for a task, tensors outside `esm.` belong to the head of that task and are not needed.
    inside = alone and any(key.startswith(LANGUAGE_MODEL) for key, _ in unwrapped.values())
    left_out = []
    for original, (key, tensor) in unwrapped.items():
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
        target, target_name = (named.heads, head) if is_head else (named.state, name)
        if target_name in target:
            if name != _SHARED and not is_head:
                raise ModelError(
                    f"the weights have {name} twice, as {source[name]} and as {original}: fetch them again"
                )
            if not torch.equal(target[target_name], tensor):
                raise ModelError(
                    f"{source[name]} and {original} differ, but are one tensor in this network, {name}: fetch them "
                    "again"
                )
        target[target_name] = tensor
        source[name] = original
    notes = [note] if note else []
    if left_out:
        listed = ", ".join(sorted(left_out)[:3]) + (f" and {len(left_out) - 3} more" if len(left_out) > 3 else "")
        notes.append(f"left out the head of a fine-tuned model ({listed}): its language model is used")
    return CanonicalTensors(named.state, named.heads, tuple(notes))


def _check_residue_tokens(tensor: Tensor) -> None:
    expected = [PAD, *AATYPE_TOKENS]
    if tensor.tolist() != expected:
        raise ModelError(
            f"{_RESIDUE_TOKENS} is {tensor.tolist()}, not {expected} as in ESM-2: the weights belong to another "
            "vocabulary and are not supported"
        )
