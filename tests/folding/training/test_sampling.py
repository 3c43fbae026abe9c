"""Clusters are drawn evenly and held out whole; batches are functions of seed and step; packs waste nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foldatlas.folding.network.tokens import CLS, EOS, encode_language
from foldatlas.folding.training.data import sampling
from foldatlas.folding.training.data.corpus import Corpus, build
from foldatlas.folding.training.data.packing import pack
from foldatlas.schemas.errors import SourceError, UsageError


@pytest.fixture(scope="module")
def corpus(sequences: list[str]) -> Corpus:
    """Clusters of 1, 2, ... members, 24 sequences in all but for the last cluster, which has 3."""
    sizes = (1, 2, 3, 4, 5, 6, 3)
    names = [f"c{cluster}" for cluster, size in enumerate(sizes) for _ in range(size)]
    table = {f"p{number}": name for number, name in enumerate(names)}
    return build(((f"p{number}", sequence) for number, sequence in enumerate(sequences)), cluster_of=table)


def drawn(corpus: Corpus, steps: int, seed: int = 1) -> np.ndarray:
    return np.array(
        [
            example.sequence
            for step in range(steps)
            for example in sampling.batch(corpus, seed=seed, step=step, tokens=4_000, crop=128)
        ]
    )


def chi_square(counts: np.ndarray) -> float:
    return float(((counts - counts.mean()) ** 2 / counts.mean()).sum())


def test_clusters_are_drawn_evenly_and_their_members_too(corpus: Corpus) -> None:
    sequences = drawn(corpus, steps=300)
    cluster_of = np.repeat(np.arange(7), np.diff(corpus.training.starts))
    order = np.argsort(corpus.training.members)
    clusters = cluster_of[order][sequences]
    # the value that one sample of a hundred passes, with 6 and with 5 degrees of freedom
    assert chi_square(np.bincount(clusters)) < 16.8
    assert chi_square(np.bincount(sequences[clusters == 5] - 15)) < 15.1
    assert len(sequences) > 10_000


def test_a_batch_is_a_function_of_seed_and_step(corpus: Corpus) -> None:
    one, again = (sampling.batch(corpus, seed=1, step=9, tokens=900, crop=64) for _ in range(2))
    assert one == again
    assert one != sampling.batch(corpus, seed=2, step=9, tokens=900, crop=64)
    assert one != sampling.batch(corpus, seed=1, step=10, tokens=900, crop=64)
    assert 900 - 64 < sum(example.length for example in one) <= 900
    # a smaller batch of the same step is the start of the larger one, in any process
    fewer = sampling.batch(corpus, seed=1, step=9, tokens=300, crop=64)
    assert fewer == one[: len(fewer)]
    assert len(sampling.batch(corpus, seed=1, step=9, tokens=1, crop=64)) == 1
    masks = [sampling.masked(corpus, one[2], seed=1, step=9)[0] for _ in range(2)]
    assert (masks[0] == masks[1]).all()
    assert (masks[0] != sampling.masked(corpus, one[2]._replace(number=3), seed=1, step=9)[0]).any()


def test_windows_lie_everywhere_and_keep_true_ends_alone() -> None:
    corpus = build([("long", "A" + "C" * 98 + "D")])  # 102 tokens
    full = encode_language(["A" + "C" * 98 + "D"])[0].numpy()
    starts = set()
    for step in range(400):
        (example, *_) = sampling.batch(corpus, seed=3, step=step, tokens=40, crop=40)
        _, tokens, is_asked = sampling.masked(corpus, example, seed=3, step=step)
        assert (tokens == full[example.start : example.start + 40]).all()
        assert (tokens[0] == CLS) == (example.start == 0)
        assert (tokens[-1] == EOS) == (example.start == 62)
        assert not is_asked[(tokens == CLS) | (tokens == EOS)].any()
        starts.add(example.start)
    assert starts == set(range(63))


def test_clusters_are_held_out_whole_and_always_the_same(sequences: list[str]) -> None:
    records = [(f"p{number}", sequence) for number, sequence in enumerate(sequences * 20)]
    table = {name: f"c{number // 3}" for number, (name, _) in enumerate(records)}
    corpus = build(records, cluster_of=table, valid_fraction=0.2)
    assert len(corpus.training) + len(corpus.valid) == 160
    assert 16 <= len(corpus.valid) <= 48
    training, valid = ({table[f"p{member}"] for member in part.members} for part in (corpus.training, corpus.valid))
    assert training.isdisjoint(valid)
    more = build(records[:240], cluster_of=table, valid_fraction=0.2)
    assert {table[f"p{member}"] for member in more.valid.members} == {name for name in valid if int(name[1:]) < 80}
    held_out = sampling.held_out(corpus, max_clusters=10, crop=50)
    assert held_out == sampling.held_out(corpus, max_clusters=10, crop=50)
    assert len({table[f"p{example.sequence}"] for example in held_out}) == 10


def test_named_sequences_take_their_clusters_out(sequences: list[str]) -> None:
    records = [(f"p{number}", sequence) for number, sequence in enumerate(sequences)]
    alone = build([*records, ("again", sequences[0])], valid_records=[("v", sequences[0])])
    assert len(alone.training) == 23 and len(alone.valid) == 1
    table = {f"p{number}": f"c{number // 2}" for number in range(24)}
    corpus = build(records, cluster_of={**table, "v": "c0"}, valid_records=[("v", "MKV"), ("w", "MKL")])
    assert len(corpus.training) == 11 and len(corpus.valid) == 2
    assert corpus.unlisted == 1
    assert corpus.digest() != build(records, cluster_of=table).digest()


def test_sequences_unfit_for_training_are_refused(sequences: list[str]) -> None:
    records = [(f"p{number}", sequence) for number, sequence in enumerate(sequences)]
    with pytest.raises(SourceError, match="none of 24 sequences is in the table of 1 member"):
        build(records, cluster_of={"x": "y"})
    with pytest.raises(SourceError, match="all of 24 clusters would be held out"):
        build(records, valid_records=records)
    with pytest.raises(SourceError, match="no record was accepted, so there is nothing to train on"):
        build([], valid_records=records)
    with pytest.raises(UsageError, match="1,025 tokens does not fit into a pass of 1,024"):
        pack([3, 1_025], 1_024)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 100), max_size=60), st.integers(100, 400), st.integers(1, 5))
def test_packs_hold_everything_once_within_the_budget(lengths: list[int], budget: int, multiple: int) -> None:
    packs = pack(lengths, budget, multiple)
    assert sorted(index for indices in packs for index in indices) == list(range(len(lengths)))
    assert all(sum(lengths[index] for index in indices) <= budget for indices in packs)
    assert len(packs) % multiple == 0
    # no more packs than it takes, but for what the multiple and the largest sequence cost
    assert len(packs) <= -(-sum(lengths) // (budget - max(lengths, default=0) + 1)) + 2 * multiple


def test_processes_have_like_work() -> None:
    lengths = np.random.default_rng(0).lognormal(5.5, 0.6, 500).astype(int).clip(20, 1024).tolist()
    work = [sum(lengths[index] for index in indices) for indices in pack(lengths, 8_192, 4)]
    assert max(work) / min(work) < 1.02
