"""Our network against transformers' on a CPU: time and memory, the same random weights, in one run.

    PYTHONPATH=.ide python benchmarks/cpu_fold.py [--lengths 64 128] [--threads 1 2] [--repeats 3] [--name NAME]

ESM-2 of 6 layers x 320 channels; a trunk of 8 blocks with ESMFold's widths; the structure module and 4 trunk passes
of ESMFold. Every repeat folds the same protein with transformers in float32, ours in float32 and ours in bfloat16,
in turn, so that what else the machine does falls on all alike; medians are compared. Memory is taken in a process of
its own for each: the kernel's record of the resident set at its highest while folding, less that just before, with
the model loaded and a short protein folded. The table goes to benchmarks/results/ as Markdown and JSON.
"""

import argparse
import datetime
import gc
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from machine import hardware
from transformers import EsmConfig, EsmForProteinFolding
from transformers.models.esm.configuration_esm import get_default_vocab_list

from foldatlas.folding.config import ESMFoldConfig, from_transformers
from foldatlas.folding.network import precision
from foldatlas.folding.network.esmfold import ESMFold, OutputFlags
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.planning import cost
from foldatlas.folding.weights import fitting

RESULTS: Final = Path(__file__).parent / "results"
THEIRS: Final = "transformers fp32"
OURS: Final = ("fp32", "bf16")
RECYCLES: Final = 3  # transformers' default: 4 passes
WARM_UP: Final = "MKTAYIAKQR"

CONFIG: Final = {
    "vocab_size": 33,
    "mask_token_id": 32,
    "pad_token_id": 1,
    "hidden_size": 320,
    "num_hidden_layers": 6,
    "num_attention_heads": 20,
    "intermediate_size": 1280,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "max_position_embeddings": 1026,
    "layer_norm_eps": 1e-5,
    "position_embedding_type": "rotary",
    "emb_layer_norm_before": False,
    "token_dropout": True,
    "is_folding_model": True,
    "vocab_list": list(get_default_vocab_list()),
    "esmfold_config": {
        "esm_type": "esm2_3B",
        "fp16_esm": False,
        "lddt_head_hid_dim": 128,
        "trunk": {
            "num_blocks": 8,
            "sequence_state_dim": 1024,
            "pairwise_state_dim": 128,
            "sequence_head_width": 32,
            "pairwise_head_width": 32,
            "position_bins": 32,
            "dropout": 0,
            "max_recycles": 4,
            "chunk_size": None,
            "structure_module": {
                "sequence_dim": 384,
                "pairwise_dim": 128,
                "ipa_dim": 16,
                "resnet_dim": 128,
                "num_heads_ipa": 12,
                "num_qk_points": 4,
                "num_v_points": 8,
                "num_blocks": 8,
            },
        },
    },
}

Fold = Callable[[str], Any]


def reference() -> EsmForProteinFolding:
    """transformers' network with random weights: its own are zero in places, which some kernels would notice."""
    model = EsmForProteinFolding(EsmConfig(**CONFIG)).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=parameter.shape[-1] ** -0.5, generator=generator)
    return model


def folding_of(model: EsmForProteinFolding, name: str) -> Fold:
    """How `name` folds a sequence: "transformers fp32", or a precision of ours."""
    if name == THEIRS:

        def fold_theirs(sequence: str) -> Any:
            batch = encode([sequence])
            return model(batch.aatype_BL, batch.mask_BL.long())

        return fold_theirs
    network: ESMFold = fitting.build(from_transformers(model.config.to_dict()), model.state_dict())
    precision.get(name).apply(network)
    return lambda sequence: network(encode([sequence]), recycles=RECYCLES, outputs=OutputFlags(pae_logits=True))


def sequence_of(length: int) -> str:
    return "".join(np.random.default_rng(length).choice(list("ACDEFGHIKLMNPQRSTVWY"), length))


def seconds(fold: Fold, sequence: str) -> tuple[float, float]:
    """Wall seconds and seconds of processor time."""
    wall, processor = time.perf_counter(), time.process_time()
    with torch.inference_mode():
        fold(sequence)
    return time.perf_counter() - wall, time.process_time() - processor


def measure_times(lengths: list[int], threads: list[int], repeats: int) -> list[dict[str, Any]]:
    model = reference()
    names = [THEIRS, *OURS]
    folds = {name: folding_of(model, name) for name in names}
    rows = []
    for num_threads in threads:
        torch.set_num_threads(num_threads)
        for length in lengths:
            for fold in folds.values():
                seconds(fold, WARM_UP)
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(repeats):
                for name in names:
                    taken[name].append(seconds(folds[name], sequence_of(length)))
            for name in names:
                wall, processor = (statistics.median(column) for column in zip(*taken[name], strict=True))
                rows.append(
                    {"threads": num_threads, "length": length, "network": name, "seconds": wall, "processor": processor}
                )
                print(rows[-1], file=sys.stderr, flush=True)
    return rows


def peak_memory(name: str, length: int) -> dict[str, int]:
    """What `measure_memory_here` finds in a process of its own."""
    command = [sys.executable, __file__, "--memory-of", name, "--lengths", str(length)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    measured: dict[str, int] = json.loads(output.splitlines()[-1])
    return measured


def measure_memory_here(name: str, length: int) -> dict[str, int]:
    """Bytes that folding adds to this process, the model loaded, and the most that the process held."""
    torch.set_num_threads(1)
    model = reference()
    fold = folding_of(model, name)
    if name != THEIRS:
        del model
    gc.collect()
    with torch.inference_mode():
        fold(WARM_UP)
        Path("/proc/self/clear_refs").write_text("5")  # forget the highest resident set so far
        before = _status("VmRSS")
        fold(sequence_of(length))
    return {"folding": _status("VmHWM") - before, "process": _status("VmHWM")}


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))


def bound(config: ESMFoldConfig, length: int) -> dict[str, float]:
    """What no implementation of these operations can beat: its operations, and bytes if each op is fused.

    49.5 pair representations are moved a block if every layer reads its inputs and writes its output once.
    """
    moved = 49.5 * 4 * config.trunk.pair_width * length**2 * config.trunk.num_blocks * (RECYCLES + 1)
    return {"tflop": cost.mflop(config, length, RECYCLES) / 1e6, "gigabytes": moved / 1e9}


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    lines = [
        "# Folding on a CPU: ours and transformers'",
        "",
        f"{result['date']}, {result['hardware']}; {result['versions']}.",
        f"Made by `benchmarks/cpu_fold.py`; medians of {result['repeats']} interleaved repeats. The machine was",
        f"shared: its load average was {result['load']} before.",
        "",
        "| threads | L | network | seconds | processor s | times as fast | by processor time "
        "| folding adds | of theirs |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in result["rows"]:
        theirs = next(
            other
            for other in result["rows"]
            if (other["threads"], other["length"], other["network"]) == (row["threads"], row["length"], THEIRS)
        )
        memory, their_memory = (
            result["memory"][f"{network} {row['length']}"]["folding"] for network in (row["network"], THEIRS)
        )
        lines.append(
            f"| {row['threads']} | {row['length']} | {row['network']} | {row['seconds']:.2f} | {row['processor']:.2f} "
            f"| {theirs['seconds'] / row['seconds']:.2f} | {theirs['processor'] / row['processor']:.2f} "
            f"| {memory / 1e6:,.0f} MB | {memory / their_memory:.2f} |"
        )
    lines += [
        "",
        "Bounds: operations of matrix products, and bytes moved if every layer were one fused kernel.",
        "",
    ]
    lines += ["| L | TFLOP | GB |", "|---|---|---|"]
    lines += [f"| {length} | {b['tflop']:.3f} | {b['gigabytes']:.1f} |" for length, b in result["bounds"].items()]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 128], help="256 takes minutes a repeat")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--name", default="cpu_fold", help="of the files in benchmarks/results")
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)  # what a process of its own is asked
    arguments = parser.parse_args()
    if arguments.memory_of:
        print(json.dumps(measure_memory_here(arguments.memory_of, arguments.lengths[0])))
        return
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    config = from_transformers(EsmConfig(**CONFIG).to_dict())
    versions = {
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    result = {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
        "load": load,
        "repeats": arguments.repeats,
        "bounds": {length: bound(config, length) for length in arguments.lengths},
        "memory": {
            f"{name} {length}": peak_memory(name, length) for name in (THEIRS, *OURS) for length in arguments.lengths
        },
        "rows": measure_times(arguments.lengths, arguments.threads, arguments.repeats),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{arguments.name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{arguments.name}.md").write_text(table(result), encoding="utf-8")
    print(table(result))


if __name__ == "__main__":
    main()
