"""Several runs share a plan: each shard is in one part, parts cost alike, and together they are the whole."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.cut import LengthCount, cut_shards
from foldatlas.pipeline.planning.planner import Planned, make_plan, plans_of
from foldatlas.pipeline.planning.selection import Part, ShardNumbers, chosen
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import UsageError
from foldatlas.schemas.manifest import Plan, Shard


def plan_of(costs: list[int], name: str = "p") -> Plan:
    shards = [Shard(f"{name}-{n:05d}", 0, n, 1, 1, 1, 1, cost, "") for n, cost in enumerate(costs)]
    return Plan(1, name, "", 1280, (), {}, len(costs), len(costs), sum(costs), (), (), tuple(shards))


def numbers(shards: list[Shard]) -> list[int]:
    return [shard.row_group for shard in shards]


def test_more_parts_than_shards_cost_nothing() -> None:
    """A place for each of so many parts would take 100 GB."""
    plan = plan_of([5, 4, 3])
    found = {k: numbers(Part.parse(f"{k}/999999999").of([plan])) for k in (1, 2, 3, 4, 999_999_999)}
    assert found == {1: [0], 2: [1], 3: [2], 4: [], 999_999_999: []}


@pytest.mark.parametrize(
    ("text", "expected"), [("0", [0]), ("2-4", [2, 3, 4]), ("4,0-1", [0, 1, 4]), ("0-3,2-5", [0, 1, 2, 3, 4, 5])]
)
def test_numbers_and_ranges(text: str, expected: list[int]) -> None:
    assert numbers(ShardNumbers.parse(text).of([plan_of([1] * 6)])) == expected


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "neither"), ("a", "neither"), ("1-", "neither"), ("-1", "neither"), ("1,,2", "neither"), ("3-1", "1-3"),
     ("1.5", "neither"), ("9" * 12, "neither")],
)  # fmt: skip
def test_invalid_range_is_refused(text: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        chosen(text, None)


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "1/0", "a/b", "1/2/3", "-1/4", ""])
def test_invalid_part_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="K from 1 to N"):
        chosen(None, text)


def test_one_way_of_choosing_is_enough() -> None:
    assert chosen(None, None) is None
    with pytest.raises(UsageError, match="one of them"):
        chosen("0", "1/2")


def test_a_range_outside_of_the_plan_names_the_plan_s_shards() -> None:
    with pytest.raises(UsageError, match="3-6 is outside of plan p, which has shards 0 to 5"):
        ShardNumbers.parse("3-6").of([plan_of([1] * 6)])
    with pytest.raises(UsageError, match="no shards"):
        ShardNumbers.parse("0").of([plan_of([])])


def test_numbers_of_several_plans_are_refused() -> None:
    with pytest.raises(UsageError, match=r"2 plans \(p, q\).*--part"):
        ShardNumbers.parse("0").of([plan_of([1], "p"), plan_of([1], "q")])


@given(costs=st.lists(st.integers(1, 1000), max_size=60), total=st.integers(1, 20))
def test_each_shard_is_in_one_part(costs: list[int], total: int) -> None:
    plans = [plan_of(costs, "p"), plan_of(costs[:7], "q")]
    parts = [Part(number, total).of(plans) for number in range(1, total + 1)]
    together = sorted(shard.name for part in parts for shard in part)
    assert together == sorted(shard.name for plan in plans for shard in plan.shards)
    loads = [sum(shard.cost for shard in part) for part in parts]
    assert max(loads) - min(loads) <= max([*costs, 0])


@pytest.mark.parametrize("total", [2, 7, 16, 100])
def test_parts_of_a_metagenome_s_plan_cost_alike(total: int) -> None:
    """Within 1 %, where equal ranges of numbers differ many times over: the last shards are the fine ones."""
    draw = random.Random(5)
    counts: dict[int, int] = {}
    for _ in range(200_000):
        length = max(30, min(1280, round(draw.lognormvariate(5.3, 0.6))))
        counts[length] = counts.get(length, 0) + 1
    histogram = [LengthCount(length, counts[length]) for length in sorted(counts, reverse=True)]
    cuts = cut_shards(histogram, lambda length: length * length, lambda length: 34 * length, 1e4)
    plan = plan_of([cut.cost for cut in cuts])
    loads = [sum(shard.cost for shard in Part(number, total).of([plan])) for number in range(1, total + 1)]
    mean = sum(loads) / total
    assert max(loads) / mean < 1.01 and min(loads) / mean > 0.97
    size = len(cuts) // total
    ranges = [sum(cut.cost for cut in cuts[n * size : (n + 1) * size]) for n in range(total)]
    assert max(ranges) / mean > 1.6


@pytest.fixture
def fold(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel, write_fasta: Callable[..., str]
) -> Callable[..., tuple[AtlasFolder, Planned]]:
    def fold(sequences: list[str], choice: Part | ShardNumbers | None) -> tuple[AtlasFolder, Planned]:
        folder = AtlasFolder(tmp_path / "atlas")
        planned = make_plan([write_fasta(sequences)], folder, worker.settings, costs, max_length=1280)
        named = plans_of(planned, folder.plans(), 1280)
        names = None if choice is None else {shard.name for shard in choice.of(named)}
        fold_atlas(folder, worker, show_progress=False, shards=names)
        return folder, planned

    return fold


def test_a_part_folds_its_shards_and_no_other(
    fold: Callable[..., tuple[AtlasFolder, Planned]], proteins: list[str]
) -> None:
    folder, planned = fold(proteins, ShardNumbers.parse("0,3-4"))
    assert planned.plan is not None
    assert sorted(folder.entries()) == [planned.plan.shards[number].name for number in (0, 3, 4)]
    folder, again = fold(proteins, Part(1, 2))  # the file is known now
    assert again.plan is None
    first = {shard.name for shard in Part(1, 2).of([planned.plan])}
    assert set(folder.entries()) == first | {planned.plan.shards[number].name for number in (0, 3, 4)}
    fold(proteins, None)
    assert len(folder.entries()) == len(planned.plan.shards)


def test_the_plans_of_the_files_named(
    tmp_path: Path, worker: WorkerSpec, costs: CostModel, write_fasta: Callable[..., str], proteins: list[str]
) -> None:
    folder = AtlasFolder(tmp_path / "atlas")
    one, two = write_fasta(proteins[:30], "1.fasta"), write_fasta(proteins[30:], "2.fasta")

    def plan(*names: str, max_length: int = 1280) -> list[str]:
        planned = make_plan(names, folder, worker.settings, costs, max_length=max_length)
        return [found.name for found in plans_of(planned, folder.plans(), max_length)]

    (first,) = plan(one)
    both = plan(one, two)
    assert both[0] == first and len(both) == 2
    assert plan(two) == [both[1]]
    assert plan(one) == [first]
    assert plan(one, max_length=600) == [first]
    (wider,) = plan(one, max_length=2000)
    assert wider not in both
    assert plan(one, max_length=2000) == [wider]
