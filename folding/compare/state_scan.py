"""Smith-Waterman scores of 3Di sequences against many others, 64 of them at a time, one in each lane of a vector.

Inter-sequence vectorisation (Rognes 2011, BMC Bioinformatics 12:221): lanes are independent, so nothing is shuffled,
and gaps cost what they cost in `smith_waterman`. Cells are bytes of saturating arithmetic; scores of `SATURATED` and
more are computed again in 16 bits. The instructions are written as LLVM vectors, of which the compiler makes AVX-512,
AVX2 or NEON: loops over lanes of so few bytes are not vectorised by themselves.

The scores of a target's residues against all states are laid out once and serve all queries of a call.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.core.cgutils import for_range
from numba.extending import intrinsic

from foldatlas.folding.compare.kernels.compilation import inner, kernel
from foldatlas.folding.compare.kernels.lanes import VECTOR_BYTES, Lanes, least, length_of, starts_of
from foldatlas.folding.compare.kernels.smith_waterman import GAP_EXTEND, GAP_OPEN
from foldatlas.folding.compare.kernels.three_di_tables import SUBSTITUTION_SCORES
from foldatlas.folding.compare.tm_align import Chains

Codes = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Integers = npt.NDArray[np.int64]

NUM_STATES: Final = 20
SATURATED: Final = 255  # the greatest score of a byte
COLUMNS: Final = 2  # of a matrix that are filled together
_TABLE: Final = np.ascontiguousarray(SUBSTITUTION_SCORES, dtype=np.int8)


def state_scores(
    queries: Sequence[Codes], chains: Chains, candidates_P: Integers | None = None, threads: int = 1
) -> npt.NDArray[np.uint8]:
    """Return the Smith-Waterman score in half bits of each query's states with each candidate's, [Q, P] uint8.

    SATURATED stands for that score and for all above it. Candidates are numbers of chains (None: all). The chains are
    read once for all queries: searching with many at a time takes less.
    """
    return _scores(queries, chains, candidates_P, threads, np.int8, np.uint8)


def exact_state_scores(
    queries: Sequence[Codes], chains: Chains, candidates_P: Integers | None = None, threads: int = 1
) -> npt.NDArray[np.int32]:
    """Return `state_scores` up to 65,535, [Q, P] int32, in twice the time."""
    return _scores(queries, chains, candidates_P, threads, np.int16, np.int32)


def _scores(
    queries: Sequence[Codes],
    chains: Chains,
    candidates_P: Integers | None,
    threads: int,
    dtype: type[Any],
    result: type[Any],
) -> Any:
    if threads < 1:
        raise ValueError(f"threads must be 1 or more: {threads=}")
    candidates = np.arange(len(chains)) if candidates_P is None else np.asarray(candidates_P, dtype=np.int64)
    scores = np.zeros((len(queries), len(candidates)), result)
    if not scores.size:
        return scores
    lanes, lowest = VECTOR_BYTES // np.dtype(dtype).itemsize, int(np.iinfo(dtype).min)
    lengths = chains.offsets_K1[candidates + 1] - chains.offsets_K1[candidates]
    order = np.argsort(-lengths, kind="stable")
    codes = np.concatenate(queries)
    ends = np.cumsum([0, *map(len, queries)]).astype(np.int64)
    longest = int(np.diff(ends).max())

    def scan(start: int) -> None:
        places = order[start : start + lanes]
        found = np.zeros((len(queries), lanes), np.int32)
        columns = -(-max(1, int(lengths[places[0]])) // COLUMNS) * COLUMNS
        profile = np.empty(columns * NUM_STATES * lanes, dtype)
        cells, gaps, best = np.empty(longest * lanes, dtype), np.empty(longest * lanes, dtype), np.empty(lanes, dtype)
        _scan_lanes(
            _read_only(codes),
            ends,
            _read_only(chains.states_T),
            _read_only(chains.offsets_K1),
            candidates[places],
            _TABLE,
            profile,
            cells,
            gaps,
            best,
            found,
            lowest,
        )
        scores[:, places] = found[:, : len(places)]

    starts = range(0, len(candidates), lanes)
    if threads == 1:
        for start in starts:
            scan(start)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(scan, starts))
    return scores


def _read_only(array: Any) -> Any:
    view = np.asarray(array).view()
    view.flags.writeable = False
    return view


@intrinsic
def _fill_columns(typingctx: Any, profile: Any, begin: Any, codes: Any, cells: Any, gaps: Any, best: Any) -> Any:
    """Fill COLUMNS columns of the matrices of all lanes: row by row along the query `codes`.

    `profile[begin:]` holds a vector a state and column. `cells` and `gaps` are the column before, a vector a row, and
    become the last column. `best` is the greatest cell of each lane so far. With several columns in registers the
    column before is read and written once for all of them, and their chains of dependent instructions overlap.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Lanes(builder, cells.dtype.bitwidth)
        begins = starts_of(context, builder, signature.args, arguments)
        profile_start, codes_start, cells_start, gaps_start, best_start = begins
        profile_start = builder.gep(profile_start, [arguments[1]])
        opening, going_on, lowest = v.splat(GAP_OPEN), v.splat(GAP_EXTEND), v.splat(least(v.bits))
        best_place = v.at(best_start, v.index(0))
        top = v.variable(v.load(best_place))
        diagonals = [v.variable(lowest) for _ in range(COLUMNS)]
        downs = [v.variable(lowest) for _ in range(COLUMNS)]
        with for_range(builder, length_of(context, builder, codes, arguments[2])) as loop:
            code = builder.zext(builder.load(builder.gep(codes_start, [loop.index])), v.index)
            cell_place, gap_place = v.at(cells_start, loop.index), v.at(gaps_start, loop.index)
            before, gap, greatest = v.load(cell_place), v.load(gap_place), builder.load(top)
            for column in range(COLUMNS):
                score = v.load(v.at(profile_start, builder.add(code, v.index(column * NUM_STATES))))
                down = builder.load(downs[column])
                # A gap opened from a gap is never better than that gap going on, so `down` need not wait for `cell`.
                from_left = v.larger(v.add(builder.load(diagonals[column]), score), gap)
                cell = v.larger(from_left, down)
                greatest = v.larger(greatest, cell)
                down = v.larger(v.subtract(down, going_on), v.subtract(from_left, opening))
                gap = v.larger(v.subtract(gap, going_on), v.subtract(cell, opening))
                builder.store(before, diagonals[column])
                builder.store(down, downs[column])
                before = cell
            builder.store(greatest, top)
            v.store(before, cell_place)
            v.store(gap, gap_place)
        v.store(builder.load(top), best_place)
        return context.get_dummy_value()

    return types.void(profile, begin, codes, cells, gaps, best), generate


@inner
def _lay_out(states: Codes, offsets: Integers, rows: Integers, length: int, table: Any, lowest: int, out: Any) -> None:
    lanes = len(out) // (length * NUM_STATES)
    out[: length * NUM_STATES * lanes] = lowest
    for lane in range(len(rows)):
        start, end = offsets[rows[lane]], offsets[rows[lane] + 1]
        for j in range(end - start):
            state = np.uint64(states[start + j])
            base = np.uint64(j * NUM_STATES * lanes + lane)
            for a in range(np.uint64(NUM_STATES)):
                out[base + a * np.uint64(lanes)] = table[a, state]


@kernel
def _scan_lanes(
    query_codes: Codes,
    query_offsets: Integers,
    states: Codes,
    offsets: Integers,
    rows: Integers,
    table: npt.NDArray[np.int8],
    profile: Cells,
    cells: Cells,
    gaps: Cells,
    best: Cells,
    scores: npt.NDArray[np.int32],
    lowest: int,
) -> None:
    """Write to `scores[q, k]` the score of query q, residues `query_offsets[q]` on, with chain `rows[k]`.

    There are at most as many rows as lanes in `best`. `profile` has room for the longest chain times NUM_STATES times
    the lanes, and is as long; `cells` and `gaps` for the longest query times the lanes. `lowest` is the least number of
    their type.
    """
    lanes = len(best)
    length = len(profile) // (NUM_STATES * lanes)
    _lay_out(states, offsets, rows, length, table, lowest, profile)
    for query in range(len(query_offsets) - 1):
        codes = query_codes[query_offsets[query] : query_offsets[query + 1]]
        cells[: len(codes) * lanes] = lowest
        gaps[: len(codes) * lanes] = lowest
        best[:] = lowest
        for j in range(0, length, COLUMNS):
            _fill_columns(profile, j * NUM_STATES * lanes, codes, cells, gaps, best)  # type: ignore[call-arg]
        for lane in range(len(rows)):
            scores[query, lane] = np.int32(best[lane]) - lowest
