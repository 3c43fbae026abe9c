"""TM-scores of the members of clusters by structure to their centres, computed in shards.

Which pairs these are is known after set cover, and the shards of a run are named when it begins. So the pairs, sorted,
are cut into as many equal slices as the run has shards for them. A score depends only on the two chains: a run reuses
the scores of an earlier one.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from foldatlas.atlas.clusters.pairs import Pairs
from foldatlas.atlas.clusters.structures import Ids, read_some_chains
from foldatlas.atlas.storage.protocol import Storage
from foldatlas.schemas.stages import StageShard

Rows = npt.NDArray[np.int64]

PAIRS_PER_SHARD: Final = 4_096  # at most, some 20 seconds
ALIGNMENT_COST: Final = 90  # of TM-align, in comparisons as of finding pairs (results.py)
_PREFIX: Final = "members-"
_RESIDUES: Final = 250  # of both chains in the unit of cost


def alignment_shards(ids_M: Ids, lengths_M: npt.NDArray[np.integer]) -> list[StageShard]:
    """Return the shards that align members of clusters of these chains with their centres."""
    number = -(-(len(ids_M) - 1) // PAIRS_PER_SHARD) if len(ids_M) else 0
    if not number:
        return []
    cost = int(ALIGNMENT_COST * (lengths_M.astype(np.int64) ** 2).sum()) // _RESIDUES**2 // number
    chains = hashlib.sha256(ids_M.tobytes()).digest()
    names = [f"{_PREFIX}{place}-{number}" for place in range(number)]
    items = -(-len(ids_M) // number)
    return [
        StageShard(name=name, items=items, cost=max(1, cost), digest=hashlib.sha256(name.encode() + chains).hexdigest())
        for name in names
    ]


def aligns_members(shard: StageShard) -> bool:
    """Whether a shard of a run aligns members with centres; the others find pairs."""
    return shard.name.startswith(_PREFIX)


def slice_of(shard: StageShard, num_pairs: int) -> slice:
    """Return which of `num_pairs` pairs a shard aligns."""
    place, number = map(int, shard.name.removeprefix(_PREFIX).split("-"))
    return slice(num_pairs * place // number, num_pairs * (place + 1) // number)


def member_pairs(centres_M: Rows, pairs: Pairs) -> Pairs:
    """Return those of `pairs` that are a member and its centre, sorted by rows."""
    is_member = (centres_M[pairs.longer_E] == pairs.shorter_E) | (centres_M[pairs.shorter_E] == pairs.longer_E)
    found = pairs.select(is_member)
    return found.select(np.lexsort((found.shorter_E, found.longer_E)))


def split_known(pairs: Pairs, known: Pairs) -> tuple[Pairs, Pairs]:
    """Return the `pairs` that are among `known`, with the score of `known`, and the others."""
    if not len(known.tm_E):
        return Pairs.empty(), pairs
    keys, known_keys = _keys(pairs), _keys(known)
    order = np.argsort(known_keys)
    place = order[np.minimum(np.searchsorted(known_keys[order], keys), len(order) - 1)]
    is_known = known_keys[place] == keys
    return known.select(place[is_known]), pairs.select(~is_known)


def _keys(pairs: Pairs) -> Rows:
    keys: Rows = pairs.longer_E << 32 | pairs.shorter_E
    return keys


def align_pairs(
    storage: Storage,
    path: str,
    pairs: Pairs,
    *,
    threads: int = 1,
    advance: Callable[[int], None] = lambda pairs: None,
    check: Callable[[], None] = lambda: None,
) -> Pairs:
    """Return `pairs`, sorted by rows of the file of chains `path`, with the TM-score of TM-align, or of the pair where
    that is greater: it is a superposition's, too.

    `check` is called before each longer chain and may raise, `advance` after with its pairs. The result does not
    depend on `threads`.
    """
    from foldatlas.folding.compare.tm_align import tm_align_many

    if not len(pairs.tm_E):
        return pairs
    rows = np.unique(np.concatenate([pairs.longer_E, pairs.shorter_E]))
    chains = read_some_chains(storage, path, rows)
    longer, shorter = np.searchsorted(rows, pairs.longer_E), np.searchsorted(rows, pairs.shorter_E)
    tm = pairs.tm_E.copy()
    for row in np.unique(longer).tolist():
        check()
        same = slice(*np.searchsorted(longer, [row, row + 1]))
        span = slice(*chains.offsets_K1[row : row + 2])
        query = chains.c_alphas_T3[span], chains.states_T[span]
        tm[same] = np.maximum(tm[same], tm_align_many(*query, chains, shorter[same], threads).tm_query_P)
        advance(same.stop - same.start)
    return Pairs(pairs.longer_E, pairs.shorter_E, tm)


def tm_to_centre(centres_M: Rows, scored: Sequence[Pairs]) -> npt.NDArray[np.float32]:
    """Return the TM-score of each chain to its centre, [M], from all pairs of a member and its centre; 1 for a
    centre."""
    tm = np.full(len(centres_M), np.nan, dtype=np.float32)
    tm[centres_M == np.arange(len(centres_M))] = 1.0
    for pairs in scored:
        is_longer = centres_M[pairs.longer_E] == pairs.shorter_E
        tm[np.where(is_longer, pairs.longer_E, pairs.shorter_E)] = pairs.tm_E
    return tm
