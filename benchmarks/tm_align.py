"""Our TM-align against tmtools and Debian's TMalign (package tm-align), on pairs of experimental chains.

python benchmarks/tm_align.py ../shared/data/chains.parquet [--pairs 600] [--program TMalign] [--output FOLDER]

Pairs are spread over TM-scores of 0.2 to 1 by our lower bound: the same number of each twentieth as far as there are
so many, of both chains with at least 60 residues; a third as many more of any length. One process, one thread, each
pair by all three in turn. Times are processor time, the program's its own (it reads two files of C-alphas, which is a
small part). Writes tm_align.md.
"""

import argparse
import os
import platform
import re
import subprocess
import tempfile
import time
from datetime import date
from importlib.metadata import version

import numpy as np
import tmtools
from machine import add_output, hardware

from foldatlas.folding.compare.experimental import read_chains
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import Chains, lower_bounds, tm_align_many

LONG = 60  # residues
QUERIES = 250
CANDIDATES = 300  # of each query
TOLERANCE = 0.01


def chains_of(path: str) -> Chains:
    points, states = [], []
    for chain in read_chains(path):
        positions = np.where(chain.observed_LA[..., None], chain.positions_LA3.astype(np.float64), np.nan)
        chain_states = three_di_states(*(positions[:, k] for k in (0, 1, 2, 4)))
        seen = np.isfinite(positions[:, 1]).all(axis=1)
        points.append(positions[seen, 1].astype(np.float32))
        states.append(chain_states[seen])
    return Chains(np.concatenate(points), np.concatenate(states), np.cumsum([0, *map(len, states)]))


def choose(chains: Chains, number: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    lengths = np.diff(chains.offsets_K1)
    found: dict[tuple[bool, int], list[tuple[int, int]]] = {}
    for query in rng.permutation(len(chains))[:QUERIES]:
        candidates = rng.choice(len(chains), CANDIDATES, replace=False)
        bounds = lower_bounds(*chain(chains, query), chains, candidates)
        for candidate, bound in zip(candidates, bounds, strict=True):
            if candidate != query and bound >= 0.15:
                long = bool(min(lengths[query], lengths[candidate]) >= LONG)
                found.setdefault((long, min(int(bound * 20), 19)), []).append((query, candidate))
    chosen = []
    for long, wanted in ((True, number), (False, number // 3)):
        groups = sorted((len(pairs), key) for key, pairs in found.items() if key[0] is long)
        for index, (_, key) in enumerate(groups):
            pairs = found[key]
            take = min(len(pairs), -(-wanted // (len(groups) - index)))
            chosen += [pairs[k] for k in rng.permutation(len(pairs))[:take]]
            wanted -= take
    return chosen


def chain(chains: Chains, number: int) -> tuple[np.ndarray, np.ndarray]:
    start, end = chains.offsets_K1[number : number + 2]
    return chains.c_alphas_T3[start:end], chains.states_T[start:end]


def write_pdb(points: np.ndarray, path: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        for number, (x, y, z) in enumerate(points, 1):
            file.write(f"ATOM  {number:5d}  CA  ALA A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00  0.00           C\n")
        file.write("TER\nEND\n")


def by_program(program: str, query: np.ndarray, target: np.ndarray, folder: str) -> tuple[float, float, float]:
    """TM-scores by the query's and the target's length, and processor seconds."""
    paths = [f"{folder}/{name}.pdb" for name in ("query", "target")]
    for points, path in zip((query, target), paths, strict=True):
        write_pdb(points, path)
    before = os.times()
    text = subprocess.run([program, *paths], capture_output=True, text=True, check=True).stdout
    after = os.times()
    by_query, by_target = (float(score) for score in re.findall(r"TM-score= *([\d.]+)", text)[:2])
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    return by_query, by_target, spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", help="Parquet of experimental chains")
    parser.add_argument("--pairs", type=int, default=600)
    parser.add_argument("--program", default="TMalign")
    add_output(parser)
    arguments = parser.parse_args()

    begun = time.process_time()
    chains = chains_of(arguments.chains)
    warm = np.array([0])
    lower_bounds(*chain(chains, 1), chains, warm)
    tm_align_many(*chain(chains, 1), chains, warm)
    loaded = time.process_time() - begun
    pairs = choose(chains, arguments.pairs, np.random.default_rng(14))
    lengths = np.diff(chains.offsets_K1)
    scores = {name: np.zeros((len(pairs), 2)) for name in ("ours", "tmtools", "program")}
    seconds = {name: np.zeros(len(pairs)) for name in ("ours", "bound", "tmtools", "program")}
    load = os.getloadavg()
    with tempfile.TemporaryDirectory() as folder:
        for row, (query, target) in enumerate(pairs):
            points, states = chain(chains, query)
            others, _ = chain(chains, target)
            one = np.array([target])
            start = time.process_time()
            ours = tm_align_many(points, states, chains, one)
            seconds["ours"][row] = time.process_time() - start
            scores["ours"][row] = ours.tm_query_P[0], ours.tm_target_P[0]
            start = time.process_time()
            lower_bounds(points, states, chains, one)
            seconds["bound"][row] = time.process_time() - start
            doubles = points.astype(np.float64), others.astype(np.float64)
            letters = "A" * len(points), "A" * len(others)
            start = time.process_time()
            theirs = tmtools.tm_align(*doubles, *letters)
            seconds["tmtools"][row] = time.process_time() - start
            scores["tmtools"][row] = theirs.tm_norm_chain1, theirs.tm_norm_chain2
            *scores["program"][row], seconds["program"][row] = by_program(arguments.program, points, others, folder)

    short = np.array([min(lengths[query], lengths[target]) for query, target in pairs])
    lines = [
        "# TM-align: ours, tmtools and TMalign",
        "",
        f"{date.today()}, {hardware()}; Python {platform.python_version()}, numba {version('numba')}, "
        f"tmtools {version('tmtools')}, Debian's tm-align.",
        f"Made by `benchmarks/tm_align.py`: {len(pairs)} pairs of experimental chains, one thread, processor time; "
        f"load average before {load[0]:.1f} {load[1]:.1f} {load[2]:.1f}.",
        f"Reading, 3Di states and compilation (or its cache) took {loaded:.1f} s.",
        "",
        "| pairs | | ours | bound | tmtools | TMalign |",
        "|---|---|---|---|---|---|",
    ]
    for name, mask in (("both chains >= 60", short >= LONG), ("all", short > 0)):
        spent = {key: value[mask].mean() * 1e3 for key, value in seconds.items()}
        cells = [f"{spent[key]:.2f}" for key in ("ours", "bound", "tmtools", "program")]
        ratios = [f"{spent[key] / spent['ours']:.2f}" for key in ("ours", "bound", "tmtools", "program")]
        lines.append(f"| {name}: {mask.sum()} | ms a pair | {' | '.join(cells)} |")
        lines.append(f"| | times ours | {' | '.join(ratios)} |")
    lines += [
        "",
        f"Not below the other by more than {TOLERANCE}, both normalisations counted, by the other's score:",
        "",
        "| other | TM-score | both chains >= 60 | all lengths | above by more than 0.005 | lowest difference |",
        "|---|---|---|---|---|---|",
    ]
    for other in ("tmtools", "program"):
        for low, high in ((0.4, 1.01), (0.2, 0.4)):
            within = (scores[other] >= low) & (scores[other] < high)
            difference = scores["ours"] - scores[other]
            cells = []
            for mask in (within & (short >= LONG)[:, None], within):
                cells.append(f"{(difference[mask] >= -TOLERANCE).mean():.2%} of {mask.sum()}")
            lines.append(
                f"| {'TMalign' if other == 'program' else other} | {low} to {min(high, 1.0)} | {' | '.join(cells)} "
                f"| {(difference[within] > 0.005).mean():.1%} | {difference[within].min():.3f} |"
            )
    text = "\n".join(lines) + "\n"
    print(text)
    (arguments.output / "tm_align.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
