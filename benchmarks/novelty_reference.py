"""Reference databases of experimental chains, padded by decoys, for benchmarks/novelty.py.

Three kinds of decoys, of lengths drawn from the real ones, each made of pieces of real chains at random:

    A   pieces of 15 to 45 residues
    B   pieces of 5 to 10 residues
    C   pieces of 40 to 120 residues, reversed

A piece keeps its 3Di states and its C-alphas; it is turned at random (A and B) and begins 3.8 angstrom from the end of
the one before. So decoys have the local statistics of real chains, and none has a fold of them.
"""

from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from foldatlas.atlas.reference.folder import ReferenceFolder
from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter
from foldatlas.atlas.reference.reader import Reference
from foldatlas.atlas.reference.version import Written, write_version
from foldatlas.folding.compare.experimental import read_chains
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.schemas.reference_tables import STATE_ALPHABET

PIECES: Final = {"A": (15, 45), "B": (5, 10), "C": (40, 120)}
STEP: Final = 3.8  # angstrom from one C-alpha to the next
SEED: Final = 14
_CHUNK: Final = 2_000  # decoys made at a time
_ATOMS: Final = (0, 1, 2, 4)  # N, C-alpha, C, C-beta in atom14
_LETTERS: Final = np.frombuffer(STATE_ALPHABET.encode(), dtype=np.uint8)


class RealChain:
    """An experimental chain, residues without a C-alpha left out: name, sequence, backbone [L, 4, 3], states [L]."""

    def __init__(self, chain):
        positions = np.where(chain.observed_LA[..., None], chain.positions_LA3, np.nan)
        seen = np.isfinite(positions[:, 1]).all(axis=1)
        self.name = chain.name
        self.sequence = "".join(np.array(list(chain.sequence))[seen])
        self.backbone = np.ascontiguousarray(positions[seen][:, _ATOMS], dtype=np.float32)
        self.states = three_di_states(*(self.backbone[:, k] for k in range(4)))


def real_chains(path: Path, split: str) -> list[RealChain]:
    return [RealChain(chain) for chain in read_chains(path, [split])]


def write_reference(folder: Path, chains: list[RealChain], kind: str = "", size: int = 0) -> Reference:
    """Write a reference of `chains`, padded to `size` entries by decoys of `kind`."""
    rng = np.random.default_rng([SEED, ord(kind or "0")])
    lengths = np.array([len(chain.states) for chain in chains])
    decoys = rng.choice(lengths, max(0, size - len(chains)))
    every = np.concatenate([lengths, decoys])
    offsets = np.concatenate([[0], np.cumsum(every)]).astype(np.int64)
    points = np.concatenate([chain.backbone[:, 1] for chain in chains])
    states = np.concatenate([chain.states for chain in chains])

    def write(target: Path) -> Written:
        total = int(offsets[-1])
        shapes = {"c_alphas": (total, 3), "sequence": (total,), "states": (total,)}
        made = {
            name: np.lib.format.open_memmap(
                target / f"{name}.npy", "w+", np.float32 if name == "c_alphas" else np.uint8, shape
            )
            for name, shape in shapes.items()
        }
        made["sequence"][:] = ord("A")
        made["sequence"][: len(states)] = np.frombuffer("".join(c.sequence for c in chains).encode(), np.uint8)
        made["c_alphas"][: len(states)], made["states"][: len(states)] = points, states
        for start in range(len(chains), len(every), _CHUNK):
            part = slice(offsets[start], offsets[min(start + _CHUNK, len(every))])
            made["c_alphas"][part], made["states"][part] = decoy_chains(
                kind, every[start : start + _CHUNK], points, states, np.cumsum(lengths), rng
            )
        np.save(target / "offsets.npy", offsets)
        np.save(target / "secondary.npy", np.full(total, ord("C"), np.uint8))  # a search does not read it
        np.save(target / "versions.npy", np.ones(len(every), np.int32))
        letters = _LETTERS[made["states"]]
        with DatabaseWriter(target / "states") as database:
            database.write(letters[a:b].tobytes() for a, b in pairwise(offsets))
        names = [chain.name for chain in chains] + [f"decoy{k}" for k in range(len(decoys))]
        pq.write_table(pa.table({"name": names}), target / "entries.parquet")
        return Written(f"{len(every):064x}", [], len(every), int(offsets[-1]), len(every), 0, {}, {})

    database = ReferenceFolder(folder)
    with database.locked():
        write_version(database, None, "structures", write)
    return Reference.open(folder)


def decoy_chains(
    kind: str, lengths: np.ndarray, points: np.ndarray, states: np.ndarray, ends: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """C-alphas and states of decoys of these lengths, end to end."""
    least, most = PIECES[kind]
    pieces, owners = [], []
    for number, length in enumerate(lengths):
        left = length
        while left > 0:
            pieces.append(min(left, int(rng.integers(least, most + 1))))
            owners.append(number)
            left -= pieces[-1]
    sizes, owner = np.array(pieces), np.array(owners)
    real = np.concatenate([[0], ends])
    places = np.zeros(len(sizes), np.int64)
    waiting = np.arange(len(sizes))
    while len(waiting):  # a piece lies within one chain
        places[waiting] = rng.integers(0, real[-1], len(waiting))
        chain = np.searchsorted(real, places[waiting], side="right") - 1
        room = real[chain + 1] - places[waiting]
        waiting = waiting[room < sizes[waiting]]
    first = np.cumsum(sizes) - sizes
    step = np.arange(sizes.sum()) - np.repeat(first, sizes)
    if kind == "C":
        step = np.repeat(sizes, sizes) - 1 - step
    source = np.repeat(places, sizes) + step
    coordinates = points[source].astype(np.float64)
    if kind != "C":
        turns = random_rotations(len(sizes), rng)
        coordinates = np.einsum("nij,nj->ni", np.repeat(turns, sizes, axis=0), coordinates)
    directions = rng.normal(size=(len(sizes), 3))
    directions *= STEP / np.linalg.norm(directions, axis=1, keepdims=True)
    begin, end = coordinates[first], coordinates[first + sizes - 1]
    shifts = directions - begin
    shifts[1:] += end[:-1]  # from its own frame to 3.8 angstrom behind the one before, in the frame of that one
    shifts = np.cumsum(shifts, axis=0)
    heads = np.flatnonzero(np.diff(owner, prepend=-1))
    shifts -= np.repeat(shifts[heads], np.diff([*heads, len(sizes)]), axis=0)
    coordinates += np.repeat(shifts, sizes, axis=0)
    return coordinates.astype(np.float32), states[source]


def random_rotations(number: int, rng: np.random.Generator) -> np.ndarray:
    """Uniform rotations, from unit quaternions."""
    w, x, y, z = rng.normal(size=(4, number))
    norm = np.sqrt(w * w + x * x + y * y + z * z)
    w, x, y, z = w / norm, x / norm, y / norm, z / norm
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array([[np.broadcast_to(value, number) for value in row] for row in rows]).transpose(2, 0, 1)
