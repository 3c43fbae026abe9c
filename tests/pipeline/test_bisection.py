"""Bisection of a failing batch: only the poison proteins fail, within a bounded number of tries."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.folding.prediction import Prediction
from foldatlas.pipeline.shards.bisection import Failed, fold_with_bisection
from foldatlas.pipeline.workers.supervisor import BatchError
from foldatlas.schemas.errors import Interrupted, OutOfMemory, WorkerDied, WorkerTimeout


def prediction(sequence: str) -> Prediction:
    empty = np.zeros(0, np.float32)
    return Prediction(sequence, empty, empty, 0.0, None)


@given(
    size=st.integers(1, 20),
    poison=st.sets(st.integers(0, 19)),
    error=st.sampled_from([WorkerDied, WorkerTimeout, OutOfMemory, BatchError]),
)
def test_only_poison_proteins_fail(size: int, poison: set[int], error: type[Exception]) -> None:
    batch = [f"P{number}" for number in range(size)]
    guilty = {f"P{number}" for number in poison if number < size}

    def fold(sequences: list[str]) -> list[Prediction]:
        if guilty.intersection(sequences):
            raise error("boom")
        return [prediction(sequence) for sequence in sequences]

    results = fold_with_bisection(fold, batch)
    assert [result.sequence for result in results] == batch
    assert {result.sequence for result in results if isinstance(result, Failed)} == guilty


def test_kill_from_outside_costs_one_more_try() -> None:
    calls: list[list[str]] = []

    def fold(sequences: list[str]) -> list[Prediction]:
        calls.append(sequences)
        if len(calls) == 1:
            raise WorkerDied("killed by SIGKILL")
        return [prediction(sequence) for sequence in sequences]

    results = fold_with_bisection(fold, ["A", "B", "C"])
    assert not any(isinstance(result, Failed) for result in results)
    assert calls == [["A", "B", "C"]] * 2  # the same batch, so the same numbers


@given(size=st.integers(1, 20), poison=st.sets(st.integers(0, 19)), kills=st.sets(st.integers(0, 99)))
def test_kills_from_outside_fail_no_protein(size: int, poison: set[int], kills: set[int]) -> None:
    """Other causes may kill processes meanwhile, but not two in a row."""
    batch = [f"P{number}" for number in range(size)]
    guilty = {f"P{number}" for number in poison if number < size}
    calls = 0

    def fold(sequences: list[str]) -> list[Prediction]:
        nonlocal calls
        calls += 1
        if guilty.intersection(sequences) or (calls in kills and calls - 1 not in kills):
            raise WorkerDied("killed")
        return [prediction(sequence) for sequence in sequences]

    results = fold_with_bisection(fold, batch)
    assert [result.sequence for result in results] == batch
    assert {result.sequence for result in results if isinstance(result, Failed)} == guilty


@given(size=st.integers(1, 300), place=st.integers(0, 299), error=st.sampled_from([WorkerDied, WorkerTimeout]))
def test_cost_of_one_poison_protein_is_bounded(size: int, place: int, error: type[Exception]) -> None:
    batch, guilty, deaths = [f"P{number}" for number in range(size)], f"P{place % size}", 0

    def fold(sequences: list[str]) -> list[Prediction]:
        nonlocal deaths
        if guilty in sequences:
            deaths += 1
            raise error("dead")
        return [prediction(sequence) for sequence in sequences]

    (failed,) = [result for result in fold_with_bisection(fold, batch) if isinstance(result, Failed)]
    assert failed == Failed(guilty, "dead", deaths)
    levels = math.ceil(math.log2(size))
    assert 2 <= deaths <= levels + (3 if error is WorkerDied and size > 1 else 2)


def test_single_poison_protein_is_tried_twice() -> None:
    """A protein that kills its worker is tried twice; one that exceeds the memory once."""

    def die(_: list[str]) -> list[Prediction]:
        raise WorkerDied("segmentation fault")

    def overflow(_: list[str]) -> list[Prediction]:
        raise OutOfMemory("1,840 residues do not fit")

    assert fold_with_bisection(die, ["A"]) == [Failed("A", "segmentation fault", 2)]
    assert fold_with_bisection(overflow, ["A"]) == [Failed("A", "1,840 residues do not fit", 1)]


def test_request_to_stop_is_not_a_failure() -> None:
    def stop(_: list[str]) -> list[Prediction]:
        raise Interrupted("stopped on request")

    with pytest.raises(Interrupted):
        fold_with_bisection(stop, ["A", "B"])


def test_halves_have_one_try_a_level_and_a_protein_alone_two() -> None:
    calls: list[str] = []

    def die(sequences: list[str]) -> list[Prediction]:
        calls.append("".join(sequences))
        if "D" in sequences:
            raise WorkerDied("dead")
        return [prediction(sequence) for sequence in sequences]

    results = fold_with_bisection(die, ["A", "B", "C", "D"])
    assert calls == ["ABCD", "ABCD", "AB", "CD", "C", "D", "D"]
    assert results[3] == Failed("D", "dead", 5)


def test_a_batch_that_does_not_fit_gets_one_fresh_process() -> None:
    """An old process holds memory that a fresh one has; what does not fit there either is halved."""
    held, calls, renewals = 3, [], 0

    def fold(sequences: list[str]) -> list[Prediction]:
        calls.append("".join(sequences))
        if held + len(sequences) > 3:
            raise OutOfMemory("does not fit")
        return [prediction(sequence) for sequence in sequences]

    def renew() -> bool:
        nonlocal held, renewals
        renewals += held > 0
        fresh, held = held == 0, 0
        return not fresh

    results = fold_with_bisection(fold, ["A", "B", "C", "D"], renew=renew)
    assert not any(isinstance(result, Failed) for result in results)
    assert (calls, renewals) == (["ABCD", "ABCD", "AB", "CD"], 1)


def test_a_protein_too_large_for_a_fresh_process_fails() -> None:
    def fold(_: list[str]) -> list[Prediction]:
        raise OutOfMemory("does not fit")

    answers = iter([True, False])
    assert fold_with_bisection(fold, ["A"], renew=lambda: next(answers)) == [Failed("A", "does not fit", 2)]
    assert fold_with_bisection(fold, ["B"], renew=lambda: next(answers)) == [Failed("B", "does not fit", 1)]
