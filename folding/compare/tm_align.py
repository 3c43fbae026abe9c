"""TM-align (Zhang & Skolnick 2005) of a query with one chain or with many, and the lower bound of a search.

A TM-score is 0 to 1; above 0.5 two chains mostly share a fold. It is normalised by the length of one of the chains,
and each normalisation has its own superposition here, as in the TM-align program. Chains are C-alphas in angstrom and
3Di states (`three_di`); residues whose C-alpha is not finite take no part and do not count in a chain's length.

Many chains are the rows of `Chains`, whose arrays may be memory-mapped. Work is divided among threads by whole pairs,
so results do not depend on how many there are. Coordinates are float32; superpositions, scores and transforms float64.
"""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from foldatlas.folding.compare.kernels.compilation import inner, kernel
from foldatlas.folding.compare.kernels.quaternion_fit import Transform
from foldatlas.folding.compare.kernels.state_alignments import NUM_LANES, align_lanes, lay_out, room_for
from foldatlas.folding.compare.kernels.tm_effort import STANDARD, THOROUGH, Effort
from foldatlas.folding.compare.kernels.tm_pair import (
    align_pair,
    bound_from_states,
    drop_distant,
    exact_sum,
    lower_bound,
)
from foldatlas.folding.compare.kernels.tm_search import NO_CUTOFF, SEEN_SLOTS, final_d0, search
from foldatlas.folding.compare.kernels.tm_work import assign_secondary, gather, load, prepare, work_for

Floats = npt.NDArray[np.floating]
Points = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Codes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.integer]

_CELLS_PER_TASK: Final = 1_000_000  # query residues times target residues that a thread takes at a time
_MIN_IN_LANES: Final = 4  # candidates: fewer take less time one by one
_MAX_LANE_CELLS: Final = 1_000_000  # query residues times target residues: a thread's room takes 32 bytes of each
_NO_ROOM: Final = room_for(1, 1)
_FINAL_SEARCH: Final = 8
_ALL_FRAGMENTS: Final = 1


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """Chains end to end: residues `offsets_K1[k]` to `offsets_K1[k + 1]` are chain k's.

    `c_alphas_T3` float32 in angstrom, `states_T` uint8 3Di states, `offsets_K1` int64, one more than the chains; all
    three may be memory-mapped. Raise ValueError where they contradict one another.
    """

    c_alphas_T3: Points
    states_T: Codes
    offsets_K1: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        for array, dtype in ((self.c_alphas_T3, np.float32), (self.states_T, np.uint8), (self.offsets_K1, np.int64)):
            if array.dtype != dtype or not array.flags.c_contiguous:
                raise ValueError(f"an array of chains must be contiguous {np.dtype(dtype).name}, not {array.dtype}")
        total = len(self.c_alphas_T3)
        if self.c_alphas_T3.shape != (total, 3) or self.states_T.shape != (total,):
            raise ValueError(f"C-alphas must be [T, 3], states [T]: {self.c_alphas_T3.shape=}, {self.states_T.shape=}")
        offsets = self.offsets_K1
        if not len(offsets) or offsets[0] != 0 or offsets[-1] != total or (np.diff(offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to the {total:,} residues")

    def __len__(self) -> int:
        return len(self.offsets_K1) - 1


@dataclass(frozen=True, slots=True, eq=False)
class Alignments:
    """Alignments of one query of L residues with P chains, in the order of the candidates that were asked for.

    `tm_query_P` and `tm_target_P` are TM-scores by the query's and the target's length, 0 where nothing could be
    aligned. `query @ rotation.T + translation` lays the query on the target: index 0 of [P, 2] is the superposition of
    `tm_query_P`, index 1 that of `tm_target_P`. `partners_PL` is the target's residue of each residue of the query, or
    -1; `aligned_P` says how many there are and `rmsd_P` (angstrom) how far they are apart under superposition 0.
    A score is the sum of 1 / (1 + d^2 / d0^2) over the partners, divided by the length (`final_d0` gives d0).
    """

    tm_query_P: Doubles
    tm_target_P: Doubles
    aligned_P: npt.NDArray[np.int32]
    rmsd_P: Doubles
    rotation_P233: Doubles
    translation_P23: Doubles
    partners_PL: npt.NDArray[np.int32]


def tm_align_many(
    query_L3: Floats,
    states_L: Codes,
    chains: Chains,
    candidates_P: Integers | None = None,
    threads: int = 1,
    *,
    quick: bool = False,
    thorough: bool = False,
) -> Alignments:
    """Align the query with the chains numbered `candidates_P` (None: with all), on `threads` threads.

    `quick` takes the alignment behind `lower_bounds` for the best one: what it gives is true, and comes to the bound
    within some thousandths, since the distant pairs are dropped under another superposition. `thorough` refines more
    seeds further (tm_effort.THOROUGH), in six times the time. Raise ValueError for an
    empty query, for shapes that do not fit, and for a number that is no chain's.
    """
    query, states, candidates = _checked(query_L3, states_L, chains, candidates_P)
    number = len(candidates)
    scores, aligned, rmsd = np.zeros((number, 2)), np.zeros(number, np.int32), np.zeros(number)
    transforms, partners = np.zeros((number, 2, 12)), np.full((number, len(query)), -1, np.int32)

    def align(places: npt.NDArray[np.int64], work: Any) -> None:
        _align_all(
            query,
            states,
            *_arrays(chains),
            candidates,
            places,
            work,
            scores,
            transforms,
            aligned,
            rmsd,
            partners,
            quick,
            THOROUGH if thorough else STANDARD,
        )

    _divide(align, len(query), chains, candidates, threads)
    return Alignments(
        tm_query_P=scores[:, 0],
        tm_target_P=scores[:, 1],
        aligned_P=aligned,
        rmsd_P=rmsd,
        rotation_P233=transforms[:, :, :9].reshape(number, 2, 3, 3),
        translation_P23=transforms[:, :, 9:],
        partners_PL=partners,
    )


def tm_align(query_L3: Floats, states_L: Codes, target_L3: Floats, target_states_L: Codes) -> Alignments:
    """Align two chains: `tm_align_many` of one candidate."""
    target = Chains(
        np.ascontiguousarray(target_L3, dtype=np.float32),
        np.ascontiguousarray(target_states_L, dtype=np.uint8),
        np.array([0, len(target_L3)], dtype=np.int64),
    )
    return tm_align_many(query_L3, states_L, target)


def lower_bounds(
    query_L3: Floats, states_L: Codes, chains: Chains, candidates_P: Integers | None = None, threads: int = 1
) -> Doubles:
    """Return for each candidate a TM-score normalised by the query's length, [P], that a superposition reaches.

    From the 3Di alignment, a superposition search and one alignment by distance: a tenth of the time of an alignment,
    and never above the greatest TM-score. Errors as `tm_align_many`.
    """
    query, states, candidates = _checked(query_L3, states_L, chains, candidates_P)
    bounds = np.zeros(len(candidates))
    lengths, order = _longest_first(chains, candidates)
    parts = [order[start : start + NUM_LANES] for start in range(0, len(order), NUM_LANES)]
    here = threading.local()

    def bound(places: npt.NDArray[np.int64]) -> None:
        longest = max(1, int(lengths[places[0]]))
        if not hasattr(here, "work"):  # its first part has the longest chains of all that this thread gets
            here.work = work_for(len(query), longest)
        in_lanes = len(places) >= _MIN_IN_LANES and longest * len(query) <= _MAX_LANE_CELLS
        if in_lanes and not hasattr(here, "room"):
            here.room = room_for(len(query), longest)
        room = here.room if in_lanes else _NO_ROOM
        _bound_all(query, states, *_arrays(chains), candidates, _read_only(places), here.work, room, in_lanes, bounds)

    _run_parts(bound, parts, threads)
    return bounds


def score_pairs(mobile_N3: Floats, target_N3: Floats, length: int) -> float:
    """Return the TM-score of C-alphas with fixed pairing, by `length` residues: the compiled `superposition.tm_score`.

    For the score of part of an alignment, such as the confident residues of a prediction. Fragments begin at every
    pair. Raise ValueError for shapes that differ or hold no point.
    """
    if mobile_N3.shape != target_N3.shape or mobile_N3.ndim != 2 or mobile_N3.shape[1] != 3 or not len(mobile_N3):
        raise ValueError(f"points must be two arrays of one shape [N, 3]: {mobile_N3.shape=}, {target_N3.shape=}")
    x, y = (
        np.ascontiguousarray((points - points.mean(axis=0, dtype=np.float64)).T, dtype=np.float32)
        for points in (mobile_N3, target_N3)
    )
    seen = np.empty(SEEN_SLOTS, np.uint64)
    score, _ = search(x, y, len(mobile_N3), final_d0(length), NO_CUTOFF, _ALL_FRAGMENTS, seen)
    return score / length


def secondary_structure(c_alphas_L3: Floats) -> Codes:
    """Return TM-align's secondary structure of each residue, [L] uint8: tm_work's COIL, HELIX, TURN or STRAND."""
    codes = np.empty(len(c_alphas_L3), np.uint8)
    assign_secondary(np.ascontiguousarray(np.asarray(c_alphas_L3).T, dtype=np.float32), len(codes), codes)
    return codes


def _checked(
    query_L3: Floats, states_L: Codes, chains: Chains, candidates_P: Integers | None
) -> tuple[Points, Codes, npt.NDArray[np.int64]]:
    query = np.ascontiguousarray(query_L3, dtype=np.float32)
    states = np.ascontiguousarray(states_L, dtype=np.uint8)
    if query.ndim != 2 or query.shape[1] != 3 or not len(query) or states.shape != (len(query),):
        raise ValueError(f"a query is C-alphas [L, 3] and 3Di states [L]: {query.shape=}, {states.shape=}")
    candidates = np.arange(len(chains)) if candidates_P is None else np.asarray(candidates_P)
    if candidates.ndim != 1 or (len(candidates) and candidates.dtype.kind not in "iu"):
        raise ValueError(f"candidates must be a list of numbers of chains: {candidates.shape=}, {candidates.dtype=}")
    if len(candidates) and not 0 <= candidates.min() <= candidates.max() < len(chains):
        raise ValueError(f"candidates must be 0 to {len(chains) - 1:,}: {candidates.min()=}, {candidates.max()=}")
    return _read_only(query), _read_only(states), _read_only(candidates.astype(np.int64))


def _arrays(chains: Chains) -> tuple[Points, Codes, npt.NDArray[np.int64]]:
    return _read_only(chains.c_alphas_T3), _read_only(chains.states_T), _read_only(chains.offsets_K1)


def _read_only(array: Any) -> Any:
    """A view that may not be written: mapped arrays are so, and numba compiles once for each type of array."""
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


def _divide(
    compute: Callable[[npt.NDArray[np.int64], Any], None],
    query_length: int,
    chains: Chains,
    candidates: npt.NDArray[np.int64],
    threads: int,
) -> None:
    """Call `compute` with parts of the candidates' places and memory to work in, longest chains first."""
    lengths, order = _longest_first(chains, candidates)
    # A part ends where the running number of cells passes a multiple of what a task may have.
    part = np.cumsum(lengths[order] * query_length) // _CELLS_PER_TASK
    starts = np.flatnonzero(np.diff(part, prepend=-1))
    parts = [order[start:end] for start, end in pairwise([*starts, len(order)])]

    def task(places: npt.NDArray[np.int64]) -> None:
        compute(_read_only(places), work_for(query_length, max(1, int(lengths[places].max()))))

    _run_parts(task, parts, threads)


def _longest_first(
    chains: Chains, candidates: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the candidates' lengths, and their places with the longest first."""
    lengths = (chains.offsets_K1[candidates + 1] - chains.offsets_K1[candidates]).astype(np.int64)
    return lengths, np.argsort(-lengths, kind="stable")


def _run_parts(
    task: Callable[[npt.NDArray[np.int64]], None], parts: Sequence[npt.NDArray[np.int64]], threads: int
) -> None:
    """Call `task` with each of the parts. A thread meets them in their order. Raise ValueError for no threads."""
    if threads < 1:
        raise ValueError(f"threads must be 1 or more: {threads=}")
    if threads == 1 or len(parts) < 2:
        for places in parts:
            task(places)
        return
    with ThreadPoolExecutor(min(threads, len(parts))) as pool:
        list(pool.map(task, parts))


@inner
def _load_pair(
    query: Points,
    states: Codes,
    c_alphas: Points,
    chain_states: Codes,
    offsets: npt.NDArray[np.int64],
    chain: int,
    work: Any,
    centres: Doubles,
) -> tuple[int, int]:
    start, end = offsets[chain], offsets[chain + 1]
    n = load(query, states, work.x, work.x_states, work.x_index, centres[0])
    m = load(c_alphas[start:end], chain_states[start:end], work.y, work.y_states, work.y_index, centres[1])
    return n, m


@kernel
def _align_all(
    query: Points,
    states: Codes,
    c_alphas: Points,
    chain_states: Codes,
    offsets: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    work: Any,
    scores: Doubles,
    transforms: Doubles,
    aligned: npt.NDArray[np.int32],
    rmsd: Doubles,
    partners: npt.NDArray[np.int32],
    quick: bool,
    effort: Effort,
) -> None:
    centres = np.zeros((2, 3))
    for place in places:
        transforms[place, :, 0] = transforms[place, :, 4] = transforms[place, :, 8] = 1.0
        n, m = _load_pair(query, states, c_alphas, chain_states, offsets, candidates[place], work, centres)
        if n == 0 or m == 0:
            continue
        if quick:
            lower_bound(work, n, m)
            work.best_partners[:n] = work.partners[:n]
        else:
            align_pair(work, n, m, effort)
        aligned[place] = drop_distant(work, n, min(n, m))
        count = gather(work, n, work.best_partners)
        if count == 0:
            continue
        for kind in range(2):
            length = n if kind == 0 else m
            d0 = final_d0(length)
            _, transform = search(work.pair_x, work.pair_y, count, d0, NO_CUTOFF, _FINAL_SEARCH, work.seen)
            score, squares = exact_sum(work, n, work.best_partners, transform, d0, NO_CUTOFF)
            scores[place, kind] = score / length
            if kind == 0:
                rmsd[place] = np.sqrt(squares / count)
            _uncentre(transform, centres, transforms[place, kind])
        for i in range(n):
            if work.best_partners[i] >= 0:
                partners[place, work.x_index[i]] = work.y_index[work.best_partners[i]]


@inner
def _uncentre(t: Transform, centres: Doubles, out: Doubles) -> None:
    for k in range(12):
        out[k] = t[k]
    for axis in range(3):
        moved = 0.0
        for k in range(3):
            moved += out[3 * axis + k] * centres[0, k]
        out[9 + axis] += centres[1, axis] - moved


@kernel
def _bound_all(
    query: Points,
    states: Codes,
    c_alphas: Points,
    chain_states: Codes,
    offsets: npt.NDArray[np.int64],
    candidates: npt.NDArray[np.int64],
    places: npt.NDArray[np.int64],
    work: Any,
    room: Any,
    in_lanes: bool,
    bounds: Doubles,
) -> None:
    """Write the bounds of the candidates at `places`; `in_lanes`: at most NUM_LANES, whose 3Di states are aligned
    together in `room`."""
    centres = np.zeros((2, 3))
    if in_lanes:
        longest = 0
        for place in places:
            longest = max(longest, offsets[candidates[place] + 1] - offsets[candidates[place]])
        n = 0
        for lane in range(NUM_LANES):
            m = 0
            if lane < len(places):
                n, m = _load_pair(
                    query, states, c_alphas, chain_states, offsets, candidates[places[lane]], work, centres
                )
            lay_out(room, lane, work.y_states, m, longest)
        align_lanes(room, work.x_states, n, longest)
    for lane in range(len(places)):
        place = places[lane]
        n, m = _load_pair(query, states, c_alphas, chain_states, offsets, candidates[place], work, centres)
        if n == 0 or m == 0:
            continue
        if in_lanes:
            prepare(work, n, m)
            work.partners[:n] = room.partners[lane, :n]
            bounds[place], _ = bound_from_states(work, n, m)
        else:
            bounds[place], _ = lower_bound(work, n, m)
