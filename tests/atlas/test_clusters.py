"""The parts of clustering, each beside a plain one: set cover, representatives, windows, candidates."""

import numpy as np
import pytest
from made_families import families

from foldatlas.atlas.clusters import alignments, results
from foldatlas.atlas.clusters import pairs as pairs_module
from foldatlas.atlas.clusters.descriptors import SIZE, describe, limit, near
from foldatlas.atlas.clusters.forecast import lengths_in, predict
from foldatlas.atlas.clusters.member_map import cover_by_id
from foldatlas.atlas.clusters.pairs import PairCounts, Pairs, find_pairs, window_end
from foldatlas.atlas.clusters.representatives import confidence, representatives
from foldatlas.atlas.clusters.set_cover import set_cover
from foldatlas.folding.compare.three_di import three_di_states
from foldatlas.folding.compare.tm_align import Chains, tm_align_many
from foldatlas.schemas.manifest import Shard


def plain_cover(number: int, edges: set[tuple[int, int]]) -> list[int]:
    """Greedy set cover as its definition says it."""
    around = {node: {b for a, b in edges if a == node} | {a for a, b in edges if b == node} for node in range(number)}
    left, centres = set(range(number)), list(range(number))
    while left:
        best = max(left, key=lambda node: (len(around[node] & left), -node))
        for member in {best, *(around[best] & left)}:
            centres[member] = best
            left.discard(member)
    return centres


def random_edges(rng: np.random.Generator, number: int, edges: int) -> np.ndarray:
    found = rng.integers(0, number, (edges, 2))
    return np.unique(np.sort(found[found[:, 0] != found[:, 1]], axis=1), axis=0).astype(np.int32)


@pytest.mark.parametrize("seed", range(20))
def test_set_cover_equals_its_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = int(rng.integers(1, 60))
    edges = random_edges(rng, number, int(rng.integers(0, 150)))
    found = set_cover(number, edges[:, 0], edges[:, 1])
    assert found.tolist() == plain_cover(number, {(a, b) for a, b in edges.tolist()})


def test_cover_depends_on_ids_alone() -> None:
    """The same graph under other numbers, pairs in another order and turned round."""
    rng = np.random.default_rng(1)
    edges = random_edges(rng, 200, 600)
    ids = np.frombuffer(rng.bytes(16 * 200), dtype="V16")
    expected = ids[cover_by_id(ids, edges[:, 0], edges[:, 1])]
    for _ in range(5):
        place = rng.permutation(200)  # new number -> old number
        number = np.argsort(place)
        mixed = number[rng.permutation(edges)[:, ::-1]]
        found = cover_by_id(ids[place], mixed[:, 0], mixed[:, 1])
        assert ids[place][found][number].tobytes() == expected.tobytes()


def test_representatives() -> None:
    centres = np.array([0, 0, 2, 0, 2, 5])
    values = confidence(np.array([80.0, 90.0, 50.0, 90.0, np.nan, np.nan]), np.array([0.9, 0.8, np.nan, 0.8, 0.9, 0.1]))
    assert values.tolist() == pytest.approx([72, 72, 50, 72, 0, 0])
    assert representatives(centres, values).tolist() == [0, 0, 2, 0, 2, 5]
    values[3] = 73
    assert representatives(centres, values).tolist() == [3, 3, 2, 3, 2, 5]


def test_window_holds_chains_of_four_fifths() -> None:
    lengths = np.array([100, 99, 81, 80, 80, 79, 64, 63, 31, 30])
    for row, length in enumerate(lengths.tolist()):
        expected = [other for other in range(row, len(lengths)) if lengths[other] * 5 >= length * 4]
        assert window_end(lengths, row) == expected[-1] + 1
    number, _ = results._pairs_and_cost(lengths, np.ones(len(lengths), np.bool_))
    assert number.tolist() == [window_end(lengths, row) - row - 1 for row in range(len(lengths))]


@pytest.mark.parametrize("seed", range(5))
def test_shards_hold_each_pair_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs within the ratio of which one is new, and no others; with small shards."""
    rng = np.random.default_rng(seed)
    lengths = -np.sort(-rng.integers(30, 400, 120)).astype(np.int32)
    is_new = rng.random(120) < (0.3, 1.0, 0.02, 0.0, 0.6)[seed]
    ids = np.frombuffer(rng.bytes(16 * 120), dtype="V16")
    monkeypatch.setattr(results, "COST_PER_SHARD", 40)
    shards = results.shards_of(ids, lengths, is_new)
    seen: list[tuple[int, int]] = []
    for shard in shards:
        block = results.Block.of(shard)
        for row in range(block.begin, block.end):
            assert window_end(lengths, row) <= block.last
            others = range(row + 1, window_end(lengths, row))
            seen += [(row, other) for other in others if is_new[row] or is_new[other]]
    expected = {
        (a, b) for a in range(120) for b in range(a + 1, 120)
        if lengths[b] * 5 >= lengths[a] * 4 and (is_new[a] or is_new[b])
    }  # fmt: skip
    assert len(seen) == len(set(seen)) and set(seen) == expected
    assert len(shards) > 3 or not expected or seed == 2
    changed = is_new.copy()
    changed[40] = not changed[40]
    assert {shard.digest for shard in results.shards_of(ids, lengths, changed)} != {shard.digest for shard in shards}


@pytest.fixture(scope="module")
def chains() -> tuple[Chains, np.ndarray]:
    made = sorted(families(6, 6, seed=3), key=lambda protein: -len(protein.sequence))[:-1]
    points = [protein.backbone_4L3[1].astype(np.float32) for protein in made]
    states = [three_di_states(*protein.backbone_4L3) for protein in made]
    found = Chains(np.concatenate(points), np.concatenate(states), np.cumsum([0, *map(len, points)]))
    return found, np.stack([describe(*both) for both in zip(points, states, strict=True)])


@pytest.mark.parametrize("all_near", [False, True])
def test_pairs_equal_all_alignments(
    chains: tuple[Chains, np.ndarray], all_near: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those whose TM-score by the longer is at least 0.5, of all pairs within the ratio; also where all of them are
    candidates."""
    if all_near:
        monkeypatch.setattr(pairs_module, "near", lambda _, row, begin, end, length: np.arange(begin, end))
    all_chains, descriptors = chains
    number, lengths = len(all_chains), np.diff(all_chains.offsets_K1)
    counts = PairCounts()
    found = find_pairs(all_chains, descriptors, number, np.ones(number, np.bool_), counts=counts)
    expected = []
    for row in range(number):
        others = np.arange(row + 1, window_end(lengths, row))
        span = slice(*all_chains.offsets_K1[row : row + 2])
        scores = tm_align_many(all_chains.c_alphas_T3[span], all_chains.states_T[span], all_chains, others).tm_query_P
        expected += [(row, int(other)) for other in others[scores >= 0.5]]
    assert list(zip(found.longer_E.tolist(), found.shorter_E.tolist(), strict=True)) == expected
    assert len(expected) >= 6 * 15 and (found.tm_E >= 0.5).all()
    assert counts.in_ratio == sum(window_end(lengths, row) - row - 1 for row in range(number))
    assert len(expected) <= counts.candidates and (counts.candidates == counts.in_ratio) is all_near


def test_new_pairs_and_old_ones_are_all_pairs(chains: tuple[Chains, np.ndarray]) -> None:
    all_chains, descriptors = chains
    number = len(all_chains)
    is_new = np.arange(number) % 3 == 0
    every = find_pairs(all_chains, descriptors, number, np.ones(number, np.bool_))
    new = find_pairs(all_chains, descriptors, number, is_new, threads=2)
    concerns_new = is_new[every.longer_E] | is_new[every.shorter_E]
    for ours, theirs in zip(new, every, strict=True):
        assert np.array_equal(ours, theirs[concerns_new])
    assert 0 < concerns_new.sum() < len(concerns_new)


def test_descriptors_are_integers_that_ignore_place(chains: tuple[Chains, np.ndarray]) -> None:
    all_chains, descriptors = chains
    begin, end = all_chains.offsets_K1[3:5]
    points, states = all_chains.c_alphas_T3[begin:end], all_chains.states_T[begin:end]
    assert descriptors.shape == (len(all_chains), SIZE) and descriptors.dtype == np.int16
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    moved = describe(points @ turn.T + np.float32(5), states)
    assert np.abs(moved.astype(int) - descriptors[3]).sum() <= 4  # distances on the edge of a bin
    one = describe(np.zeros((1, 3), np.float32), np.zeros(1, np.uint8))
    assert one.shape == (SIZE,)
    assert near(descriptors, 3, 0, len(descriptors), 100).tolist() == [
        row for row, other in enumerate(descriptors)
        if np.abs(other.astype(int) - descriptors[3].astype(int)).sum() <= limit(100)
    ]  # fmt: skip
    assert limit(50) > limit(100) > limit(1000) > 0


def test_forecast_grows_with_the_square() -> None:
    """And above the number of structures of which a part is used; where a tenth is new, pairs of new ones only."""
    few, many = (predict(np.full(number, 250)) for number in (100_000, 1_000_000))
    assert (few.structures, few.new, few.residues) == (100_000, 100_000, 25_000_000)
    assert 90 < many.seconds / few.seconds < 100 and "25,000,000 residues" in few.lines()[0]
    assert many.memory > few.memory and many.driver_memory > few.driver_memory
    most = predict(np.full(10_000_000, 250))
    assert 95 < most.seconds / many.seconds < 101 and most.memory > many.memory
    grown = predict(np.full(10_000, 250), np.full(90_000, 250))
    assert 0.15 < grown.seconds / few.seconds < 0.25 and grown.structures == 100_000
    assert predict(np.empty(0, np.int64)).seconds > 1  # it starts programs
    assert pairs_module.MIN_LENGTH_RATIO == 0.8  # window_end has it as 4 / 5


def test_planned_lengths_are_those_of_shards() -> None:
    plan = [Shard("a-0", 0, 0, 3, 301, 100, 101, 1, "0" * 64), Shard("a-1", 0, 1, 2, 80, 40, 40, 1, "0" * 64)]
    assert lengths_in(plan).tolist() == [101, 100, 100, 40, 40]
    assert lengths_in([]).tolist() == []


@pytest.mark.parametrize("seed", range(5))
def test_slices_hold_each_member_and_centre_once(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a cover, of which some are known already."""
    rng = np.random.default_rng(seed)
    monkeypatch.setattr(alignments, "PAIRS_PER_SHARD", 7)
    edges = np.sort(random_edges(rng, 100, 300).astype(np.int64), axis=1)
    pairs = Pairs(edges[:, 0], edges[:, 1], rng.uniform(0.5, 1, len(edges)).astype(np.float32))
    centres = set_cover(100, edges[:, 0], edges[:, 1]).astype(np.int64)
    found = alignments.member_pairs(centres, pairs)
    expected = sorted(tuple(sorted((member, centre))) for member, centre in enumerate(centres) if member != centre)
    assert list(zip(found.longer_E.tolist(), found.shorter_E.tolist(), strict=True)) == expected
    is_known = rng.random(len(pairs.tm_E)) < (0.0, 0.3, 0.5, 0.9, 1.0)[seed]
    mixed = pairs.select(rng.permutation(np.flatnonzero(is_known)))
    known, unknown = alignments.split_known(found, mixed._replace(tm_E=mixed.tm_E + 1))
    shards = alignments.alignment_shards(np.frombuffer(rng.bytes(1600), dtype="V16"), np.full(100, 50))
    assert len(shards) == 15 and all(alignments.aligns_members(shard) for shard in shards)
    slices = [unknown.select(alignments.slice_of(shard, len(unknown.tm_E))) for shard in shards]
    assert max(len(one.tm_E) for one in slices) <= 7
    tm = alignments.tm_to_centre(centres, [known, *slices])
    score = {(a, b): s + k for a, b, s, k in zip(*(c.tolist() for c in (*pairs, is_known)), strict=True)}
    for member, centre in enumerate(centres.tolist()):
        wanted = 1.0 if member == centre else score[min(member, centre), max(member, centre)]
        assert tm[member] == pytest.approx(wanted)
