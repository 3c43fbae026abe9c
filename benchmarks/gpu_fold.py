"""Ours against transformers on a GPU: proteins a second, share of the bound, memory and accuracy, in one run.

    PYTHONPATH=.ide python benchmarks/gpu_fold.py [--device cuda] [--seconds 280] [--parts NAME ...] [--quick]

Both have the sizes of esmfold_v1 and random weights (gpu_models.py). Parts, in this order:

accuracy      20 proteins: ours in bfloat16 against ours in float32, transformers at its best against its defaults
ours          bfloat16, batches that fill the device, kernels and CUDA graphs
transformers  float32, one protein at a time, as its users run it; and at its best: language model in half precision,
              trunk under bfloat16 autocast if that runs, TF32, batched up to the number of residues that is fastest
profile       kernels of ours by time, for 256 residues and for the mix (gpu_profile.md)
variants      ours without graphs, and by plain torch

Each figure includes copying the results to the host. `mix` is a metagenomic mix: gamma distribution of shape 2 and mean
200, 16 to 1,024 residues; transformers folds an even selection of it. Results are written after each figure. A part
that fails is noted, and the next begins; what --seconds is not enough for is listed as such.

--quick takes small networks and short proteins, to try this file on a CPU; its figures mean nothing. The busy share of
a GPU while shards are folded and written is measured by gpu_job.py.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from gpu_models import (
    QUICK_SIZES,
    SIZES,
    bound_seconds,
    into_bf16,
    metagenomic_mix,
    our_predictor,
    random_sequence,
    transformers_network,
)
from gpu_profile import profile_table
from machine import add_output, hardware, write_results

from foldatlas.folding.config import ESMFoldConfig
from foldatlas.folding.network.kernels import policy
from foldatlas.folding.network.residue_constants import ATOM_EXISTS_RA
from foldatlas.folding.network.tokens import encode
from foldatlas.folding.predictor import Predictor

LENGTHS: Final = (256, 128, 384, 64, 512, 1024)
PARTS: Final = ("accuracy", "ours", "transformers", "profile", "variants")
SECONDS_A_FIGURE: Final = 6.0  # of transformers: as many proteins as fold in that time, at least one
BATCH_RESIDUES: Final = (1024, 4096)  # of transformers at its best: padded residues of a batch, the faster is used

Work = list[tuple[str, list[int]]]  # label, and ascending lengths of the proteins
Fold = Callable[[Sequence[str]], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, default=280, help="start no measurement after this (default 280)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--quick", action="store_true", help="small networks, for trying this file on a CPU")
    add_output(parser)
    options = parser.parse_args()
    Run(options.device, options.quick, options.seconds, options.output).run(options.parts)


class Run:
    """The measurements of one process, and their results so far."""

    def __init__(self, device: str, quick: bool, seconds: float, output: Path):
        self.device, self.output = device, output
        self.on_gpu = device.startswith("cuda")
        self.started = time.monotonic()
        self.end = self.started + seconds
        self.sizes: ESMFoldConfig = QUICK_SIZES if quick else SIZES
        self.work: Work = [(str(length), [length] * (2 if quick else proteins(length))) for length in LENGTHS]
        if quick:
            self.work = [("17", [17, 17]), ("32", [32, 32])]
        self.work.insert(1, ("mix", metagenomic_mix(4 if quick else 400, 40 if quick else 1024)))
        self.compared = [random_sequence(length, seed=1) for length in metagenomic_mix(2 if quick else 20, 256)]
        self.found: dict[str, Any] = {
            "hardware": torch.cuda.get_device_name(device) if self.on_gpu else hardware(),
            "torch": torch.__version__,
            "quick": quick,
            "kernels": [],
            "rows": [],
            "accuracy": [],
            "notes": [],
        }

    def run(self, parts: Sequence[str]) -> None:
        with self.part("loading"):
            predictor = our_predictor(self.sizes, self.device)
            in_fp32 = self.folded(predictor, parts)
            predictor = into_bf16(predictor, self.device)
            self.found["kernels"] = sorted({update for update, _ in policy._approved})
            self.say(f"kernels in use: {', '.join(self.found['kernels']) or 'none'}")
            if "accuracy" in parts:
                self.compare("ours, bf16", in_fp32, self.folded(predictor, parts))
        if "ours" in parts:
            with self.part("ours"):
                self.measure_ours("ours", predictor, self.work)
        if "transformers" in parts or "accuracy" in parts:
            with self.part("transformers"):
                network = transformers_network(self.sizes, self.device)
                self.say("transformers' network is made")
                self.measure_transformers(network, parts)
                del network
            self.empty_cache()
        if "profile" in parts:
            with self.part("profile"):
                self.profile(predictor)
        if "variants" in parts:
            with self.part("variants"):
                self.measure_variants(predictor)
        self.write()

    @contextlib.contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Note an error of this block in the results, and go on after it."""
        try:
            yield
        except Exception as error:  # of torch, Triton, transformers or the driver
            self.note(f"{name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            self.empty_cache()

    def measure_ours(self, name: str, predictor: Predictor, work: Work) -> None:
        for label, lengths in work:
            sequences = [random_sequence(length, seed) for seed, length in enumerate(lengths)]
            self.measure(name, predictor.fold, label, sequences)
        if (graphs := predictor._network.trunk.graphs) is not None:
            self.note(f"{name}: {len(graphs.shapes)} shapes have CUDA graphs, {graphs.bytes / 1e6:.0f} MB")

    def measure_variants(self, predictor: Predictor) -> None:
        network = predictor._network
        if network.trunk.graphs is not None:
            network.trunk.graphs.clear()
            network.trunk.graphs = None
            short = [one for one in self.work if one[0] in ("mix", "64", "128", "256")]
            self.measure_ours("ours, no graphs", predictor, short)
        if policy._approved:
            with policy.forced():
                self.measure_ours("ours, plain torch", predictor, self.work)

    def measure_transformers(self, network: Any, parts: Sequence[str]) -> None:
        defaults = partial(transformers_fold, network, self.device, residues=0, autocast=False)
        if "accuracy" in parts:
            expected = transformers_structures(network, self.device, self.compared, autocast=False)
        if "transformers" in parts:
            self.measure_rival("transformers, defaults", defaults)
        # From here on at its best. Weights of the language model are converted for good.
        network.esm.half()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        try:
            autocast = self.runs_under_autocast(network)
            if "accuracy" in parts:
                found = transformers_structures(network, self.device, self.compared, autocast=autocast)
                self.compare("transformers, best", expected, found)
            if "transformers" in parts:
                residues = self.fastest_batch(network, autocast)
                best = partial(transformers_fold, network, self.device, residues=residues, autocast=autocast)
                self.measure_rival("transformers, best", best)
        finally:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def runs_under_autocast(self, network: Any) -> bool:
        try:
            transformers_fold(network, self.device, [random_sequence(16)], residues=0, autocast=True)
        except RuntimeError as error:
            self.note(f"transformers does not run under autocast: {' '.join(str(error).split())[:150]}")
            return False
        return True

    def fastest_batch(self, network: Any, autocast: bool) -> int:
        """Return the padded residues of a batch with which proteins of 128 residues fold fastest."""
        seconds: dict[int, float] = {}
        for residues in BATCH_RESIDUES:
            batch = [random_sequence(128 if self.on_gpu else 16, seed) for seed in range(max(1, residues // 128))]
            batch = batch if self.on_gpu else batch[:2]
            with self.part(f"transformers, batches of {residues} residues"):
                for _ in range(2):
                    started = time.perf_counter()
                    transformers_fold(network, self.device, batch, residues=residues, autocast=autocast)
                    seconds[residues] = (time.perf_counter() - started) / len(batch)
        found = min(seconds, key=seconds.__getitem__, default=BATCH_RESIDUES[0])
        self.note(f"transformers, best: autocast {autocast}, batches of up to {found} padded residues")
        return found

    def measure_rival(self, name: str, fold: Fold) -> None:
        for label, lengths in self.work:
            sequences = [random_sequence(length, seed) for seed, length in enumerate(lengths)]
            self.measure(name, fold, label, sequences, seconds=SECONDS_A_FIGURE)

    def measure(self, name: str, fold: Fold, label: str, sequences: list[str], seconds: float | None = None) -> None:
        """Time `fold` of the same proteins again, after kernels were compiled and graphs of ours recorded.

        With `seconds`, an even selection of the proteins that takes about so long, after one of them.
        """
        row: dict[str, Any] = {"name": name, "proteins": label, "number": 0, "note": ""}
        self.found["rows"].append(row)
        if time.monotonic() > self.end:
            row["note"] = "not measured: out of time"
            return
        try:
            row |= self.timed(fold, sequences, seconds)
            self.say(f"{name}, {label}: {row['per_second']:.3g} proteins/s, {100 * row['share_of_bound']:.1f} %")
        except Exception as error:  # of torch, Triton, transformers or the driver
            row["note"] = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            self.say(f"{name}, {label}: {row['note']}")
            self.empty_cache()
        self.write()

    def timed(self, fold: Fold, sequences: list[str], seconds: float | None) -> dict[str, Any]:
        started = time.perf_counter()
        first: dict[str, Any] = {}
        if seconds is None:
            fold(sequences)
            first["first_seconds"] = time.perf_counter() - started
        else:
            middle = sequences[len(sequences) // 2]
            fold([middle])
            number = max(1, min(len(sequences), int(seconds / (time.perf_counter() - started))))
            if number > 1:
                sequences = [sequences[(2 * n + 1) * len(sequences) // (2 * number)] for n in range(number)]
        if self.on_gpu:
            torch.cuda.synchronize()
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        fold(sequences)
        if self.on_gpu:
            torch.cuda.synchronize()
        taken = time.perf_counter() - started
        lengths = list(map(len, sequences))
        row = first | {
            "number": len(sequences),
            "seconds": taken,
            "per_second": len(sequences) / taken,
            "share_of_bound": bound_seconds(self.sizes, lengths) / taken,
        }
        if self.on_gpu:
            pair_bytes = 2 * self.sizes.trunk.pair_width * max(lengths) ** 2
            peak = torch.cuda.max_memory_allocated() - before
            row |= {"peak_gigabytes": peak / 1e9, "peak_pair_tensors_of_longest": peak / pair_bytes}
        return row

    def folded(self, predictor: Predictor, parts: Sequence[str]) -> "list[Structure]":
        """Return backbones and pLDDT of the proteins by which accuracy is measured."""
        if "accuracy" not in parts:
            return []
        found = []
        for prediction in predictor.fold(self.compared):
            aatype_L = encode([prediction.sequence]).aatype_BL[0].numpy()
            first_L = np.cumsum(ATOM_EXISTS_RA[aatype_L].sum(axis=1)) - ATOM_EXISTS_RA[aatype_L].sum(axis=1)
            backbone = prediction.positions[(first_L[:, None] + np.arange(3)).ravel()]
            found.append((backbone, prediction.plddt))
        return found

    def compare(self, name: str, expected: "list[Structure]", found: "list[Structure]") -> None:
        distances = [rmsd(one, other) for (one, _), (other, _) in zip(found, expected, strict=True)]
        plddt = [float(np.abs(one - other).mean()) for (_, one), (_, other) in zip(found, expected, strict=True)]
        row = {
            "name": name,
            "proteins": len(distances),
            "rmsd_median": statistics.median(distances),
            "rmsd_most": max(distances),
            "plddt_mean": statistics.mean(plddt),
            "plddt_most": max(plddt),
        }
        self.found["accuracy"].append(row)
        self.say(f"{name} against its float32: {row}")
        self.write()

    def profile(self, predictor: Predictor) -> None:
        lengths = [256] * 8 if self.on_gpu else [16, 16]
        mix = metagenomic_mix(40, 1024) if self.on_gpu else [16, 17]
        lines = ["# Kernels of ours by time", "", f"{self.found['hardware']}, torch {torch.__version__}."]
        for title, of_lengths in (("256 residues", lengths), ("Metagenomic mix", mix)):
            sequences = [random_sequence(length, seed) for seed, length in enumerate(of_lengths)]
            predictor.fold(sequences)
            kernels, text = profile_table(partial(predictor.fold, sequences), self.on_gpu)
            self.found.setdefault("profile", {})[title] = kernels
            lines += ["", f"## {title}, {len(sequences)} proteins", "", *text]
            (self.output / "gpu_profile.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
            self.write()

    def note(self, text: str) -> None:
        self.found["notes"].append(text)
        self.say(text)
        self.write()

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.started:5.0f} s  {text}", flush=True)

    def write(self) -> None:
        with contextlib.redirect_stdout(None):
            write_results(self.output, "gpu_fold", self.found, table(self.found))

    def empty_cache(self) -> None:
        if self.on_gpu:
            torch.cuda.empty_cache()


Structure = tuple[Any, Any]  # backbone [3 L, 3] in angstrom, pLDDT [L]


def proteins(length: int) -> int:
    """Return how many proteins of `length` are timed: about a second of work at half of the bound."""
    return max(4, int(0.5 / bound_seconds(SIZES, [length])))


def rmsd(one_N3: Any, other_N3: Any) -> float:
    """Return the root mean square distance in angstrom after superposition (Kabsch 1976)."""
    one, other = (np.asarray(x, np.float64) - np.mean(x, axis=0, dtype=np.float64) for x in (one_N3, other_N3))
    left, sizes, right = np.linalg.svd(one.T @ other)
    sizes[-1] *= np.sign(np.linalg.det(left @ right))
    squared = (one**2).sum() + (other**2).sum() - 2 * sizes.sum()
    return float(np.sqrt(max(0.0, squared) / len(one)))


def transformers_fold(network: Any, device: str, sequences: Sequence[str], *, residues: int, autocast: bool) -> None:
    """Fold ascending `sequences` in batches of up to `residues` with padding, and copy all outputs to the host."""
    batch: list[str] = []
    for sequence in sequences:
        if batch and (len(batch) + 1) * len(sequence) > residues:
            on_host(transformers_output(network, device, batch, autocast))
            batch = []
        batch.append(sequence)
    on_host(transformers_output(network, device, batch, autocast))


def transformers_output(network: Any, device: str, sequences: Sequence[str], autocast: bool) -> Any:
    batch = encode(sequences, device)
    context = torch.autocast(device.partition(":")[0], torch.bfloat16) if autocast else contextlib.nullcontext()
    with torch.inference_mode(), context:
        return network(batch.aatype_BL, attention_mask=batch.mask_BL.long())


def on_host(output: Any) -> None:
    for value in output.values():
        if isinstance(value, torch.Tensor):
            value.cpu()


def transformers_structures(
    network: Any, device: str, sequences: Sequence[str], *, autocast: bool
) -> "list[Structure]":
    found = []
    for sequence in sequences:
        output = transformers_output(network, device, [sequence], autocast)
        backbone = output["positions"][-1, 0, :, :3].float().reshape(-1, 3).cpu().numpy()
        found.append((backbone, 100 * output["plddt"][0, :, 1].float().cpu().numpy()))
    return found


def table(found: dict[str, Any]) -> list[str]:
    rates = {(row["name"], row["proteins"]): row.get("per_second") for row in found["rows"]}

    def line(row: dict[str, Any]) -> str:
        ours, theirs = rates.get(("ours", row["proteins"])), row.get("per_second")
        peak = f"{row['peak_gigabytes']:.2f}" if "peak_gigabytes" in row else ""
        if peak and row["proteins"] in ("512", "1024"):
            peak += f" ({row['peak_pair_tensors_of_longest']:.1f} pair tensors)"
        cells = [
            row["proteins"],
            row["name"],
            row["number"],
            f"{theirs:.3g}" if theirs else "",
            f"{ours / theirs:.2f}" if ours and theirs else "",
            f"{100 * row['share_of_bound']:.1f} %" if theirs else "",
            peak,
            row["note"],
        ]
        return f"| {' | '.join(map(str, cells))} |"

    lines = [
        "# Ours and transformers on one GPU",
        "",
        f"{found['hardware']}, torch {found['torch']}, random weights, 4 passes."
        + (" QUICK: small networks, the figures mean nothing." if found["quick"] else ""),
        f"Kernels in use: {', '.join(found['kernels']) or 'none'}. The bound is an H200's, each operation fused.",
        "",
        "| residues | | proteins | proteins/s | ours is faster by | share of the bound | peak GB | |",
        "|---|---|---|---|---|---|---|---|",
        *map(line, found["rows"]),
        "",
        "Distance from each program's own float32, in angstrom after superposition and in pLDDT:",
        "",
        "| | proteins | median RMSD | most | mean pLDDT difference | most |",
        "|---|---|---|---|---|---|",
    ]
    for row in found["accuracy"]:
        numbers = [f"{row[name]:.3g}" for name in ("rmsd_median", "rmsd_most", "plddt_mean", "plddt_most")]
        lines.append(f"| {' | '.join([row['name'], str(row['proteins']), *numbers])} |")
    return [*lines, "", *found["notes"]]


if __name__ == "__main__":
    main()
