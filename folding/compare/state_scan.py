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
from numba.core.cgutils import alloca_once, for_range
from numba.extending import intrinsic

from foldatlas.folding.compare.compilation import inner, kernel
from foldatlas.folding.compare.smith_waterman import GAP_EXTEND, GAP_OPEN
from foldatlas.folding.compare.three_di_tables import SUBSTITUTION_SCORES
from foldatlas.folding.compare.tm_align import Chains

Codes = npt.NDArray[np.uint8]
Cells = npt.NDArray[np.int8] | npt.NDArray[np.int16]
Integers = npt.NDArray[np.int64]

NUM_STATES: Final = 20
SATURATED: Final = 255  # the greatest score of a byte
_VECTOR_BYTES: Final = 64
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
    lanes, lowest = _VECTOR_BYTES // np.dtype(dtype).itemsize, int(np.iinfo(dtype).min)
    lengths = chains.offsets_K1[candidates + 1] - chains.offsets_K1[candidates]
    order = np.argsort(-lengths, kind="stable")
    codes = np.concatenate(queries)
    ends = np.cumsum([0, *map(len, queries)]).astype(np.int64)
    longest = int(np.diff(ends).max())

    def scan(start: int) -> None:
        places = order[start : start + lanes]
        found = np.zeros((len(queries), lanes), np.int32)
        profile = np.empty(max(1, int(lengths[places[0]])) * NUM_STATES * lanes, dtype)
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
def _column(typingctx: Any, profile: Any, begin: Any, codes: Any, cells: Any, gaps: Any, best: Any) -> Any:
    """Fill one column of the matrices of all lanes: row by row along the query `codes`.

    `profile[begin:]` holds a vector a state. `cells` and `gaps` are the column before, a vector a row, and become this
    one. `best` is the greatest cell of each lane so far.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        from llvmlite import ir

        element = ir.IntType(cells.dtype.bitwidth)
        lanes = _VECTOR_BYTES * 8 // cells.dtype.bitwidth
        vector = ir.VectorType(element, lanes)
        binary = ir.FunctionType(vector, [vector, vector])

        def function(name: str) -> Any:
            name = f"llvm.{name}.v{lanes}i{element.width}"
            return builder.module.globals.get(name) or ir.Function(builder.module, binary, name)

        add, subtract, larger = function("sadd.sat"), function("ssub.sat"), function("smax")
        starts = [
            context.make_array(kind)(context, builder, value).data
            for kind, value in zip(signature.args, arguments, strict=True)
            if isinstance(kind, types.Array)
        ]
        profile_start, codes_start, cells_start, gaps_start, best_start = starts
        profile_start = builder.gep(profile_start, [arguments[1]])
        rows = context.make_array(codes)(context, builder, arguments[2]).shape
        count = builder.extract_value(rows, 0)
        size = ir.IntType(64)

        def place(start: Any, number: Any) -> Any:
            return builder.bitcast(builder.gep(start, [builder.mul(number, size(lanes))]), vector.as_pointer())

        def splat(value: int) -> Any:
            return ir.Constant(vector, [value] * lanes)

        lowest = splat(-(1 << (element.width - 1)))
        diagonal, down, top = (alloca_once(builder, vector) for _ in range(3))  # type: ignore[no-untyped-call]
        builder.store(lowest, diagonal)
        builder.store(lowest, down)
        best_place = builder.bitcast(best_start, vector.as_pointer())
        builder.store(builder.load(best_place, align=1), top)
        with for_range(builder, count) as loop:
            code = builder.zext(builder.load(builder.gep(codes_start, [loop.index])), size)
            score = builder.load(place(profile_start, code), align=1)
            cell_place, gap_place = place(cells_start, loop.index), place(gaps_start, loop.index)
            before, gap, below = builder.load(cell_place, align=1), builder.load(gap_place, align=1), builder.load(down)
            cell = builder.call(add, [builder.load(diagonal), score])
            cell = builder.call(larger, [builder.call(larger, [cell, gap]), below])
            builder.store(builder.call(larger, [builder.load(top), cell]), top)
            builder.store(cell, cell_place, align=1)
            opened = builder.call(subtract, [cell, splat(GAP_OPEN)])
            going_on = splat(GAP_EXTEND)
            builder.store(builder.call(larger, [builder.call(subtract, [gap, going_on]), opened]), gap_place, align=1)
            builder.store(builder.call(larger, [builder.call(subtract, [below, going_on]), opened]), down)
            builder.store(before, diagonal)
        builder.store(builder.load(top), best_place, align=1)
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
        for j in range(length):
            _column(profile, j * NUM_STATES * lanes, codes, cells, gaps, best)  # type: ignore[call-arg]
        for lane in range(len(rows)):
            scores[query, lane] = np.int32(best[lane]) - lowest
