"""What it costs to keep one of several conformations: TM-scores against a chain and against a copy that is bent.

    python benchmarks/identical_chains.py ../shared/data/chains.parquet --pairs 60

Targets are bent smoothly (Gaussian displacements, averaged over 15 residues, scaled to an RMSD). tmtools (GPL) scores
query against target and against the bent copy; printed are quantiles of the difference of query-normalised TM-scores.
"""

import argparse
from pathlib import Path

import numpy as np
import tmtools

from foldatlas.atlas.reference.identical import rmsd
from foldatlas.folding.compare.experimental import read_chains


def bent(positions: np.ndarray, target: float, random: np.random.Generator) -> np.ndarray:
    noise = random.normal(size=positions.shape)
    kernel = np.ones(15) / 15
    smooth = np.stack([np.convolve(noise[:, axis], kernel, mode="same") for axis in range(3)], axis=1)
    for _ in range(5):
        found = rmsd(positions.astype(np.float32), (positions + smooth)[None].astype(np.float32))[0]
        smooth *= target / found
    return positions + smooth


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("--pairs", type=int, default=60)
    arguments = parser.parse_args()
    random = np.random.default_rng(1)
    chains = [chain for chain in read_chains(arguments.chains, ["train"], 300) if len(chain.sequence) >= 60]
    by_cluster: dict[str, list] = {}
    for chain in chains:
        by_cluster.setdefault(chain.cluster, []).append(chain)
    groups = [group for group in by_cluster.values() if len(group) > 1]
    differences: dict[float, list[float]] = {0.25: [], 0.5: [], 1.0: [], 2.0: []}
    for number in range(arguments.pairs):
        group = groups[number % len(groups)]
        query, target = (group[place] for place in random.permutation(len(group))[:2])
        first, second = (chain.positions_LA3[:, 1].astype(np.float64) for chain in (query, target))
        score = tmtools.tm_align(first, second, query.sequence, target.sequence).tm_norm_chain1
        for amount, found in differences.items():
            other = tmtools.tm_align(first, bent(second, amount, random), query.sequence, target.sequence)
            found.append(abs(other.tm_norm_chain1 - score))
    print(f"{arguments.pairs} pairs of one 30 % cluster, 60 to 300 residues: |difference of TM|")
    for amount, found in differences.items():
        median, most, greatest = np.quantile(found, [0.5, 0.95, 1])
        print(f"RMSD {amount:4.2f} A: median {median:.4f}, 95 % {most:.4f}, greatest {greatest:.4f}")


if __name__ == "__main__":
    main()
