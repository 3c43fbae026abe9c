"""Pairs of structures of one fold: candidates, checked by the TM-score that a superposition reaches.

Each step depends on the two chains of a pair alone, so pairs that were found once stay true when an atlas grows:

1. the shorter has at least 0.8 of the longer's residues;
2. their best ungapped alignment of 3Di states, by MMseqs2, scores at least MIN_UNGAPPED;
3. the lower bound of their TM-score (tm_align.py) is at least MIN_BOUND;
4. TM-align reaches MIN_TM, normalised by the longer. A lower bound of so much settles it without.

The longer chain is aligned to the shorter one, so that a pair has one score.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.reference.mmseqs2 import DatabaseWriter, read_lines, run_program
from foldatlas.schemas.reference_tables import STATE_ALPHABET

if TYPE_CHECKING:
    from foldatlas.folding.compare.tm_align import Chains

Rows = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

MIN_LENGTH_RATIO: Final = 0.8
MIN_TM: Final = 0.5  # two chains mostly share a fold (Xu & Zhang 2010, Bioinformatics 26:889)
MIN_UNGAPPED: Final = 30
MIN_BOUND: Final = 0.25

_QUERIES: Final = 1_000  # whose ungapped scores are in memory at a time
_ANY_EVALUE: Final = "1e300"
_LETTERS: Final = np.frombuffer(STATE_ALPHABET.encode("ascii"), dtype=np.uint8)


class Pairs(NamedTuple):
    """Pairs of one fold: rows of the longer and the shorter chain, and the TM-score by the longer that was reached."""

    longer_E: Rows
    shorter_E: Rows
    tm_E: Floats


@dataclass
class PairCounts:
    """How many pairs reached each step."""

    in_ratio: int = 0
    candidates: int = 0
    aligned: int = 0


def window_end(lengths_N: npt.NDArray[np.integer], row: int) -> int:
    """Return the end of the rows that `row` is compared with: they follow it, in an order of falling lengths."""
    shortest = -(-int(lengths_N[row]) * 4 // 5)  # ceil(0.8 length), in integers
    return int(np.searchsorted(-np.asarray(lengths_N), -shortest, side="right"))


def find_pairs(
    chains: "Chains",
    num_longer: int,
    is_new_K: Mask,
    *,
    threads: int = 1,
    scratch: Path,
    counts: PairCounts | None = None,
    advance: Callable[[int], None] = lambda rows: None,
    stop: Callable[[], bool] = lambda: False,
) -> Pairs:
    """Return the pairs of which the longer is one of the first `num_longer` chains, and of which one or both are new.

    `chains` are in the order of falling lengths, and hold all that `window_end` of the first `num_longer` asks for.
    `advance` is called with rows that are done. `scratch` is a folder of the caller's. Pairs are sorted. The result
    does not depend on `threads`. Raise Interrupted where `stop`.
    """
    from foldatlas.folding.compare.tm_align import lower_bounds, tm_align_many

    counts = counts if counts is not None else PairCounts()
    found: list[tuple[Rows, Rows, Floats]] = []
    for row, candidates in _candidates(chains, num_longer, is_new_K, threads, scratch, counts, stop):
        if len(candidates):
            begin, end = chains.offsets_K1[row : row + 2]
            points, states = chains.c_alphas_T3[begin:end], chains.states_T[begin:end]
            bounds = lower_bounds(points, states, chains, candidates, threads)
            is_open = (bounds >= MIN_BOUND) & (bounds < MIN_TM)
            counts.candidates += len(candidates)
            counts.aligned += int(is_open.sum())
            if is_open.any():
                aligned = tm_align_many(points, states, chains, candidates[is_open], threads)
                bounds[is_open] = aligned.tm_query_P
            is_pair = bounds >= MIN_TM
            longer = np.full(int(is_pair.sum()), row, dtype=np.int64)
            found.append((longer, candidates[is_pair], bounds[is_pair].astype(np.float32)))
        advance(1)
    if not found:
        return Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _candidates(
    chains: "Chains",
    num_longer: int,
    is_new_K: Mask,
    threads: int,
    scratch: Path,
    counts: PairCounts,
    stop: Callable[[], bool],
) -> Iterator[tuple[int, Rows]]:
    """Yield each of the first chains, in their order, with the shorter ones that pass steps 1 and 2."""
    lengths = np.diff(chains.offsets_K1)
    write_matrix(scratch / "3di.out")
    for begin in range(0, num_longer, _QUERIES):
        end = min(begin + _QUERIES, num_longer)
        ends = np.array([window_end(lengths, row) for row in range(begin, end)])
        rows = np.arange(begin, end)
        targets = np.arange(begin, int(ends.max(initial=begin)))
        # what is new is compared with all, what is old with what is new
        is_new = is_new_K[rows]
        hits = [
            _ungapped(chains, asked, searched, threads, scratch, stop)
            for asked, searched in ((rows[is_new], targets), (rows[~is_new], targets[is_new_K[targets]]))
            if len(asked) and len(searched)
        ]
        for row, last in zip(rows.tolist(), ends.tolist(), strict=True):
            counts.in_ratio += last - row - 1 if is_new_K[row] else int(np.count_nonzero(is_new_K[row + 1 : last]))
        query, key = (np.concatenate([np.empty(0, np.int64), *(hit[k] for hit in hits)]) for k in range(2))
        kept = (key > query) & (key < ends[query - begin])
        query, key = query[kept], key[kept]
        order = np.lexsort((key, query))
        query, key = query[order], key[order]
        starts = np.searchsorted(query, np.arange(begin, end + 1))
        for place, row in enumerate(rows.tolist()):
            yield row, key[starts[place] : starts[place + 1]]


def _ungapped(
    chains: "Chains", queries: Rows, targets: Rows, threads: int, scratch: Path, stop: Callable[[], bool]
) -> tuple[Rows, Rows]:
    """Return query and target of all ungapped 3Di alignments that score MIN_UNGAPPED or more."""
    for name, rows in (("query", queries), ("target", targets)):
        for old in scratch.glob(f"{name}*"):
            old.unlink()
        with DatabaseWriter(scratch / name) as writer:
            writer.write(
                _LETTERS[chains.states_T[chains.offsets_K1[row] : chains.offsets_K1[row + 1]]].tobytes()
                for row in rows.tolist()
            )
    for old in scratch.glob("scores*"):
        old.unlink()
    run_program(
        *("ungappedprefilter", "query", "target", "scores", "--prefilter-mode", "1", "--comp-bias-corr", "0"),
        *("--max-seqs", str(len(targets)), "-e", _ANY_EVALUE, "--min-ungapped-score", str(MIN_UNGAPPED - 1)),
        *("--sub-mat", "aa:3di.out,nucl:3di.out", "--threads", str(threads), "-v", "1"),
        folder=scratch,
        stop=stop,
    )
    keys, text = read_lines(scratch / "scores")
    numbers = np.array(text.split(), dtype=np.int64).reshape(len(keys), -1)
    is_candidate = numbers[:, 1] >= MIN_UNGAPPED
    return queries[keys[is_candidate]], targets[numbers[is_candidate, 0]]


def write_matrix(path: Path) -> None:
    """Write the substitution matrix of 3Di states in the format of MMseqs2, in half bits."""
    from foldatlas.folding.compare.three_di_tables import LETTERS, SUBSTITUTION_SCORES

    letters = f"{LETTERS}X"
    scores = np.full((len(letters), len(letters)), -1)  # X, which no state is
    scores[:-1, :-1] = SUBSTITUTION_SCORES
    background = [f"{1 / len(LETTERS) - 1e-6:.6f}"] * len(LETTERS) + ["0.00001"]
    lines = [
        "# 3Di, half bits",
        f"# Background (precomputed optional): {' '.join(background)}",
        "# Lambda     (precomputed optional): 0.341",
        f"  {' '.join(letters)}",
        *(f"{letter} {' '.join(map(str, row))}" for letter, row in zip(letters, scores, strict=True)),
    ]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
