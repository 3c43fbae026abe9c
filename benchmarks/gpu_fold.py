"""Ours against transformers on a GPU: proteins a second, share of the bound and memory, random weights, in one run.

    PYTHONPATH=.ide python benchmarks/gpu_fold.py [--device cuda] [--seconds 280] [--quick]

Both have the sizes of esmfold_v1. Ours folds in bfloat16, in batches of equal length that fill the device, with and
without our kernels and CUDA graphs. transformers folds as its users do by default (float32, one protein at a time) and
at its best (language model in half precision, trunk under bfloat16 autocast if that runs, batched). Each figure
includes copying the results to the host. `mix` is a metagenomic mix: gamma distribution of shape 2 and mean 200, 16 to
1,024 residues. Measurements are taken in the order of their use, and those for which --seconds is not enough are
listed as such.

--quick takes small networks and short proteins, to try this file on a CPU; its figures mean nothing. Not measured here:
the busy share of a GPU while a whole `fold` job writes.
"""

import argparse
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import torch
from machine import add_output, hardware, write_results

from foldatlas.folding.config import ESMFoldConfig, LanguageModelConfig, StructureModuleConfig, TrunkConfig
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import ESMFold
from foldatlas.folding.network.graphs import graphs_on
from foldatlas.folding.network.kernels import policy, self_check
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.planning import cost
from foldatlas.folding.predictor import Predictor
from foldatlas.schemas.records import Settings

RECYCLES: Final = 3
LENGTHS: Final = (256, 128, 384, 64, 512, 1024)
# Rates of an H200 that were measured on one: bf16 products of 8,192 x 8,192 matrices, and copies in its memory.
FLOP_PER_SECOND: Final = 790e12
HBM_PER_SECOND: Final = 4.3e12
PAIR_TENSORS_A_BLOCK: Final = 49.5  # read or written by one block with each of its operations fused
SIZES: Final = ESMFoldConfig(
    LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240),
    TrunkConfig(48, 1024, 128, 32, 32, 32),
    StructureModuleConfig(8, 384, 128, 12, 16, 4, 8, 1, 128, 2),
    plddt_width=128,
    recycles=RECYCLES,
)
QUICK_SIZES: Final = replace(
    SIZES, language_model=LanguageModelConfig(2, 64, 4, 256), trunk=replace(SIZES.trunk, num_blocks=2)
)

Work = list[tuple[str, list[int]]]  # label, and lengths of the proteins


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=280, help="start no measurement after this (default 280)")
    parser.add_argument("--quick", action="store_true", help="small networks, for trying this file on a CPU")
    add_output(parser)
    options = parser.parse_args()
    end = time.monotonic() + options.seconds
    sizes = QUICK_SIZES if options.quick else SIZES
    lengths = (17, 32) if options.quick else LENGTHS
    mix = metagenomic_mix(4 if options.quick else 400, 40 if options.quick else 1024)
    work: Work = [(str(length), [length] * (2 if options.quick else proteins(length))) for length in lengths]
    work.insert(1, ("mix", mix))

    found: dict[str, Any] = {"hardware": gpu_name(options.device), "torch": torch.__version__, "quick": options.quick}
    found["rows"] = measure_ours(sizes, work, options.device, end)
    found["kernels"] = sorted({update for update, _ in policy._approved})
    empty_cache(options.device)
    try:
        found["rows"] += measure_transformers(sizes, work, options.device, end)
    except ImportError as error:
        print(f"transformers is not installed: {error}")
    write_results(options.output, "gpu_fold", found, table(found))


def measure_ours(sizes: ESMFoldConfig, work: Work, device: str, end: float) -> list[dict[str, Any]]:
    predictor = our_predictor(sizes, device)
    print(f"kernels in use: {', '.join(sorted({update for update, _ in policy._approved})) or 'none'}", flush=True)
    rows = [measure("ours", predictor.fold, *one, sizes, device, end) for one in work]
    network = predictor._network
    if (graphs := network.trunk.graphs) is not None:
        print(f"CUDA graphs: {len(graphs.shapes)} shapes, {graphs.bytes / 1e6:.0f} MB", flush=True)
        graphs.clear()
        network.trunk.graphs = None
        short = [one for one in work if one[0] in ("mix", "64", "128", "256")]
        rows += [measure("ours, no graphs", predictor.fold, *one, sizes, device, end) for one in short]
    if policy._approved:
        with policy.forced():
            rows += [measure("ours, plain torch", predictor.fold, *one, sizes, device, end) for one in work]
    return rows


def measure_transformers(sizes: ESMFoldConfig, work: Work, device: str, end: float) -> list[dict[str, Any]]:
    return [
        # One at a time a few proteins are enough.
        measure(name, fold, label, lengths if "best" in name or label == "mix" else lengths[:6], sizes, device, end)
        for name, fold in transformers_runs(sizes, device)
        for label, lengths in work
    ]


def proteins(length: int) -> int:
    """Return how many proteins of `length` are timed: about a second of work at half of the bound."""
    return max(4, int(0.5 / bound_seconds(SIZES, [length])))


def metagenomic_mix(count: int, longest: int) -> list[int]:
    draw = random.Random(0)
    return sorted(min(longest, max(16, round(draw.gammavariate(2, 100)))) for _ in range(count))


def bound_seconds(sizes: ESMFoldConfig, lengths: Sequence[int]) -> float:
    """Return the seconds that arithmetic or memory of an H200 need at least, whichever is more for each protein."""
    blocks = (RECYCLES + 1) * sizes.trunk.num_blocks
    return sum(
        max(
            cost.mflop(sizes, length, RECYCLES) * 1e6 / FLOP_PER_SECOND,
            PAIR_TENSORS_A_BLOCK * blocks * 2 * sizes.trunk.pair_width * length**2 / HBM_PER_SECOND,
        )
        for length in lengths
    )


def random_weights(network: torch.nn.Module, device: str) -> None:
    """Draw every parameter, on its device: matrices scaled by their inputs, so that values stay near 1."""
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0)
            else:
                parameter.normal_(0, 0.5 * parameter.shape[-1] ** -0.5, generator=generator)


def our_predictor(sizes: ESMFoldConfig, device: str) -> Predictor:
    with without_values():
        network = ESMFold(sizes)
    tables = {name: buffer for name, buffer in network.named_buffers() if buffer.device.type != "meta"}
    precision.BF16.apply(network)
    network.to_empty(device=device)
    for name, buffer in network.named_buffers():
        if name in tables:
            buffer.copy_(tables[name])
    half = sizes.language_model.head_width // 2
    network.esm.inv_freq.copy_(10000.0 ** -(torch.arange(half) / half))
    random_weights(network, device)
    network.eval()
    if device.startswith("cuda"):
        self_check.approve_kernels(network)
        network.trunk.graphs = graphs_on(device)
    return Predictor(network, Settings("random", "none", RECYCLES, "bf16"))


def transformers_runs(sizes: ESMFoldConfig, device: str) -> list[tuple[str, Callable[[Sequence[str]], object]]]:
    from transformers import EsmConfig, EsmForProteinFolding
    from transformers.models.esm.configuration_esm import get_default_vocab_list

    language, trunk, module = sizes.language_model, sizes.trunk, sizes.structure_module
    structure = {"sequence_dim": module.single_width, "pairwise_dim": module.pair_width}
    config = EsmConfig(
        vocab_size=33,
        mask_token_id=32,
        pad_token_id=1,
        hidden_size=language.width,
        num_hidden_layers=language.num_layers,
        num_attention_heads=language.num_heads,
        intermediate_size=language.transition_width,
        position_embedding_type="rotary",
        max_position_embeddings=1026,
        token_dropout=True,
        is_folding_model=True,
        vocab_list=list(get_default_vocab_list()),
        esmfold_config={
            "esm_type": "esm2_3B",
            "fp16_esm": False,
            "lddt_head_hid_dim": sizes.plddt_width,
            "trunk": {
                "num_blocks": trunk.num_blocks,
                "sequence_state_dim": trunk.single_width,
                "pairwise_state_dim": trunk.pair_width,
                "max_recycles": RECYCLES + 1,
                "chunk_size": None,
                "structure_module": {**structure, "num_blocks": module.num_iterations},
            },
        },
    )
    with torch.device(device):
        network = EsmForProteinFolding(config).eval()
    random_weights(network, device)

    def fold(sequences: Sequence[str], batch: int, autocast: bool) -> None:
        for start in range(0, len(sequences), batch):
            some = sequences[start : start + batch]
            longest = max(map(len, some))
            residues = torch.zeros(len(some), longest, dtype=torch.long)  # alanine
            mask = torch.tensor([[position < len(one) for position in range(longest)] for one in some]).long()
            context = torch.autocast(device.partition(":")[0], torch.bfloat16) if autocast else contextlib.nullcontext()
            with torch.inference_mode(), context:
                output = network(residues.to(device), attention_mask=mask.to(device))
            for value in output.values():
                if isinstance(value, torch.Tensor):
                    value.cpu()

    def best(sequences: Sequence[str]) -> None:
        network.esm.half()
        torch.backends.cuda.matmul.allow_tf32 = True
        longest = max(map(len, sequences))
        batch = max(1, min(32, 1024 // longest))
        last = None
        for autocast in (True, False):
            try:
                return fold(sequences, batch, autocast)
            except RuntimeError as error:  # bf16 does not run everywhere in it
                last = error
                print(f"transformers, autocast {autocast}: {str(error)[:200]}")
        raise RuntimeError(str(last))

    return [("transformers, defaults", lambda sequences: fold(sequences, 1, False)), ("transformers, best", best)]


def measure(
    name: str,
    fold: Callable[[Sequence[str]], object],
    label: str,
    lengths: Sequence[int],
    sizes: ESMFoldConfig,
    device: str,
    end: float,
) -> dict[str, Any]:
    """Time `fold` of proteins of `lengths` after one warm-up of the shortest and longest.

    Graphs are recorded within the time, as in a job.
    """
    row: dict[str, Any] = {"name": name, "proteins": label, "number": len(lengths), "note": ""}
    if time.monotonic() > end:
        return {**row, "note": "not measured: out of time"}
    sequences = ["A" * length for length in lengths]
    try:
        fold(sequences[-1:])
        fold(sequences[:2])
        on_gpu = device.startswith("cuda")
        if on_gpu:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        fold(sequences)
        if on_gpu:
            torch.cuda.synchronize()
        seconds = time.perf_counter() - started
    except (RuntimeError, TypeError, ValueError, MemoryError) as error:
        return {**row, "note": f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"}
    row |= {"per_second": len(lengths) / seconds, "share_of_bound": bound_seconds(sizes, lengths) / seconds}
    if on_gpu:
        pair_bytes = 2 * sizes.trunk.pair_width * max(lengths) ** 2
        row |= {
            "peak_gigabytes": (torch.cuda.max_memory_allocated() - before) / 1e9,
            "peak_pair_tensors_of_longest": (torch.cuda.max_memory_allocated() - before) / pair_bytes,
        }
    print(f"{name}, {label}: {row['per_second']:.3g} proteins/s", flush=True)
    return row


def gpu_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else hardware()


def empty_cache(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def table(found: dict[str, Any]) -> list[str]:
    rates = {(row["name"], row["proteins"]): row.get("per_second") for row in found["rows"]}

    def line(row: dict[str, Any]) -> str:
        ours, theirs = rates.get(("ours", row["proteins"])), row.get("per_second")
        cells = [
            row["proteins"],
            row["name"],
            f"{theirs:.3g}" if theirs else "",
            f"{ours / theirs:.2f}" if ours and theirs else "",
            f"{100 * row['share_of_bound']:.1f} %" if theirs else "",
            f"{row['peak_gigabytes']:.2f}" if "peak_gigabytes" in row else "",
            row["note"],
        ]
        return f"| {' | '.join(map(str, cells))} |"

    return [
        "# Ours and transformers on one GPU",
        "",
        f"{found['hardware']}, torch {found['torch']}, random weights, 4 passes."
        + (" QUICK: small networks, the figures mean nothing." if found["quick"] else ""),
        f"Kernels in use: {', '.join(found['kernels']) or 'none'}. The bound is an H200's, each operation fused.",
        "",
        "| residues | | proteins/s | ours is faster by | share of the bound | peak GB | |",
        "|---|---|---|---|---|---|---|",
        *map(line, found["rows"]),
    ]


if __name__ == "__main__":
    main()
