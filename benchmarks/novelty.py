"""Structure search against exhaustive TM-align (tmtools): what is missed, what is wrong, and what it takes.

    python benchmarks/novelty.py ../shared/data/chains.parquet [--modes default,sensitive,exhaustive] [--decoys ABC]
        [--decoy-modes default,sensitive] [--grown 0A] [--exhaustive-every 8] [--size 200000] [--threads 2]
        [--truth FOLDER] [--work FOLDER] [--output FOLDER]

Queries are the chains of split `valid`, the reference is split `train`, padded with each kind of decoys
(novelty_reference.py) to `--size` entries. The truth is benchmarks/novelty_truth.py's, of the queries whose part is
there; the others are searched and timed too. Exhaustive searches take every eighth query. A verdict is whether the best
TM-score is at least 0.5; queries whose truth is within 0.01 of that are left out of the wrong ones, and shown. Every
hit's score is computed again from its transform and partners. Each search is a process of its own, warm: compiled, its
reference in the page cache, one query searched before. Processor seconds, of all threads; tmtools is timed on pairs
drawn at random in between.

A reference that grew is searched in two parts, each of every other chain and as many decoys (`--grown`; 0: without
decoys): of the two hits of a query the better one counts, as where a newer version of a reference is searched.

Writes novelty.md and novelty.json; parts that another run made stay.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import platform
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from machine import add_output, hardware, write_results
from novelty_reference import PIECES, RealChain, real_chains, write_reference
from novelty_truth import SCALE

from foldatlas.atlas.novelty.hits import VERDICT_TM, Query, StructureHit
from foldatlas.atlas.novelty.settings import SearchSettings
from foldatlas.atlas.novelty.structure_search import search_structures
from foldatlas.atlas.reference.reader import Reference
from foldatlas.folding.compare.superposition import tm_d0

ASIDE = 0.01  # of VERDICT_TM
TOLERANCE = 0.02
ABOVE = 0.005
SAMPLE = 200  # pairs that tmtools is timed on
MILLION = 1_000_000


def reproduced(query: Query, hit: StructureHit, target: np.ndarray) -> float:
    """The TM-score by the query's length of the hit's partners under its transform, by numpy."""
    rows = np.flatnonzero(hit.partners_L >= 0)
    moved = query.backbone_L43[rows, 1].astype(np.float64) @ hit.rotation.T + hit.translation
    squares = ((moved - target[hit.partners_L[rows]]) ** 2).sum(axis=1)
    length = int(query.has_c_alpha_L.sum())
    return float((1 / (1 + squares / tm_d0(length) ** 2)).sum() / length)


def search(chains: Path, folder: Path, mode: str, threads: int, every: int) -> dict[str, Any]:
    """Search with every `every`-th query; what was found, and what it took."""
    reference = Reference.open(folder)
    queries = [Query(chain.name, chain.sequence, chain.backbone) for chain in real_chains(chains, "valid")]
    numbers = list(range(0, len(queries), every))
    queries = [queries[number] for number in numbers]
    settings = SearchSettings(mode)  # type: ignore[arg-type]
    search_structures(reference, queries[:1], settings, threads=threads)
    begun, wall = time.process_time(), time.perf_counter()
    found = search_structures(reference, queries, settings, threads=threads)
    spent, wall = time.process_time() - begun, time.perf_counter() - wall
    differences = [
        abs(reproduced(query, hit, reference.chain(hit.row)[1]) - hit.tm_query)
        for query, hit in zip(queries, found.results, strict=True)
        if isinstance(hit, StructureHit)
    ]
    return {
        "mode": mode,
        "entries": len(reference),
        "queries": len(queries),
        "numbers": numbers,
        "names": [query.structure_id for query in queries],
        "tm": [hit.tm_query if isinstance(hit, StructureHit) else 0.0 for hit in found.results],
        "processor_seconds": spent,
        "wall_seconds": wall,
        "seconds": found.seconds,
        "counts": found.counts,
        "largest_difference": max(differences),
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "mapped_bytes": reference.memory_bytes(),
    }


def time_tmtools(chains: Path) -> float:
    """Processor seconds of a pair, of SAMPLE drawn at random."""
    import tmtools

    queries, targets = real_chains(chains, "valid"), real_chains(chains, "train")
    rng = np.random.default_rng(14)
    spent = 0.0
    for _ in range(SAMPLE):
        a, b = queries[rng.integers(len(queries))], targets[rng.integers(len(targets))]
        x, y = (chain.backbone[:, 1].astype(np.float64) for chain in (a, b))
        begun = time.process_time()
        tmtools.tm_align(x, y, a.sequence, b.sequence)
        spent += time.process_time() - begun
    return spent / SAMPLE


def judge(found: dict[str, Any], truth: dict[int, float]) -> dict[str, Any]:
    """Count what is wrong against the truth, and list it."""
    counts = dict.fromkeys(("judged", "known", "wrong", "aside", "false_known", "kept", "low", "above"), 0)
    cases = []
    numbers = found.get("numbers", range(len(found["names"])))
    for number, name, tm in zip(numbers, found["names"], found["tm"], strict=True):
        if number not in truth:
            continue
        true = truth[number]
        known, wrong = true >= VERDICT_TM, (tm >= VERDICT_TM) != (true >= VERDICT_TM)
        aside, low = abs(true - VERDICT_TM) <= ASIDE, known and tm < true - TOLERANCE
        counts["judged"] += 1
        counts["known"] += known
        counts["wrong"] += wrong and not aside
        counts["aside"] += wrong and aside
        counts["false_known"] += wrong and not known and not aside
        counts["kept"] += known and tm >= VERDICT_TM
        counts["low"] += low
        counts["above"] += tm > true + ABOVE
        if wrong or low:
            cases.append({"query": name, "truth": true, "found": round(tm, 4)})
    return {**counts, "cases": cases}


def isolated(function: Callable[..., Any], *arguments: Any) -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_parts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What searches of parts of a reference come to: the better hit of each query, and the sum of what they took."""
    whole = {**parts[0], "tm": [max(scores) for scores in zip(*(part["tm"] for part in parts), strict=True)]}
    for name in ("entries", "processor_seconds", "wall_seconds", "mapped_bytes"):
        whole[name] = sum(part[name] for part in parts)
    for name in ("peak_bytes", "largest_difference"):
        whole[name] = max(part[name] for part in parts)
    for name in ("seconds", "counts"):
        whole[name] = {key: sum(part[name].get(key, 0) for part in parts) for key in parts[0][name]}
    return whole


def grown_lines(searches: dict[str, Any]) -> list[str]:
    """How searches in two parts differ from those of all entries at once."""
    lines = []
    for key, grown in searches.items():
        whole = searches.get(key.removesuffix(" in two parts"), grown)
        if whole is grown:
            continue
        pairs = list(zip(grown["tm"], whole["tm"], strict=True))
        verdicts = sum((a >= VERDICT_TM) != (b >= VERDICT_TM) for a, b in pairs)
        above, below = (sum(sign * (a - b) > ABOVE for a, b in pairs) for sign in (1, -1))
        lines.append(
            f"- {grown['reference']}: {verdicts} of {len(pairs)} verdicts differ; {above} best scores are higher by "
            f"more than {ABOVE}, {below} lower; the largest difference is {max(abs(a - b) for a, b in pairs):.3f}"
        )
    return ["", "A search in two parts beside one of all entries at once:", "", *lines] if lines else []


def table(results: dict[str, Any]) -> list[str]:
    lines = [
        "| reference | entries | mode | judged | truth >= 0.5 | verdicts wrong | within 0.01 of 0.5 | false known "
        "| verdicts kept of truth >= 0.5 | best hits > 0.02 below | above truth by > 0.005 |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in results["searches"].values():
        judged = found["judged"]
        kept = f"{judged['kept']} ({judged['kept'] / max(1, judged['known']):.0%})"
        cells = [found["reference"], f"{found['entries']:,}", found["mode"], judged["judged"], judged["known"]]
        cells += [judged["wrong"], judged["aside"], judged["false_known"], kept, judged["low"], judged["above"]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += [
        "",
        "| reference | mode | processor s a query | scan | bound | align | bounds a query | alignments a query "
        "| times faster | core-hours for 1 M queries | wall s a query | load average | peak memory GB |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for found in results["searches"].values():
        number, counts, stages = found["queries"], found["counts"], found["seconds"]
        each = found["processor_seconds"] / number
        # Threads' seconds include waiting for a processor: they say how the processor seconds are shared out.
        share = [f"{each * stages.get(name, 0) / sum(stages.values()):.3f}" for name in ("scan", "bound", "align")]
        tmtools = found["tmtools_seconds_a_pair"] * found["entries"]
        cells = [found["reference"], found["mode"], f"{each:.3f}", *share, f"{counts['bound'] / number:,.0f}"]
        cells += [f"{counts['align'] / number:,.0f}", f"{tmtools / each:,.0f}", f"{each * MILLION / 3600:,.0f}"]
        cells += [f"{found['wall_seconds'] / number:.2f}", f"{found['load']}", f"{found['peak_bytes'] / 1e9:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Queries whose verdict is wrong, or whose best hit is more than 0.02 below the truth:", ""]
    for found in results["searches"].values():
        cases = ", ".join(f"{c['query']} {c['truth']:.3f} ({c['found']:.3f})" for c in found["judged"]["cases"])
        lines.append(f"- {found['reference']}, {found['mode']}: {cases or 'none'}")
    return lines + grown_lines(results["searches"])


def write(output: Path, results: dict[str, Any]) -> None:
    lines = [
        "# Structure search: recall and speed",
        "",
        f"{results['date']}, {results['hardware']}; Python {platform.python_version()}, numba {version('numba')}, "
        f"tmtools {version('tmtools')}; {results['threads']} threads.",
        "Made by `benchmarks/novelty.py`: chains of split valid against split train, alone and padded with decoys of "
        "the kinds A, B and C (novelty_reference.py says what they are).",
        "Truth: exhaustive tmtools, as far as it is there. Times are processor time of all threads, by stage in "
        f"proportion to what threads spent; 'times faster' is against tmtools on {SAMPLE} pairs timed before each "
        "search, times the number of entries. The load average is of five minutes before the run: "
        "above 1, wall time is no measure. Peak memory counts mapped pages of the reference.",
        "Every score was computed again from its transform: the largest difference is "
        f"{max(found['largest_difference'] for found in results['searches'].values()):.1e}.",
        "",
        *table(results),
    ]
    write_results(output, "novelty", results, lines)


@contextlib.contextmanager
def written(arguments: argparse.Namespace, chains: list[RealChain], kind: str, size: int) -> Iterator[Path]:
    """Give a folder with a reference of `chains`, padded to `size` entries if there is a `kind` of decoys."""
    folder = arguments.work / "reference"
    shutil.rmtree(folder, ignore_errors=True)
    write_reference(folder, chains, kind, size if kind else 0)
    yield folder
    shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("--modes", default="default,sensitive,exhaustive")
    parser.add_argument("--decoys", default="ABC")
    parser.add_argument("--decoy-modes", default="default,sensitive")
    parser.add_argument("--grown", default="0A")
    parser.add_argument("--exhaustive-every", type=int, default=8)
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--truth", type=Path, default=Path(__file__).parent / "results" / "novelty_truth")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir(), "novelty_benchmark"))
    add_output(parser)
    arguments = parser.parse_args()

    truth = {int(part.stem): float(np.load(part)[:, 0].max() / SCALE) for part in arguments.truth.glob("*.npy")}
    kept = arguments.output / "novelty.json"
    before = json.loads(kept.read_text(encoding="utf-8"))["searches"] if kept.exists() else {}
    load = round(os.getloadavg()[1], 1)
    results: dict[str, Any] = {
        "date": str(date.today()),
        "hardware": hardware(),
        "threads": arguments.threads,
        "searches": before,
    }
    for found in before.values():  # truth may have grown
        found["judged"] = judge(found, truth)

    def add(key: str, reference: str, parts: list[dict[str, Any]], seconds: float) -> None:
        whole = in_parts(parts)
        whole |= {"load": load, "reference": reference, "tmtools_seconds_a_pair": seconds}
        results["searches"][key] = whole | {"judged": judge(whole, truth)}
        write(arguments.output, results)

    chains = real_chains(arguments.chains, "train")
    names = {"": "train", **{kind: f"decoys {kind}" for kind in PIECES}}
    for kind in ["", *arguments.decoys]:
        modes = [mode for mode in (arguments.decoy_modes if kind else arguments.modes).split(",") if mode]
        if not modes:
            continue
        with written(arguments, chains, kind, arguments.size) as folder:
            for mode in modes:
                seconds = isolated(time_tmtools, arguments.chains)
                every = arguments.exhaustive_every if mode == "exhaustive" else 1
                found = isolated(search, arguments.chains, folder, mode, arguments.threads, every)
                add(f"{kind or 'none'} {mode}", names[kind], [found], seconds)
    for kind in ("" if letter == "0" else letter for letter in arguments.grown):
        seconds, parts = isolated(time_tmtools, arguments.chains), []
        for first in range(2):
            with written(arguments, chains[first::2], kind, arguments.size // 2) as folder:
                parts.append(isolated(search, arguments.chains, folder, "default", arguments.threads, 1))
        add(f"{kind or 'none'} default in two parts", f"{names[kind]} in two parts", parts, seconds)


if __name__ == "__main__":
    main()
