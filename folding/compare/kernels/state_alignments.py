"""Local alignments of one chain's 3Di states with those of many others, one in each lane of a vector.

The alignments are `smith_waterman.align_states`'s, cell by cell: the same scores, sources of cells and ends. Scores are
of 16 bits, up to 65,535; a byte a cell and lane says where its value came from.
"""

from collections import namedtuple
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from numba.core import types
from numba.core.cgutils import for_range
from numba.extending import intrinsic

from foldatlas.folding.compare.kernels.compilation import inner
from foldatlas.folding.compare.kernels.lanes import VECTOR_BYTES, Lanes, least, starts_of
from foldatlas.folding.compare.kernels.smith_waterman import GAP_EXTEND, GAP_OPEN
from foldatlas.folding.compare.kernels.three_di_tables import SUBSTITUTION_SCORES

Codes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int32]

BITS: Final = 16
NUM_LANES: Final = VECTOR_BYTES * 8 // BITS
NUM_STATES: Final = 20
_LEAST: Final = least(BITS)
_PAIR: Final = 1
_UP: Final = 2  # the query's residue has no partner
_LEFT: Final = 3
_SOURCE: Final = 3  # bits of the source; 0 begins an alignment
_UP_GOES_ON: Final = 4  # a gap that ends one row below goes on through this cell
_LEFT_GOES_ON: Final = 8

# Working memory, a vector of lanes an item: `profile` [m * NUM_STATES] scores of the targets' residues with each
# state; `cells` and `gaps` [n] the column before; `tops` and `rows` [m] the greatest cell of a column and its first
# row; `origins` [m * n] bytes. `partners` [NUM_LANES, n].
LaneRoom = namedtuple("LaneRoom", "table profile cells gaps tops rows origins partners")


def room_for(n: int, m: int) -> Any:
    """Return working memory for a chain of `n` residues and others of up to `m`: some 32 bytes times n m."""
    return LaneRoom(
        table=np.ascontiguousarray(SUBSTITUTION_SCORES, dtype=np.int16),
        profile=np.empty(m * NUM_STATES * NUM_LANES, np.int16),
        cells=np.empty(n * NUM_LANES, np.int16),
        gaps=np.empty(n * NUM_LANES, np.int16),
        tops=np.empty(m * NUM_LANES, np.int16),
        rows=np.empty(m * NUM_LANES, np.int16),
        origins=np.empty(m * n * NUM_LANES, np.uint8),
        partners=np.empty((NUM_LANES, n), np.int32),
    )


@intrinsic
def _fill_column(
    typingctx: Any,
    profile: Any,
    codes: Any,
    count: Any,
    column: Any,
    cells: Any,
    gaps: Any,
    tops: Any,
    rows: Any,
    origins: Any,
) -> Any:
    """Fill column `column` of the matrices of all lanes, row by row along the first `count` of `codes`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        v = Lanes(builder, BITS)
        begins = starts_of(context, builder, signature.args, arguments)
        profile_start, codes_start, cells_start, gaps_start, tops_start, rows_start, origins_start = begins
        number, column = arguments[2:4]
        first_score, first_origin = builder.mul(column, v.index(NUM_STATES)), builder.mul(column, number)
        opening, going_on, lowest = v.splat(GAP_OPEN), v.splat(GAP_EXTEND), v.splat(least(BITS))
        diagonal, down = v.variable(lowest), v.variable(lowest)
        top, top_row, row = v.variable(lowest), v.variable(v.splat(0)), v.variable(v.splat(0))
        with for_range(builder, number) as loop:
            code = builder.zext(builder.load(builder.gep(codes_start, [loop.index])), v.index)
            cell_place, gap_place = v.at(cells_start, loop.index), v.at(gaps_start, loop.index)
            score = v.load(v.at(profile_start, builder.add(first_score, code)))
            before, left, up = v.load(cell_place), v.load(gap_place), builder.load(down)
            pair, side = v.add(builder.load(diagonal), score), v.larger(left, up)
            cell = v.larger(pair, side)
            source = builder.select(
                builder.icmp_signed(">=", pair, side),
                v.splat(_PAIR),
                builder.select(builder.icmp_signed(">=", up, left), v.splat(_UP), v.splat(_LEFT)),
            )
            source = builder.select(builder.icmp_signed(">", cell, lowest), source, v.splat(0))
            opened, up, left = v.subtract(cell, opening), v.subtract(up, going_on), v.subtract(left, going_on)
            for gap, bit in ((up, _UP_GOES_ON), (left, _LEFT_GOES_ON)):
                goes_on = builder.icmp_signed(">", gap, opened)
                source = builder.or_(source, builder.select(goes_on, v.splat(bit), v.splat(0)))
            origin_place = builder.mul(builder.add(first_origin, loop.index), v.index(v.lanes))
            origin_place = builder.bitcast(builder.gep(origins_start, [origin_place]), v.bytes.as_pointer())
            v.store(builder.trunc(source, v.bytes), origin_place)
            is_greater = builder.icmp_signed(">", cell, builder.load(top))
            builder.store(builder.select(is_greater, builder.load(row), builder.load(top_row)), top_row)
            builder.store(builder.select(is_greater, cell, builder.load(top)), top)
            builder.store(builder.add(builder.load(row), v.splat(1)), row)
            builder.store(before, diagonal)
            builder.store(v.larger(up, opened), down)
            v.store(cell, cell_place)
            v.store(v.larger(left, opened), gap_place)
        v.store(builder.load(top), v.at(tops_start, column))
        v.store(builder.load(top_row), v.at(rows_start, column))
        return context.get_dummy_value()

    return types.void(profile, codes, count, column, cells, gaps, tops, rows, origins), generate


@inner
def lay_out(room: Any, lane: int, states: Codes, count: int, columns: int) -> None:
    """Write the scores of a target's first `count` states to its lane, and the least score up to `columns`."""
    for j in range(columns):
        base = np.uint64(j * NUM_STATES * NUM_LANES + lane)
        for a in range(np.uint64(NUM_STATES)):
            room.profile[base + a * np.uint64(NUM_LANES)] = room.table[a, states[j]] if j < count else _LEAST


@inner
def align_lanes(room: Any, codes: Codes, n: int, columns: int) -> None:
    """Write the best local alignment of the query with each lane's target to room.partners[lane, :n]: the target's
    residue of each residue of the query, or -1. Every lane must be laid out up to `columns`."""
    room.cells[: n * NUM_LANES] = _LEAST
    room.gaps[: n * NUM_LANES] = _LEAST
    for j in range(columns):
        _fill_column(room.profile, codes, n, j, room.cells, room.gaps, room.tops, room.rows, room.origins)  # type: ignore[call-arg]
    for lane in range(NUM_LANES):
        best, row, column = np.int64(_LEAST), np.int64(0), np.int64(0)
        for j in range(columns):
            value, i = np.int64(room.tops[j * NUM_LANES + lane]), np.int64(room.rows[j * NUM_LANES + lane])
            earlier = i + j < row + column or (i + j == row + column and i < row)
            if value > best or (value == best and earlier):
                best, row, column = value, i, np.int64(j)
        _trace_back(room, n, lane, row, column, bool(best > _LEAST))


@inner
def _trace_back(room: Any, n: int, lane: int, row: Any, column: Any, is_any: bool) -> None:
    room.partners[lane, :n] = -1
    mode = 0  # _UP or _LEFT within a gap
    while is_any and row >= 0 and column >= 0:
        origin = room.origins[(column * n + row) * NUM_LANES + lane]
        if (mode == _UP and not origin & _UP_GOES_ON) or (mode == _LEFT and not origin & _LEFT_GOES_ON):
            mode = 0
        if mode == 0:
            mode = origin & _SOURCE
            if mode == 0:
                break
            if mode == _PAIR:
                room.partners[lane, row] = column
                row, column, mode = row - 1, column - 1, 0
                continue
        if mode == _UP:
            row -= 1
        else:
            column -= 1
