"""Kernel launches and bytes of one forward pass of ESMFold, counted on torch's meta device: no GPU, no time.

    PYTHONPATH=.ide python benchmarks/gpu_counts.py [--lengths 64 128 256 384 512 1024]

Needs Triton (`scripts/install gpu-test`) and transformers. Counted are operations that read or write memory of a
device; views and allocations are not. A composite operation of torch counts once, although it may launch several
kernels. Bytes of an operation are those of the tensors that it reads and writes, each element once. transformers' count
of operations does not depend on widths, and is taken from a network of narrow layers with as many of them.

Of a metagenomic mix (gpu_models.py), in the batches that `fold` makes of it, the language model's operations and bytes
are counted with the batches padded and packed.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import torch
from gpu_models import metagenomic_mix
from machine import add_output, write_results
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import ESMFold, OutputFlags
from foldatlas.folding.network.kernels import launch, policy
from foldatlas.folding.network.language_model import LanguageModel
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.tokens import encode, language_tokens
from foldatlas.folding.planning import cost
from foldatlas.folding.planning.batching import BATCH_MFLOP, cut_into_batches, padded_length
from foldatlas.folding.planning.buckets import has_graph

PASSES: Final = 4
MIX: Final = 400  # proteins
GPU_BYTES: Final = 100 * 10**9  # free for activations, of 141 GB
# Published sizes of esmfold_v1.
ESMFOLD: Final = ESMFoldConfig(
    LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240),
    TrunkConfig(48, 1024, 128, 32, 32, 32),
    StructureModuleConfig(8, 384, 128, 12, 16, 4, 8, 1, 128, 2),
    plddt_width=128,
    recycles=PASSES - 1,
)
_ALLOCATIONS: Final = ("empty", "new_empty", "empty_like", "empty_strided", "new_empty_strided")


class Counting(TorchDispatchMode):
    """Counts launches and bytes of torch's operations, and of our kernels, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: Counter[str] = Counter()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        read, written = _tensors((args, kwargs)), _tensors(result)
        known = {tensor.untyped_storage()._cdata for tensor in read}
        # An operation whose results share their memory with its inputs is a view, unless it changes an input.
        made = any(tensor.untyped_storage()._cdata not in known for tensor in written)
        if (made or func._schema.is_mutable) and name not in _ALLOCATIONS:
            self.add(name, [*read, *written])
        return result

    def add(self, name: str, tensors: list[Tensor]) -> None:
        self.launches[name] += 1
        self.bytes[name] += sum(map(_bytes, tensors))

    def record(self, made: launch.Launch) -> None:
        """Count one launch of ours. Tensors that it changes in place are read and written."""
        tensors = [value for value in made.arguments if isinstance(value, Tensor)]
        if made.name.endswith("update_kernel") or made.name == "transition_kernel":
            tensors.append(
                next(tensor for tensor in tensors if tensor.ndim == 4 and tensor.shape[-1] == made.options["Z"])
            )
        self.add(made.name, tensors)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, dict):
        return _tensors(list(value.values()))
    return [tensor for one in value for tensor in _tensors(one)] if isinstance(value, (list, tuple)) else []


def _bytes(tensor: Tensor) -> int:
    """Bytes of the elements of `tensor`, of an expanded axis once."""
    elements = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        elements *= size if stride else 1
    return elements * tensor.element_size()


@contextmanager
def counting(updates: tuple[str, ...]) -> Iterator[Counting]:
    mode = Counting()
    with torch.inference_mode(), policy.forced(*updates), launch.recording(mode.record), mode:
        yield mode


class InGraphs:
    """Takes the place of graphs.PassGraphs: counts the launches of the passes, each of which is one graph."""

    def __init__(self, counts: Counting):
        self.counts = counts
        self.passes = 0
        self.launches = 0

    def run(self, function: Any, *inputs: Tensor) -> Any:
        before = self.counts.launches.total()
        result = function(*inputs)
        self.launches += self.counts.launches.total() - before
        self.passes += 1
        return result


def ours(length: int, updates: tuple[str, ...], name: str = "bf16") -> tuple[Counting, int]:
    """Return the counts of a protein of `length` residues, with `updates` as kernels, and its launches with graphs."""
    with without_values():
        network = ESMFold(ESMFOLD)
    network.to("meta")  # tables of constants have values
    precision.get(name).apply(network)
    batch = encode(["A" * length], "meta")
    with counting(updates) as counts:
        network.trunk.graphs = graphs = InGraphs(counts)  # type: ignore[assignment]
        network(batch, recycles=PASSES - 1, outputs=OutputFlags(), rows=length)
    return counts, counts.launches.total() - graphs.launches + graphs.passes


def language_model_of_mix() -> list[dict[str, Any]]:
    """Return what the language model computes for the mix: padded to the longest protein of each batch, and packed."""
    lengths = metagenomic_mix(MIX, 1024)
    padded = padded_length("cuda")
    batches = cut_into_batches(
        lengths,
        config=ESMFOLD,
        recycles=PASSES - 1,
        budget_mflop=BATCH_MFLOP["cuda"],
        memory_limit=GPU_BYTES,
        precision="bf16",
        padded=padded,
    )
    with without_values():
        model = LanguageModel(ESMFOLD.language_model).to(torch.bfloat16)
    weights = torch.ones(ESMFOLD.language_model.num_layers + 1, device="meta")
    rows = []
    for name in ("padded", "packed"):
        tokens, launches, size, operations = 0, 0, 0, 0
        for batch in batches:
            members = lengths[batch.start : batch.stop]
            longest = padded(members[-1])
            inputs = encode(["A" * length for length in (*members, longest)], "meta")
            tokens_BT = language_tokens(inputs)[:-1]
            lengths_of = members if name == "packed" else None
            with counting((policy.PACKED_ATTENTION,)) as counts:
                model(tokens_BT, weights, lengths_of)
            tokens += sum(members) + 2 * len(members) if name == "packed" else tokens_BT.numel()
            launches += counts.launches.total()
            size += counts.bytes.total()
            computed = members if name == "packed" else [longest] * len(members)
            operations += sum(cost.language_mflop(ESMFOLD.language_model, length) for length in computed)
        rows.append(
            {
                "name": name,
                "proteins": len(lengths),
                "batches": len(batches),
                "tokens": tokens,
                "tflop": operations / 1e6,
                "gigabytes": size / 1e9,
                "launches": launches,
            }
        )
    return rows


def theirs(length: int) -> Counting:
    """Return the counts of launches of transformers' network, with narrow layers; its bytes mean nothing."""
    from transformers import EsmConfig, EsmForProteinFolding
    from transformers.models.esm.configuration_esm import get_default_vocab_list

    structure = {"sequence_dim": 16, "pairwise_dim": 8, "ipa_dim": 8, "resnet_dim": 8, "num_heads_ipa": 12}
    trunk = {
        "num_blocks": ESMFOLD.trunk.num_blocks,
        "sequence_state_dim": 32,
        "pairwise_state_dim": 32,
        "sequence_head_width": 16,
        "pairwise_head_width": 16,
        "chunk_size": None,
        "max_recycles": PASSES,
        "structure_module": {**structure, "num_blocks": ESMFOLD.structure_module.num_iterations},
    }
    config = EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=32,
        num_hidden_layers=ESMFOLD.language_model.num_layers,
        num_attention_heads=2,
        intermediate_size=64,
        position_embedding_type="rotary",
        max_position_embeddings=1026,
        token_dropout=True,
        is_folding_model=True,
        vocab_list=list(get_default_vocab_list()),
        esmfold_config={"esm_type": "esm2_3B", "fp16_esm": False, "lddt_head_hid_dim": 16, "trunk": trunk},
    )
    network = EsmForProteinFolding(config).eval()
    residues = torch.zeros(1, length, dtype=torch.long)
    mode = Counting()
    with torch.inference_mode(), mode:
        network(residues, attention_mask=torch.ones_like(residues))
    return mode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128, 256, 384, 512, 1024])
    add_output(parser)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    rival = theirs(32).launches.total()
    for length in options.lengths:
        (plain, _), (fused, in_graphs) = ours(length, ()), ours(length, policy.UPDATES)
        pair_bytes = 2 * ESMFOLD.trunk.pair_width * length**2
        blocks = PASSES * ESMFOLD.trunk.num_blocks
        rows.append(
            {
                "length": length,
                "launches_transformers": rival,
                "launches_plain": plain.launches.total(),
                "launches_kernels": fused.launches.total(),
                "launches_graphs": in_graphs if has_graph(length) else None,
                "gigabytes_plain": plain.bytes.total() / 1e9,
                "gigabytes_kernels": fused.bytes.total() / 1e9,
                "gigabytes_bound_op_fused": 49.5 * blocks * pair_bytes / 1e9,
                "gigabytes_bound_across": 23 * blocks * pair_bytes / 1e9,
            }
        )
        if length == options.lengths[-1]:
            most = [[name, fused.launches[name], size / 1e9] for name, size in fused.bytes.most_common(12)]
    mix = language_model_of_mix()
    write_results(
        options.output,
        "gpu_counts",
        {"torch": torch.__version__, "passes": PASSES, "lengths": rows, "most_bytes": most, "mix": mix},
        [
            "# Launches and bytes of a forward pass of esmfold_v1, counted",
            "",
            f"One protein, 4 passes, bfloat16, torch {torch.__version__}, meta device. Nothing was timed. Bounds",
            "count pair tensors in the blocks alone: 49.5 a block with each operation fused, 23 with fusion across",
            f"operations. Ours count all tensors, weights included. transformers issues {rival:,} operations. A graph",
            "counts as one launch; batches of more than 256 residues have none.",
            "",
            "| residues | launches, plain | with kernels | and graphs | GB, plain | with kernels | op-fused bound "
            "| bound across |",
            "|---|---|---|---|---|---|---|---|",
            *(
                f"| {row['length']:,} | {row['launches_plain']:,} | {row['launches_kernels']:,} | "
                f"{format(row['launches_graphs'], ',') if row['launches_graphs'] else ''} | "
                f"{row['gigabytes_plain']:,.1f} | {row['gigabytes_kernels']:,.1f} | "
                f"{row['gigabytes_bound_op_fused']:,.1f} | {row['gigabytes_bound_across']:,.1f} |"
                for row in rows
            ),
            "",
            f"Operations with the most bytes at {options.lengths[-1]:,} residues, with kernels:",
            "",
            "| operation | launches | GB |",
            "|---|---|---|",
            *(f"| {name} | {count:,} | {size:,.1f} |" for name, count, size in most),
            "",
            f"The language model on a metagenomic mix of {MIX:,} proteins in {mix[0]['batches']} batches:",
            "",
            "| batches are | tokens | TFLOP | GB | launches |",
            "|---|---|---|---|---|",
            *(
                f"| {row['name']} | {row['tokens']:,} | {row['tflop']:,.0f} | {row['gigabytes']:,.0f} | "
                f"{row['launches']:,} |"
                for row in mix
            ),
        ],
    )


if __name__ == "__main__":
    main()
