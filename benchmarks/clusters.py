"""Clusters of experimental chains by structure, against all pairs compared; and linclust on synthetic sequences.

    python benchmarks/clusters.py ../shared/data/chains.parquet [--sequences 100000] [--output FOLDER]

Structures: the chains by `find_pairs` and `set_cover`, as `foldatlas cluster` does it, one thread; beside it the same
rule without candidates: the lower bound of every pair of a length ratio of at least 0.8, TM-align where that is 0.35 to
0.5. Purity is the fraction of pairs of members whose own TM-score by the longer is at least 0.5. Agreement is the
adjusted Rand index (Hubert & Arabie 1985) between clusters under random ids, which decide ties, and for comparison
between those of greedy clustering in random orders. Sequences: families with random substitutions, clustered at 90 %
and 30 %, and half as many, to extrapolate. Times are processor time. Writes clusters.md and clusters.json.
"""

import argparse
import resource
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from machine import add_output, hardware, write_results

from foldatlas.atlas.clusters.descriptors import describe
from foldatlas.atlas.clusters.linclust import IDENTITY_30, IDENTITY_90, linclust
from foldatlas.atlas.clusters.member_map import cover_by_id
from foldatlas.atlas.clusters.pairs import MIN_TM, PairCounts, find_pairs, window_end
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter, program_version
from foldatlas.folding.compare.experimental import read_chains
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import Chains, lower_bounds, tm_align_many

LOWEST_BOUND = 0.35  # of 2,024 chains, no pair below it that was tried reached 0.5
ORDERS = 10
FAMILY = 20


def chains_of(path: str) -> tuple[Chains, np.ndarray, list[str]]:
    """The chains, longest first, their descriptors, and the cluster30 of each."""
    found = []
    for chain in read_chains(path):
        positions = np.where(chain.observed_LA[..., None], chain.positions_LA3.astype(np.float64), np.nan)
        states = three_di_states(*(positions[:, k] for k in (0, 1, 2, 4)))
        seen = np.isfinite(positions[:, 1]).all(axis=1)
        if seen.sum() >= 30:
            found.append((-int(seen.sum()), chain.name, positions[seen, 1].astype(np.float32), states[seen], chain))
    found.sort(key=lambda one: one[:2])
    points, states = [one[2] for one in found], [one[3] for one in found]
    chains = Chains(np.concatenate(points), np.concatenate(states), np.cumsum([0, *map(len, states)]))
    descriptors = np.stack([describe(*both) for both in zip(points, states, strict=True)])
    return chains, descriptors, [one[4].cluster for one in found]


def row_of(chains: Chains, row: int) -> tuple[np.ndarray, np.ndarray]:
    span = slice(*chains.offsets_K1[row : row + 2])
    return chains.c_alphas_T3[span], chains.states_T[span]


def exhaustive(chains: Chains) -> tuple[np.ndarray, np.ndarray, int]:
    """All pairs of one fold, without candidates, and how many pairs there are."""
    lengths = np.diff(chains.offsets_K1)
    longer, shorter, number = [], [], 0
    for row in range(len(chains)):
        others = np.arange(row + 1, window_end(lengths, row))
        if not len(others):
            continue
        number += len(others)
        scores = lower_bounds(*row_of(chains, row), chains, others)
        is_open = (scores >= LOWEST_BOUND) & (scores < MIN_TM)
        scores[is_open] = tm_align_many(*row_of(chains, row), chains, others[is_open]).tm_query_P
        shorter.append(others[scores >= MIN_TM])
        longer.append(np.full(len(shorter[-1]), row))
    return np.concatenate(longer), np.concatenate(shorter), number


def adjusted_rand(first: np.ndarray, second: np.ndarray) -> float:
    _, a = np.unique(first, return_inverse=True)
    _, b = np.unique(second, return_inverse=True)
    table = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(table, (a, b), 1)

    def twos(counts: np.ndarray) -> float:
        return float((counts * (counts - 1) / 2).sum())

    rows, columns, total = twos(table.sum(1)), twos(table.sum(0)), len(a) * (len(a) - 1) / 2
    expected = rows * columns / total
    return (twos(table) - expected) / ((rows + columns) / 2 - expected)


def greedy(number: int, longer: np.ndarray, shorter: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Each in its turn becomes a centre, unless it is a neighbour of one: the first it finds."""
    neighbours: list[list[int]] = [[] for _ in range(number)]
    for a, b in zip(longer.tolist(), shorter.tolist(), strict=True):
        neighbours[a].append(b)
        neighbours[b].append(a)
    centres = np.full(number, -1)
    for node in order.tolist():
        if centres[node] < 0:
            around = np.array([node, *neighbours[node]])
            centres[around[centres[around] < 0]] = node
    return centres


def agreement(clusterings: list[np.ndarray]) -> float:
    return float(np.mean([adjusted_rand(clusterings[0], other) for other in clusterings[1:]]))


def random_ids(number: int, rng: np.random.Generator) -> np.ndarray:
    return np.frombuffer(rng.bytes(16 * number), dtype="V16")


def purity(chains: Chains, centres: np.ndarray) -> tuple[float, int]:
    """The fraction of pairs of members with a TM-score by the longer of at least 0.5, and how many pairs there are."""
    good = number = 0
    for centre in np.unique(centres):
        members = np.flatnonzero(centres == centre)
        for index, row in enumerate(members[:-1]):
            others = members[index + 1 :]
            scores = lower_bounds(*row_of(chains, row), chains, others)
            is_open = scores < MIN_TM
            if is_open.any():
                scores[is_open] = tm_align_many(*row_of(chains, row), chains, others[is_open]).tm_query_P
            good += int((scores >= MIN_TM).sum())
            number += len(others)
    return good / number, number


def structures(path: str) -> dict[str, object]:
    chains, descriptors, cluster30 = chains_of(path)
    number, rng = len(chains), np.random.default_rng(0)
    few = Chains(
        chains.c_alphas_T3[: chains.offsets_K1[30]], chains.states_T[: chains.offsets_K1[30]], chains.offsets_K1[:31]
    )
    find_pairs(few, descriptors[:30], 30, np.ones(30, bool))  # compiles
    exhaustive(few)
    counts, begun = PairCounts(), time.process_time()
    pairs = find_pairs(chains, descriptors, number, np.ones(number, bool), counts=counts)
    seconds = time.process_time() - begun
    longer, shorter = pairs.longer_E, pairs.shorter_E
    begun = time.process_time()
    centres = cover_by_id(random_ids(number, rng), longer, shorter)
    cover_seconds = time.process_time() - begun
    begun = time.process_time()
    all_longer, all_shorter, num_pairs = exhaustive(chains)
    all_seconds = time.process_time() - begun
    truth = set(zip(all_longer.tolist(), all_shorter.tolist(), strict=True))
    kept = len(truth & set(zip(longer.tolist(), shorter.tolist(), strict=True)))
    all_centres = cover_by_id(random_ids(number, rng), all_longer, all_shorter)
    families = np.unique(cluster30, return_inverse=True)[1]
    same = [(a, b) for a in range(number) for b in np.flatnonzero(families[a + 1 :] == families[a]) + a + 1]
    together = {
        name: sum(found[a] == found[b] for a, b in same) / len(same)
        for name, found in (("ours", centres), ("all_pairs", all_centres))
    }
    covers = [cover_by_id(random_ids(number, rng), longer, shorter) for _ in range(ORDERS)]
    greedies = [greedy(number, longer, shorter, rng.permutation(number)) for _ in range(ORDERS)]
    pure, member_pairs = purity(chains, centres)
    return {
        "chains": number,
        "pairs_in_ratio": num_pairs,
        "candidates": counts.candidates,
        "aligned": counts.aligned,
        "seconds": seconds,
        "seconds_all_pairs": all_seconds,
        "seconds_cover": cover_seconds,
        "pairs": len(longer),
        "pairs_all": len(truth),
        "pairs_kept": kept / len(truth),
        "clusters": len(np.unique(centres)),
        "clusters_all_pairs": len(np.unique(all_centres)),
        "agreement_with_all_pairs": adjusted_rand(centres, all_centres),
        "agreement_over_ids": agreement(covers),
        "agreement_greedy": agreement(greedies),
        "cluster30_pairs": len(same),
        "cluster30_together": together,
        "purity": pure,
        "member_pairs": member_pairs,
    }


def synthetic(number: int, rng: np.random.Generator) -> list[bytes]:
    """Families of 20 of 100 to 400 residues, at 95 % to 40 % identity to an ancestor; longest first."""
    letters = np.frombuffer(b"ACDEFGHIKLMNPQRSTVWY", dtype=np.uint8)
    found = []
    while len(found) < number:
        ancestor = rng.choice(letters, int(rng.integers(100, 400)))
        for _ in range(FAMILY):
            member = ancestor.copy()
            changed = rng.random(len(member)) < rng.uniform(0.05, 0.6)
            member[changed] = rng.choice(letters, int(changed.sum()))
            found.append(member.tobytes())
    return sorted(found[:number], key=lambda sequence: (-len(sequence), sequence))


def sequences(number: int) -> dict[str, object]:
    found: dict[str, object] = {"sequences": number}
    made = synthetic(number, np.random.default_rng(1))
    found["residues"] = sum(map(len, made))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with DatabaseWriter(folder / "database") as writer:
            writer.write(made)
        for settings in (IDENTITY_90, IDENTITY_30):
            work = folder / str(settings.identity)
            work.mkdir()
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            clusters = linclust(folder / "database", number, settings, folder=work)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[str(settings.identity)] = {
                "clusters": len(np.unique(clusters.centres_N)),
                "seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "bytes": after.ru_maxrss * 1024,
                "disk": sum(
                    file.stat().st_size for file in work.rglob("*") if file.is_file() and not file.is_symlink()
                ),
                "below_identity": int((clusters.identity_N < settings.identity).sum()),
            }
    return found


def lines(found: dict[str, object]) -> list[str]:
    s, table = found["structures"], found["sequences"]
    together = s["cluster30_together"]
    text = [
        "# Clusters",
        "",
        f"{found['hardware']}; {found['date']}; MMseqs2 {found['mmseqs2']}. Processor time, one thread.",
        "",
        f"## {s['chains']:,} experimental chains by structure",
        "",
        "| | pairs compared | TM-aligned | s | pairs of one fold | clusters | cluster30's pairs together |",
        "|---|---|---|---|---|---|---|",
        f"| all pairs of length ratio >= 0.8 | {s['pairs_in_ratio']:,} | - | {s['seconds_all_pairs']:.0f} | "
        f"{s['pairs_all']:,} | {s['clusters_all_pairs']:,} | {together['all_pairs']:.1%} |",
        f"| candidates by descriptors | {s['candidates']:,} | {s['aligned']:,} | {s['seconds']:.0f} | {s['pairs']:,} "
        f"({s['pairs_kept']:.2%} of all) | {s['clusters']:,} | {together['ours']:.1%} |",
        "",
        f"{s['seconds_all_pairs'] / s['seconds']:.1f} times as fast; {s['seconds'] / s['pairs_in_ratio'] * 1e6:.0f} us "
        f"for each pair in the ratio; set cover {s['seconds_cover']:.2f} s.",
        f"Purity: {s['purity']:.1%} of {s['member_pairs']:,} pairs of members have a TM-score by the longer of at "
        "least 0.5 themselves (each has it to its centre).",
        f"Agreement (adjusted Rand index): with the clusters of all pairs {s['agreement_with_all_pairs']:.3f}; between "
        f"{ORDERS} choices of ids, which decide ties, {s['agreement_over_ids']:.3f}; of greedy clustering between "
        f"{ORDERS} random orders {s['agreement_greedy']:.3f}. With the same ids the result is the same.",
        "",
        "## Synthetic sequences by linclust",
        "",
        "| sequences | level | clusters | s | peak memory, MB | files, MB | members below the identity |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in table:
        for level in ("0.9", "0.3"):
            one = row[level]
            text.append(
                f"| {row['sequences']:,} | {float(level):.0%} | {one['clusters']:,} | {one['seconds']:.1f} | "
                f"{one['bytes'] / 1e6:,.0f} | {one['disk'] / 1e6:,.0f} | {one['below_identity']:,} |"
            )
    small, large = table
    million = 1_000_000
    step = large["sequences"] - small["sequences"]
    seconds = sum(
        large[k]["seconds"] + (large[k]["seconds"] - small[k]["seconds"]) / step * (million - large["sequences"])
        for k in ("0.9", "0.3")
    )
    peak = max(
        large[k]["bytes"] + (large[k]["bytes"] - small[k]["bytes"]) / step * (million - large["sequences"])
        for k in ("0.9", "0.3")
    )
    return [*text, "", f"Extrapolated to 1 M, both levels: {seconds / 60:.0f} core-minutes, {peak / 1e9:.1f} GB."]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains")
    parser.add_argument("--sequences", type=int, default=100_000)
    add_output(parser)
    arguments = parser.parse_args()
    found = {
        "hardware": hardware(),
        "date": date.today().isoformat(),
        "mmseqs2": program_version(),
        "sequences": [sequences(arguments.sequences // 2), sequences(arguments.sequences)],
        "structures": structures(arguments.chains),
    }
    write_results(arguments.output, "clusters", found, lines(found))


if __name__ == "__main__":
    main()
