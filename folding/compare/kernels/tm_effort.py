"""How much effort TM-align spends on a pair of chains. Measured in docs/decisions/0028-tm-align.md and 0033."""

from typing import Final, NamedTuple

from foldatlas.folding.compare.kernels.tm_work import NUM_RANKS

SHORT: Final = 100  # residues of the shorter chain: a fold is most easily missed in such


class Effort(NamedTuple):
    """How many seeds of a pair are refined, and how far. Pairs hold the value for a shorter chain of fewer than SHORT
    residues, and for others.

    Of the fragments, the best are refined: `fragments` times the longer chain's length over the shorter's, at most
    `max_fragments`. They begin at every `step`-th residue, or further apart where they would be more than `max_pairs`.
    Seeds that begin below `dropped` of the best TM sum are not refined; the others `iterations` times for each gap.
    """

    fragments: tuple[int, int]
    max_fragments: tuple[int, int]
    max_pairs: int
    step: tuple[int, int]
    dropped: float
    iterations: int


STANDARD: Final = Effort((24, 12), (100, 40), 2_500, (3, 6), 0.7, 3)
THOROUGH: Final = Effort((64, 64), (NUM_RANKS, NUM_RANKS), 20_000, (2, 2), 0.5, 8)  # six times as long
