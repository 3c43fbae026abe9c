"""Two batches in flight: order, faults and deadlines, with the supervisor's own code on a device of virtual time."""

import random
import time
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from simulated_device import Fault, SimulatedDevice, made_up

from foldatlas.folding.planning.batching import BATCH_MFLOP, cut_into_batches, padded_length
from foldatlas.folding.planning.cost import mflop
from foldatlas.folding.training.recipes import ESMFOLD_V1
from foldatlas.pipeline import interruption
from foldatlas.pipeline.shards import batches as batches_module
from foldatlas.pipeline.shards import in_flight
from foldatlas.pipeline.shards.batches import fold_in_batches
from foldatlas.pipeline.shards.bisection import Failed
from foldatlas.pipeline.shards.in_flight import Work, compute_in_order
from foldatlas.pipeline.shards.task import FoldOptions
from foldatlas.pipeline.workers.supervisor import MAX_IN_FLIGHT, Child, WorkerSpec
from foldatlas.schemas.errors import Interrupted

# An H200 by the bound of its arithmetic, bf16, as MFLOP per second.
H200_MFLOP_PER_SECOND = 790_000_000.0

WORK = Work(cost=lambda batch: 100 * len(batch), memory=lambda batch: sum(map(len, batch)), arguments={})


def name(number: int) -> str:
    """A sequence for a number: distinct, and of residues alone."""
    return "M" + "".join("ACGHIKLMPQ"[int(digit)] for digit in str(number))


def run(child: Child, batches: Sequence[list[str]], work: Work = WORK) -> list[Any]:
    with child.session() as device:
        found = list(compute_in_order(device, batches, work))
    return [result for _, results in found for result in results]


def failed(results: Sequence[Any]) -> dict[str, Failed]:
    return {result.sequence: result for result in results if isinstance(result, Failed)}


def check_order(results: Sequence[Any], batches: Sequence[list[str]]) -> None:
    """Each protein has its result, and no other's."""
    expected = [sequence for batch in batches for sequence in batch]
    assert [result.sequence for result in results] == expected
    for result in results:
        if not isinstance(result, Failed):
            assert result.ptm == made_up(result.sequence).ptm


def batches_of(sizes: Sequence[int]) -> list[list[str]]:
    numbers = iter(range(1000))
    return [[name(next(numbers)) for _ in range(size)] for size in sizes]


def test_next_batch_waits_in_the_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parent needs half a batch's time to send one: serially that would be 15 s."""
    device, batches = SimulatedDevice(send_seconds=0.5), batches_of([2] * 10)
    results = run(device.child(monkeypatch), batches)
    check_order(results, batches)
    assert device.most_in_flight == MAX_IN_FLIGHT == 2
    assert (device.busy_seconds, device.now) == (10.0, 10.5)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8),
    poison=st.dictionaries(
        st.integers(0, 40), st.sampled_from(["dies", "hangs", "not finite", "unexpected"]), max_size=4
    ),
    collect=st.sampled_from([0.0, 0.5]),
    kind=st.sampled_from(["cpu", "cuda"]),
)
def test_only_poison_proteins_fail(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], poison: dict[int, Fault], collect: float, kind: str
) -> None:
    """Whatever is in flight beside them: with `collect` a crash also loses the results of the batch before."""
    batches = batches_of(sizes)
    guilty = {name(number): fault for number, fault in poison.items() if number < sum(sizes)}

    def fault(batch: Sequence[str], is_fresh: bool) -> Fault | None:
        return next((guilty[sequence] for sequence in batch if sequence in guilty), None)

    device = SimulatedDevice(fault=fault, collect_seconds=collect)
    results = run(device.child(monkeypatch, kind), batches)
    check_order(results, batches)
    assert failed(results).keys() == guilty.keys()
    assert device.most_in_flight <= MAX_IN_FLIGHT


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    kills=st.sets(st.integers(0, 30)),
    collect=st.sampled_from([0.0, 0.5]),
)
def test_kills_from_outside_fail_no_protein(
    monkeypatch: pytest.MonkeyPatch, sizes: list[int], kills: set[int], collect: float
) -> None:
    """Unless they come two in a row, in which case the second is taken for the protein's fault."""
    batches, tries = batches_of(sizes), iter(range(1000))

    def fault(batch: Sequence[str], is_fresh: bool) -> Fault | None:
        number = next(tries)
        return "dies" if number in kills and not kills & {number - 1, number - 2} else None

    results = run(SimulatedDevice(fault=fault, collect_seconds=collect).child(monkeypatch), batches)
    check_order(results, batches)
    assert failed(results) == {}


def test_death_blames_no_batch_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second of three crashes its process while the first's results are on their way and the third waits."""
    (first,), (second,), (third,) = batches = batches_of([1, 1, 1])
    deaths = iter(["dies", "dies"])

    def fault(batch: Sequence[str], is_fresh: bool) -> Any:
        return next(deaths, None) if batch == [second] else None

    device = SimulatedDevice(fault=fault, collect_seconds=0.5)
    results = run(device.child(monkeypatch), batches)
    check_order(results, batches)
    # 1. both are lost, the first is tried alone; 2. the second dies with the third behind it; 3. it folds, alone.
    assert device.computed == [[first], [second], [first], [second], [second], [third]]
    assert failed(results) == {}
    assert device.processes == 3


def test_a_poison_protein_has_its_tries_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = batches_of([1, 1, 1])
    poison = batches[0][0]
    device = SimulatedDevice(fault=lambda batch, is_fresh: "dies" if poison in batch else None)
    results = run(device.child(monkeypatch), batches)
    assert failed(results) == {poison: Failed(poison, "the child process ended with exit code 3", 2)}
    assert device.computed == [[poison], [poison], batches[1], batches[2]]  # nothing is sent after the first has died


def test_deadline_begins_with_the_answer_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes 30 s of 35 s allowed, and one behind it that hangs: its
    time begins with the first one's answer, not when it was sent."""
    _, (stuck,) = batches = batches_of([1, 1])
    device = SimulatedDevice(lambda _: 30.0, lambda batch, _: "hangs" if batch == [stuck] else None)
    child = device.child(monkeypatch, min_deadline_seconds=35.0, mflop_per_second=1e9)
    times, results = [], []
    with child.session() as session:
        for _, found in compute_in_order(session, batches, WORK):
            times.append(round(device.now))
            results += found
    assert failed(results) == {stuck: Failed(stuck, "no answer within 335 s", 2)}
    # 100 MFLOP took 30 s: ten times as long is allowed, beside the 35 s, and once more when it is tried alone
    assert times[0] == 30
    assert times[1] >= 30 + 2 * 335


def test_answers_of_a_session_that_ended_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard whose writing fails leaves two batches in its child: the next shard gets its own results, in time."""
    batches = batches_of([1, 1, 1, 1])
    device = SimulatedDevice(lambda _: 20.0)
    child = device.child(monkeypatch, min_deadline_seconds=25.0, mflop_per_second=1e9)
    with pytest.raises(OSError), child.session() as session:
        for _ in compute_in_order(session, batches[:3], WORK):
            raise OSError("disk full")
    assert device.computed == batches[:3]
    check_order(run(child, batches[3:]), batches[3:])
    assert device.processes == 1


def test_gpu_error_of_an_abandoned_batch_ends_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = batches_of([1, 1, 1])
    device = SimulatedDevice(fault=lambda batch, _: "unexpected" if batch == batches[1] else None)
    child = device.child(monkeypatch, "cuda")
    with child.session() as session:
        next(compute_in_order(session, batches[:2], WORK))
        assert session.in_flight == 1
    results = run(child, batches[2:])
    assert failed(results) == {}
    assert device.processes == 2


def test_batch_that_does_not_fit_lowers_the_next_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four proteins fit into a fresh process and never eight: one new process, for all batches of the shard."""
    batches = batches_of([8, 8, 8])
    device = SimulatedDevice(fault=lambda batch, _: "does not fit" if len(batch) > 4 else None)
    child = device.child(monkeypatch, "cuda")
    work = Work(WORK.cost, lambda batch: len(batch), {})
    results = run(child, batches, work)
    check_order(results, batches)
    assert failed(results) == {}
    assert device.processes == 1  # it had computed nothing when the first did not fit
    assert child.too_large_bytes == 8
    # the second was in flight when the first did not fit
    assert [len(batch) for batch in device.computed] == [8, 8, 4, 4, 4, 4, 4, 4]
    device.computed.clear()
    check_order(run(child, batches, work), batches)
    assert [len(batch) for batch in device.computed] == [4] * 6


def test_stop_ends_the_child_and_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    device, batches = SimulatedDevice(), batches_of([1, 1, 1])
    child = device.child(monkeypatch)
    try:
        with pytest.raises(Interrupted), child.session() as session:
            for _ in compute_in_order(session, batches, WORK):
                interruption.request_stop()
        assert device.computed == batches
    finally:
        interruption.reset()
    check_order(run(child, batches), batches)


def test_results_in_memory_are_few(monkeypatch: pytest.MonkeyPatch, worker: WorkerSpec) -> None:
    """With a reader that stands still: one batch that is read, one that waits for it, one that waits for a place, and
    two in the child."""
    device = SimulatedDevice()
    child = device.child(monkeypatch)
    monkeypatch.setattr(batches_module, "child_of_this_process", lambda _: child)
    options = FoldOptions("", worker, (), "run", "host", batch_mflop=1, memory_bytes=1)  # one protein a batch
    sequences = [name(number) for number in range(100, 120)]
    with closing(fold_in_batches(sequences, (), options)) as results:
        for read in range(1, 11):
            next(results)
            while len(device.computed) < read + 4:  # as far as the thread gets
                time.sleep(0.001)
            assert len(device.computed) == read + 4
    assert len(device.computed) <= 10 + 5  # closing lets it take one more step


def metagenomic_lengths(count: int) -> list[int]:
    draw = random.Random(0)
    drawn = (round(draw.gammavariate(2, 100)) for _ in range(10 * count))
    return sorted([length for length in drawn if 16 <= length <= 1024][:count])


@pytest.mark.parametrize(("in_flight_batches", "least", "most"), [(2, 0.98, 1.0), (1, 0.0, 0.75)])
def test_device_is_busy_for_a_whole_shard(
    monkeypatch: pytest.MonkeyPatch, in_flight_batches: int, least: float, most: float
) -> None:
    """A minute of an H200 at its bound, with 50 ms from a batch's answer to the next one sent, far more than measured.
    One batch at a time would leave the device idle."""
    lengths = metagenomic_lengths(1500)
    padded = padded_length("cuda")

    def cost(batch: Sequence[str]) -> int:
        return len(batch) * mflop(ESMFOLD_V1, padded(max(map(len, batch))), 3)

    ranges = cut_into_batches(
        lengths, config=ESMFOLD_V1, recycles=3, budget_mflop=BATCH_MFLOP["cuda"], memory_limit=70 << 30,
        precision="bf16", padded=padded,
    )  # fmt: skip
    batches = [["M" * lengths[index] for index in batch] for batch in ranges]
    device = SimulatedDevice(lambda batch: cost(batch) / H200_MFLOP_PER_SECOND, send_seconds=0.05)
    monkeypatch.setattr(in_flight, "MAX_IN_FLIGHT", in_flight_batches)
    with device.child(monkeypatch, "cuda").session() as session:
        folded = sum(len(results) for _, results in compute_in_order(session, batches, Work(cost, lambda _: 0, {})))
    assert folded == len(lengths)
    assert 20.0 < device.busy_seconds < 120.0
    assert least <= device.busy_seconds / device.now <= most
