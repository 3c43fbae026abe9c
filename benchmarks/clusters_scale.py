"""`foldatlas cluster` at scale, measured and as `--dry-run` predicts; linclust on up to a million sequences.

    PYTHONPATH=tests/helpers python benchmarks/clusters_scale.py ../shared/data/chains.parquet \
        [--structures 10000] [--sequences 100000 1000000] [--output FOLDER]

Structures: the experimental chains; a relative of each, bent smoothly by some angstrom, cut at the ends, its sequence
at 25 % identity; and decoys: pieces of 15 to 45 residues of real chains, turned at random and joined, with random
sequences. They are written as an atlas, which the command clusters in a process of its own, on one thread: seconds of
the processor, the memory of the largest process, the most bytes in TMPDIR (looked at 20 times a second), the bytes of
the run. Sequences: families with random substitutions (clusters.py), both levels, on one thread.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
from clusters import synthetic
from machine import add_output, hardware, write_results
from made_families import LETTERS, Protein, make_atlas
from novelty_reference import random_rotations, real_chains

from foldatlas.atlas.clusters.forecast import predict
from foldatlas.atlas.clusters.linclust import IDENTITY_30, IDENTITY_90, linclust
from foldatlas.atlas.reader import Atlas
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter, program_version

PIECE = (15, 45)  # residues
BEND = 2.0  # angstrom
STEP = 3.8  # angstrom between the C-alphas that join two pieces


def bent(backbone_L43: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A smooth random displacement: waves of four to ten times the chain, of BEND in the mean."""
    place = np.linspace(0, 1, len(backbone_L43))[:, None]
    shift = np.zeros((len(backbone_L43), 3))
    for _ in range(4):
        shift += rng.normal(size=3) * np.sin(2 * np.pi * (rng.uniform(0.5, 4) * place + rng.random()))
    shift *= BEND / np.sqrt((shift**2).sum(axis=1).mean())
    return backbone_L43 + shift[:, None]


def decoy(length: int, backbones: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    pieces: list[np.ndarray] = []
    left = length
    while left > 0:
        size = min(left, int(rng.integers(PIECE[0], PIECE[1] + 1)))
        source = backbones[int(rng.integers(len(backbones)))]
        if len(source) < size:
            continue
        begin = int(rng.integers(len(source) - size + 1))
        piece = (source[begin : begin + size] - source[begin, 1]) @ random_rotations(1, rng)[0].T
        if pieces:
            direction = rng.normal(size=3)
            piece = piece + pieces[-1][-1, 1] + direction * STEP / np.linalg.norm(direction)
        pieces.append(piece)
        left -= size
    return np.concatenate(pieces)


def proteins_of(path: Path, number: int) -> list[Protein]:
    """Experimental chains (splits train and valid), their relatives, decoys: `number` in all."""
    rng = np.random.default_rng(15)
    real = [chain for split in ("train", "valid") for chain in real_chains(path, split)]
    real = [chain for chain in real if set(chain.sequence) <= set(LETTERS.tolist()) and len(chain.states) >= 30]
    backbones = [np.nan_to_num(chain.backbone.astype(np.float64)) for chain in real]
    whole = [one for chain, one in zip(real, backbones, strict=True) if np.isfinite(chain.backbone[:, :3]).all()]
    found, seen = [], set()

    def add(name: str, sequence: str, backbone_L43: np.ndarray) -> None:
        if sequence not in seen and len(found) < number:
            seen.add(sequence)
            found.append(
                Protein(name, sequence, backbone_L43.transpose(1, 0, 2), rng.uniform(40, 95), rng.uniform(0.3, 0.95))
            )

    for chain in real:
        add(f"real_{chain.name}", chain.sequence, chain.backbone.astype(np.float64))
    for chain in real:
        begin, end = int(rng.integers(0, 6)), len(chain.sequence) - int(rng.integers(0, 6))
        letters = np.array(list(chain.sequence))
        is_changed = rng.random(len(letters)) < 0.79  # one in twenty is drawn as it was
        letters[is_changed] = rng.choice(LETTERS, int(is_changed.sum()))
        add(f"bent_{chain.name}", "".join(letters[begin:end]), bent(chain.backbone.astype(np.float64), rng)[begin:end])
    lengths = np.array([len(chain.sequence) for chain in real])
    while len(found) < number:
        length = int(rng.choice(lengths))
        add(f"decoy_{len(found)}", "".join(rng.choice(LETTERS, length)), decoy(length, whole, rng))
    return found


def bytes_in(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue
    return total


def clustered(atlas: Path, place: Path) -> dict[str, object]:
    """What clustering an atlas takes, on one thread."""
    scratch = place / "tmp"
    scratch.mkdir()
    command = [sys.executable, "-m", "foldatlas.jobs.cli", "cluster", str(atlas), "--threads", "1"]
    begun = time.monotonic()
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(scratch)})
    most = 0
    while True:
        ended, status, usage = os.wait4(process.pid, os.WNOHANG)
        if ended:
            break
        most = max(most, bytes_in(scratch))
        time.sleep(0.05)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return {
        "wall_seconds": time.monotonic() - begun,
        "core_seconds": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
        "scratch_bytes": most,
        "atlas_bytes": bytes_in(atlas / "clusters"),
    }


def structures(path: Path, number: int) -> dict[str, object]:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        proteins = proteins_of(path, number)
        atlas = make_atlas(place / "atlas", proteins).root
        lengths = np.array([len(protein.sequence) for protein in proteins])
        found: dict[str, object] = {
            "structures": len(proteins),
            "residues": int(lengths.sum()),
            "predicted": vars(predict(lengths)),
            "measured": clustered(atlas, place),
        }
        with Atlas.open(atlas) as opened:
            for level, clusters in opened.query("SELECT level, count(*) FROM clusters GROUP BY level").rows():
                found[level] = clusters
            kinds = "SELECT id, cluster_structure FROM proteins"
            of = {str(name): cluster for name, cluster in opened.query(kinds).rows()}
        twins = [name for name in of if name.startswith("bent_") and f"real_{name[5:]}" in of]
        found["relatives"] = len(twins)
        found["relatives_together"] = sum(of[name] == of[f"real_{name[5:]}"] for name in twins)
        natural = {cluster for name, cluster in of.items() if not name.startswith("decoy_")}
        decoys = [name for name in of if name.startswith("decoy_")]
        found["decoys"] = len(decoys)
        found["decoys_with_real"] = sum(of[name] in natural for name in decoys)
        counts = json.loads(next(atlas.glob("clusters/*/complete.json")).read_text())["counts"]
        found["pairs"] = counts["pairs"]
        return found


def sequences(number: int) -> dict[str, object]:
    """Both levels, in a process of its own: memory of children is the greatest of all so far."""
    made = synthetic(number, np.random.default_rng(1))
    found: dict[str, object] = {"sequences": number, "residues": sum(map(len, made))}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        with DatabaseWriter(place / "database") as writer:
            writer.write(made)
        found["database_bytes"] = bytes_in(place)
        for settings in (IDENTITY_90, IDENTITY_30):
            work = place / str(settings.identity)
            work.mkdir()
            most = [0]

            def look(folder: Path = work, most: list[int] = most) -> bool:
                most[0] = max(most[0], bytes_in(folder))
                return False

            before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
            clusters = linclust(place / "database", number, settings, folder=work, stop=look)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[str(settings.identity)] = {
                "clusters": len(np.unique(clusters.centres_N)),
                "core_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
                "wall_seconds": time.monotonic() - begun,
                "memory": after.ru_maxrss * 1024,
                "scratch_bytes": most[0],
                "below_identity": int((clusters.identity_N < settings.identity).sum()),
            }
    return found


def lines(found: dict) -> list[str]:
    text = [
        "# Clusters at scale",
        "",
        f"{found['hardware']}; {found['date']}; MMseqs2 {found['mmseqs2']}. One thread; seconds of the processor, "
        "with other work beside it.",
        "",
        "## `foldatlas cluster`, measured and predicted",
        "",
        "| structures | residues | | core seconds | memory, MB | TMPDIR, MB | atlas, MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found["structures"]:
        real, said = one["measured"], one["predicted"]
        text += [
            f"| {one['structures']:,} | {one['residues']:,} | measured | {real['core_seconds']:.0f} | "
            f"{real['memory'] / 1e6:,.0f} | {real['scratch_bytes'] / 1e6:,.0f} | {real['atlas_bytes'] / 1e6:,.1f} |",
            f"| | | predicted, at most | {said['seconds']:.0f} | {said['driver_memory'] / 1e6:,.0f} | "
            f"{said['scratch_bytes'] / 1e6:,.0f} | {said['bytes'] / 1e6:,.1f} |",
        ]
    text.append("")
    for one in found["structures"]:
        text.append(
            f"{one['structures']:,}: {one['identity90']:,} clusters at 90 %, {one['identity30']:,} at 30 %, "
            f"{one['structure']:,} by structure, from {one['pairs']:,} pairs. "
            f"{one['relatives_together']:,} of {one['relatives']:,} bent relatives are in the cluster of their chain; "
            f"{one['decoys_with_real']:,} of {one['decoys']:,} decoys are in a cluster with a chain or a relative."
        )
    text += [
        "",
        "## linclust of synthetic sequences",
        "",
        "| sequences | level | clusters | core seconds | wall seconds | memory, MB | files, MB | members below |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found["sequences"]:
        for level in ("0.9", "0.3"):
            one = row[level]
            text.append(
                f"| {row['sequences']:,} | {float(level):.0%} | {one['clusters']:,} | {one['core_seconds']:.0f} | "
                f"{one['wall_seconds']:.0f} | {one['memory'] / 1e6:,.0f} | {one['scratch_bytes'] / 1e6:,.0f} | "
                f"{one['below_identity']:,} |"
            )
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chains", type=Path)
    parser.add_argument("--structures", type=int, nargs="*", default=[1_000, 10_000])
    parser.add_argument("--sequences", type=int, nargs="*", default=[100_000, 1_000_000])
    add_output(parser)
    arguments = parser.parse_args()
    found = {
        "hardware": hardware(),
        "date": date.today().isoformat(),
        "mmseqs2": program_version(),
        "sequences": [sequences(number) for number in sorted(arguments.sequences)],
        "structures": [structures(arguments.chains, number) for number in sorted(arguments.structures)],
    }
    write_results(arguments.output, "clusters_scale", found, lines(found))


if __name__ == "__main__":
    main()
