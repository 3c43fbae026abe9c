"""3Di scores of many pairs at a time, against biotite's Smith-Waterman and our own alignment of single pairs."""

import biotite.sequence as seq
import biotite.sequence.align as align
import numpy as np
import pytest

from foldatlas.folding.compare.kernels.three_di_tables import LETTERS, SUBSTITUTION_SCORES
from foldatlas.folding.compare.state_scan import SATURATED, exact_state_scores, state_scores
from foldatlas.folding.compare.tm_align import Chains


def chains_of(sequences):
    total = sum(map(len, sequences))
    return Chains(
        np.zeros((total, 3), np.float32),
        np.concatenate(sequences),
        np.cumsum([0, *map(len, sequences)]).astype(np.int64),
    )


def theirs(a, b):
    alphabet = seq.LetterAlphabet(LETTERS)
    matrix = align.SubstitutionMatrix(alphabet, alphabet, SUBSTITUTION_SCORES.astype(np.int32))
    sequences = []
    for codes in (a, b):
        made = seq.GeneralSequence(alphabet)
        made.code = codes
        sequences.append(made)
    return align.align_optimal(*sequences, matrix, gap_penalty=(-10, -1), local=True, max_number=1)[0].score


@pytest.fixture(scope="module")
def sequences():
    """150 of 1 to 299 random states; the even ones hold a piece of the first query, so that gaps are worth it."""
    rng = np.random.default_rng(14)
    queries = [rng.integers(0, 20, length).astype(np.uint8) for length in (120, 1, 33, 300)]
    targets = [rng.integers(0, 20, 1 + 2 * k).astype(np.uint8) for k in range(150)]
    for target in targets[60::2]:
        target[5:45], target[50:90] = queries[0][10:50], queries[0][53:93]
    return queries, targets


def test_scores_equal_biotites(sequences):
    """Both widths, up to the greatest number of a byte; 150 chains are two batches and a part of bytes."""
    queries, targets = sequences
    chains = chains_of(targets)
    exact = np.array([exact_state_scores([query], chains)[0] for query in queries])
    assert exact.max() > SATURATED
    some = range(0, 150, 7)
    assert [[exact[q, k] for k in some] for q in range(4)] == [[theirs(q, targets[k]) for k in some] for q in queries]
    assert (state_scores(queries, chains) == np.minimum(exact, SATURATED)).all()


def test_scores_do_not_depend_on_threads_or_company(sequences):
    queries, targets = sequences
    chains = chains_of(targets)
    every = state_scores(queries, chains)
    assert (state_scores(queries, chains, threads=2) == every).all()
    some = np.array([149, 3, 77])
    assert (state_scores(queries[1:3], chains, some) == every[1:3][:, some]).all()
    assert state_scores(queries, chains, np.array([], np.int64)).shape == (4, 0)
    assert state_scores([], chains).shape == (0, 150)
    with pytest.raises(ValueError, match="threads must be 1 or more"):
        state_scores(queries, chains, threads=0)
