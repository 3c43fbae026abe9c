"""Training of a masked language model: ours, packed, against transformers' EsmForMaskedLM in a plain padded loop.

    PYTHONPATH=.ide python benchmarks/train_lm.py [--presets nano 8M] [--sequences 32] [--device cpu] [--name NAME]

The same random sequences, their lengths log-normal around 250 residues, the same masks, the same initial weights, and
one update of AdamW a pass on both sides. The plain loop takes `--sequences-per-pass` of them in the order in which they
come and pads them to the longest; ours packs as many tokens. Every repeat runs all networks in turn, so that what else
the machine does falls on all alike; medians are compared, by the clock and, on a CPU, by processor time, which a busy
machine changes less. Tokens are those of the sequences, never padding. The bound
is written first: operations of the training that no implementation can leave out, over what a large matrix product of
torch reaches here in the same run. The table goes to benchmarks/results/ as Markdown and JSON.
"""

import argparse
import contextlib
import datetime
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from machine import hardware
from transformers import EsmConfig, EsmForMaskedLM

from foldatlas.folding.config import LanguageModelConfig
from foldatlas.folding.network.layout import without_values
from foldatlas.folding.network.segments import Segments
from foldatlas.folding.network.tokens import PAD, encode_language
from foldatlas.folding.training.data.masking import mask
from foldatlas.folding.training.data.packing import pack
from foldatlas.folding.training.masked_model import MaskedLanguageModel
from foldatlas.folding.training.optimisers import AdamW, Optimiser
from foldatlas.folding.training.presets import PRESETS
from foldatlas.folding.weights.tensor_names import canonical

RESULTS: Final = Path(__file__).parent / "results"
LETTERS: Final = list("ACDEFGHIKLMNPQRSTVWY")
PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}
NETWORKS: Final = tuple(f"{whose} {precision}" for precision in PRECISIONS for whose in ("transformers", "ours"))
RATE: Final = 1e-4
MATRIX: Final = 2_048  # rows and columns of the product whose speed bounds all

Epoch = Callable[[], None]
Masked = tuple[np.ndarray, np.ndarray, np.ndarray]


def sequences_of(number: int) -> list[str]:
    generator = np.random.default_rng(0)
    lengths = generator.lognormal(np.log(250), 0.5, number).astype(int).clip(30, 1022)
    return ["".join(generator.choice(LETTERS, length)) for length in lengths]


def masked(sequences: list[str]) -> list[Masked]:
    """Tokens as seen, as they are, and where they are asked for, of each sequence."""
    found = []
    for number, sequence in enumerate(sequences):
        tokens = encode_language([sequence])[0].numpy()
        seen, is_asked = mask(tokens, np.random.default_rng(number))
        found.append((seen, tokens, is_asked))
    return found


def reference(config: LanguageModelConfig) -> EsmForMaskedLM:
    torch.manual_seed(0)
    return EsmForMaskedLM(
        EsmConfig(
            vocab_size=33,
            mask_token_id=32,
            pad_token_id=1,
            hidden_size=config.width,
            num_hidden_layers=config.num_layers,
            num_attention_heads=config.num_heads,
            intermediate_size=config.transition_width,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            max_position_embeddings=1026,
            layer_norm_eps=1e-5,
            position_embedding_type="rotary",
            emb_layer_norm_before=False,
            token_dropout=True,
        )
    ).train()


def autocast(device: str, precision: str) -> Any:
    wanted = PRECISIONS[precision]
    return contextlib.nullcontext() if wanted == torch.float32 else torch.autocast(device, wanted)


def plain_loop(config: LanguageModelConfig, examples: list[Masked], a_pass: int, device: str, precision: str) -> Epoch:
    model = reference(config).to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    batches = []
    for first in range(0, len(examples), a_pass):
        rows = examples[first : first + a_pass]
        longest = max(len(row[0]) for row in rows)
        seen, labels = torch.full((len(rows), longest), PAD), torch.full((len(rows), longest), -100)
        for row, (seen_T, tokens_T, is_asked_T) in enumerate(rows):
            seen[row, : len(seen_T)] = torch.from_numpy(seen_T)
            labels[row, : len(seen_T)] = torch.from_numpy(np.where(is_asked_T, tokens_T, -100))
        batches.append((seen, labels))

    def epoch() -> None:
        for seen, labels in batches:
            seen, labels = seen.to(device), labels.to(device)
            with autocast(device, precision):
                loss = model(seen, attention_mask=(seen != PAD).long(), labels=labels).loss
            loss.backward()
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    return epoch


def packed_loop(config: LanguageModelConfig, examples: list[Masked], a_pass: int, device: str, precision: str) -> Epoch:
    model = MaskedLanguageModel(config)
    named = canonical(reference(config).state_dict(), alone=True)
    model.load({**named.state, **named.heads})
    model.to(device)
    optimiser = Optimiser(model.named_parameters(), AdamW(RATE))
    lengths = [len(example[0]) for example in examples]
    budget = max(max(lengths), -(-sum(lengths) * a_pass // len(lengths)))
    packs = []
    for indices in pack(lengths, budget):
        seen, tokens, is_asked = (np.concatenate([examples[index][part] for index in indices]) for part in range(3))
        at = np.flatnonzero(is_asked)
        packs.append(([torch.from_numpy(part) for part in (seen, at, tokens[at])], [lengths[i] for i in indices]))

    def epoch() -> None:
        for tensors, of_pack in packs:
            seen, at, wanted = (tensor.to(device) for tensor in tensors)
            with autocast(device, precision):
                logits = model(seen, Segments(of_pack, device), at)
            F.cross_entropy(logits, wanted).backward()
            optimiser.step(1.0)

    return epoch


def seconds(work: Epoch, device: str) -> tuple[float, float]:
    """By the clock, and of processor time."""
    start, processor = time.perf_counter(), time.process_time()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, time.process_time() - processor


def product_tflops(precision: str, device: str, threads: int) -> float:
    """TFLOP/s of a large matrix product, the best of five; on a CPU by processor time."""
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
    taken = [seconds(lambda: torch.mm(a, b), device) for _ in range(6)][1:]
    best = min(clock if device == "cuda" else processor / threads for clock, processor in taken)
    return 2 * MATRIX**3 / best / 1e12


def tflop(config: LanguageModelConfig, lengths: list[int]) -> float:
    """Operations of one pass over the data: 6 a parameter and token (2 forward, 4 for gradients), and of attention
    12 a channel, layer and pair of tokens of a sequence (4 forward, 8 for gradients)."""
    with without_values():
        number = sum(parameter.numel() for parameter in MaskedLanguageModel(config).parameters())
    pairs = sum(length**2 for length in lengths)
    return (6 * number * sum(lengths) + 12 * config.num_layers * config.width * pairs) / 1e12


def measure(preset: str, arguments: argparse.Namespace) -> dict[str, Any]:
    config, device = PRESETS[preset].config, arguments.device
    examples = masked(sequences_of(arguments.sequences))
    lengths = [len(example[0]) for example in examples]
    a_pass = arguments.sequences_per_pass
    padded = sum(
        max(lengths[first : first + a_pass]) * len(lengths[first : first + a_pass])
        for first in range(0, len(lengths), a_pass)
    )
    work = tflop(config, lengths)
    peaks = {precision: product_tflops(precision, device, arguments.threads) for precision in PRECISIONS}
    bounds = {precision: sum(lengths) / (work / peak) for precision, peak in peaks.items()}
    print(f"{preset}: {work:.3f} TFLOP; bounds in tokens/s {bounds}", file=sys.stderr, flush=True)
    loops = {
        network: (plain_loop if network.startswith("transformers") else packed_loop)(
            config, examples, a_pass, device, network.split()[1]
        )
        for network in NETWORKS
    }
    for loop in loops.values():
        seconds(loop, device)  # the first pass makes what later ones reuse
    taken: dict[str, list[tuple[float, float]]] = {network: [] for network in NETWORKS}
    for _ in range(arguments.repeats):
        for network, loop in loops.items():
            taken[network].append(seconds(loop, device))
    return {
        "preset": preset,
        "tokens": sum(lengths),
        "padding": 1 - sum(lengths) / padded,
        "tflop": work,
        "product_tflops": peaks,
        "bounds": bounds,
        "seconds": taken,
        **{
            name: {
                network: sum(lengths) / statistics.median(pair[column] for pair in pairs)
                for network, pairs in taken.items()
            }
            for column, name in enumerate(("tokens_per_second", "tokens_per_processor_second"))
        },
    }


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Training a masked language model: ours, packed, and transformers', padded",
        "",
        f"{result['date']}, {result['hardware']}; {result['versions']}; {result['threads']} threads.",
        f"Made by `benchmarks/train_lm.py`; medians of {result['repeats']} interleaved repeats over",
        f"{result['sequences']} sequences, {result['sequences_per_pass']} a pass. The machine was shared: its load",
        f"average was {result['load']} before.",
        "",
        "| preset | network | tokens/s | times as fast as transformers | tokens a processor second | times as fast "
        "| of the bound | bound, tokens/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        speed, processor = row["tokens_per_second"], row["tokens_per_processor_second"]
        # what the bound is compared with: see product_tflops
        steady = (
            speed if result["device"] == "cuda" else {of: value * result["threads"] for of, value in processor.items()}
        )
        for network in NETWORKS:
            precision = network.split()[1]
            bound = row["bounds"][precision]
            lines.append(
                f"| {row['preset']} | {network} | {speed[network]:,.0f} "
                f"| {speed[network] / speed[f'transformers {precision}']:.2f} | {processor[network]:,.0f} "
                f"| {processor[network] / processor[f'transformers {precision}']:.2f} "
                f"| {steady[network] / bound:.0%} | {bound:,.0f} |"
            )
    lines += ["", "| preset | tokens | padding of the plain loop | TFLOP | product fp32, TFLOP/s | bf16 |"]
    lines += ["|---|---|---|---|---|---|"]
    lines += [
        f"| {row['preset']} | {row['tokens']:,} | {row['padding']:.0%} | {row['tflop']:.3f} "
        f"| {row['product_tflops']['fp32']:.3f} | {row['product_tflops']['bf16']:.3f} |"
        for row in result["rows"]
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--presets", nargs="+", choices=list(PRESETS), default=["nano", "8M"])
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--sequences-per-pass", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of torch on the CPU")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--name", default="train_lm", help="of the files in benchmarks/results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    gpu = f"{torch.cuda.get_device_name()}; " if arguments.device == "cuda" else ""
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": gpu + hardware(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "load": " ".join(f"{value:.1f}" for value in os.getloadavg()),
        **{
            name: getattr(arguments, name)
            for name in ("device", "sequences", "sequences_per_pass", "repeats", "threads")
        },
        "rows": [measure(preset, arguments) for preset in arguments.presets],
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
