"""Errors that name models of other families and files that are not weights. Does not import torch.

Strict loading would only report unexpected tensors. Tensor names are those of the releases: facebookresearch/esm,
transformers, EvolutionaryScale's esm and fairseq.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from foldatlas.schemas.errors import ModelError

_POINTER: Final = b"version https://git-lfs.github.com/spec/"
_USE: Final = "give an ESM-2, such as esm2_t33_650M_UR50D, or a folding model such as esmfold_v1"

_OLD_ESM: Final = "ESM-1b or ESM-1v, which use absolute positions instead of ESM-2's rotary ones"
_FAMILIES: Final = {  # model_type in transformers' config.json, in lower case
    "t5": "T5 (ProtT5, Ankh)",
    "bert": "BERT (ProtBert)",
    "albert": "ALBERT (ProtAlbert)",
    "electra": "ELECTRA (ProtElectra)",
    "xlnet": "XLNet (ProtXLNet)",
    "esmc": "ESM C (ESM Cambrian)",
    "esmplusplus": "ESM C (ESM Cambrian), as ESM++ publishes it",
    "esm3": "ESM3",
    "fast_esm": "FastESM, an ESM-2 with its own code and tensor names",
}
_TENSORS: Final = (  # pattern, searched for in tensor names -> model
    (r"\.lora_[AB]\.|\.base_layer\.", "adapters (LoRA) that are not merged into their model"),
    (r"(^|\.)transformer\.blocks\.\d+\.attn\.q_ln\.", "ESM C (ESM Cambrian) or ESM3"),
    (r"(^|\.)block\.\d+\.layer\.\d+\.SelfAttention\.", "T5 (ProtT5, Ankh)"),
    (r"^shared\.weight$", "T5 (ProtT5, Ankh)"),
    (r"^bert\.|(^|\.)embeddings\.token_type_embeddings\.", "BERT (ProtBert)"),
    (r"\.row_self_attention\.|(^|\.)msa_position_embedding", "MSA Transformer (ESM-MSA-1)"),
    (r"(^|\.)embed_positions\.", _OLD_ESM),
    (r"\.self_attn\.(in_proj_weight|bias_k)$", "a transformer in an older layout of fairseq, as ESM-1 has"),
)


def refuse_pointer(path: Path) -> None:
    """Raise ModelError if the file at `path` is a Git LFS pointer. Unreadable files are reported by their reader."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
    except OSError:
        return
    if start == _POINTER:
        raise ModelError(
            f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository, or download the "
            "file"
        )


def refuse_config(config: Mapping[str, Any], path: Path) -> None:
    """Raise ModelError if transformers' `config`, read from `path`, is of a model other than ESM-2 or ESMFold."""
    model_type = config.get("model_type", "esm")
    if model_type != "esm":
        family = _FAMILIES.get(str(model_type).lower())
        what = f"{family}, another type of model" if family else f"another type of model ({str(model_type)[:40]!r})"
        raise ModelError(f"{path} is of {what}: ESM-2 and ESMFold have model_type 'esm'; {_USE}")
    if config.get("position_embedding_type") == "absolute":
        raise ModelError(f"{path} is of {_OLD_ESM}: position_embedding_type='absolute' is not supported; {_USE}")


def refuse_tensors(names: Iterable[str], path: Path) -> None:
    """Raise ModelError if `names`, of the tensors in the file at `path`, are those of an unsupported model."""
    for name in names:
        for pattern, what in _TENSORS:
            if re.search(pattern, name):
                step = "merge them (peft's merge_and_unload) and save the model" if "LoRA" in what else _USE
                raise ModelError(f"{path} has the weights of {what} (tensor {name}): {step}")
