"""617 M proteins on 2,000 GPUs that fail, simulated event by event: how far from the ideal each way of handing out
work ends. The shards are those that a plan would make (`pipeline.shards`, with the cost model of esmfold_v1).

python benchmarks/simulate_run.py [--gpus 2000] [--tflops 200] [--seeds 10] [--out benchmarks/results]

The ideal is the work, in seconds of a GPU as it was planned for, over the sum of the GPUs' speeds: no GPU ever fails,
waits, loads a model or commits. The ways of handing out work:

    Dask           as workers come free, in the order in which a run submits shards; the scheduler takes 14 ms for each.
                   A lost shard is handed out again at once.
    a shard ahead  the same with Dask's default: a second shard waits at each busy worker (not stolen: the worst case)
    one size       Dask with ten fine shards put together: what the fine shards at the end are for
    Slurm --part   task K of N GPUs takes part K/N: shards dealt beforehand, each to the part with the least cost
    Slurm ranges   task K takes the K-th of N equal ranges of shard numbers
    ten parts      ten such parts a GPU, begun as GPUs come free
    Slurm guided   ranges that shrink: each is a part of what is left (Polychronopoulos and Kuck 1987)
    Flink          by key: a random key -> one of the key groups -> the subtask that owns that range of groups
                   (KeyGroupRangeAssignment), with as many key groups as Flink chooses, and with the most it can
Where work is assigned beforehand, a lost shard waits for its worker. That Flink restarts only that subtask is its best.
"""

import argparse
import heapq
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt
from machine import hardware

from foldatlas.atlas.forecast.device_rates import measured_rate
from foldatlas.atlas.forecast.output_sizes import default_output_bytes
from foldatlas.folding.config import LanguageModelConfig, from_fair
from foldatlas.pipeline.planning.costs import cost_model
from foldatlas.pipeline.planning.cut import Cut, LengthCount, cut_shards

Floats = npt.NDArray[np.float64]

PROTEINS: Final = 617_000_000
SHORTEST, LONGEST = 30, 1280  # residues; longer ones are refused
MEDIAN_LENGTH, SPREAD = 160.0, 0.75  # log-normal, as in ingest.py
RECYCLES: Final = 3
ESM2_3B: Final = LanguageModelConfig(num_layers=36, width=2560, num_heads=40, transition_width=10240)

SPEED_DEVIATION: Final = 0.05  # of the GPUs' speeds, standard deviation
SLOW_SHARE, SLOW_SPEED = 0.02, 0.7
SHARD_ERROR: Final = 0.10  # of the predicted cost of a shard, standard deviation of its logarithm
LENGTH_BIAS: Final = 0.20  # how much costlier the shards at one end of the list are than at the other, unpredicted
HOURS_BETWEEN_FAILURES: Final = 200.0  # of one worker: ten a hour among 2,000, pre-empted ones included
SECONDS_TO_RETURN: Final = 600.0
SECONDS_TO_LOAD: Final = 90.0  # the model, at each start of a worker
SECONDS_TO_COMMIT: Final = 3.0
DASK_SECONDS_PER_SHARD: Final = 0.014  # measured on two busy cores; one scheduler hands them out one after another
PARTS_PER_GPU: Final = 10
GUIDED_PARTS: Final = 2  # for each GPU, of what is left
GUIDED_SECONDS: Final = 300.0  # the shortest range: loading a model must not count
FLINK_MOST_KEY_GROUPS: Final = 1 << 15


@dataclass
class World:
    """One throw of the dice.

    `work` of each shard in seconds of a planned GPU, `predicted` as the plan has it, `speeds` of the workers (1: as
    planned); `failures`: whether workers fail; `overheads`: whether loading, committing and scheduling take time.
    """

    work: Floats
    predicted: Floats
    speeds: Floats
    random: np.random.Generator
    failures: bool = True
    overheads: bool = True

    @property
    def ideal(self) -> float:
        return float(self.work.sum() / self.speeds.sum())

    def next_failure(self, now: float) -> float:
        """When a worker that starts now is lost."""
        return now + float(self.random.exponential(HOURS_BETWEEN_FAILURES * 3600)) if self.failures else float("inf")

    def seconds(self, shard: int, worker: int) -> float:
        return float(self.work[shard] / self.speeds[worker]) + SECONDS_TO_COMMIT * self.overheads

    @property
    def load(self) -> float:
        return SECONDS_TO_LOAD * self.overheads


class Run(NamedTuple):
    """What a simulated run gave: `makespan` in seconds, how often each shard was committed, what was lost of work in
    seconds of a planned GPU, and the number of failures."""

    makespan: float
    done: npt.NDArray[np.int64]
    lost: float
    failures: int


def as_workers_come_free(
    world: World, tasks: Sequence[Sequence[int]], *, scheduler: float = 0.0, ahead: bool = False, reload: bool = False
) -> Run:
    """Tasks, each some shards in order, handed out in order. `scheduler` seconds for each; `ahead`: each worker holds
    one more task than it works on; `reload`: each task is a process of its own that loads the model."""
    done = np.zeros(len(world.work), np.int64)
    num_workers = len(world.speeds)
    fails = [world.next_failure(0.0) for _ in range(num_workers)]
    free = [(0.0 if reload else world.load, worker) for worker in range(num_workers)]
    heapq.heapify(free)
    lost_tasks: list[tuple[float, int, Sequence[int]]] = []  # when, a number to break ties, what is left of it
    held: dict[int, Sequence[int]] = {}
    following, scheduler_free = 0, 0.0
    lost, failures, makespan = 0.0, 0, 0.0

    def take(now: float) -> Sequence[int] | None:
        nonlocal following
        if lost_tasks and lost_tasks[0][0] <= now:
            return heapq.heappop(lost_tasks)[2]
        if following < len(tasks):
            following += 1
            return tasks[following - 1]
        return None

    while free:
        now, worker = heapq.heappop(free)
        if fails[worker] <= now:  # lost while it waited
            if rest := held.pop(worker, None):
                heapq.heappush(lost_tasks, (now, rest[0], rest))
            back = max(now, fails[worker] + SECONDS_TO_RETURN + world.load * (not reload))
            fails[worker] = world.next_failure(back)
            failures += 1
            heapq.heappush(free, (back, worker))
            continue
        task = held.pop(worker, None) or take(now)
        if task is None:
            if lost_tasks:  # a later failure is certain: this worker will be needed
                heapq.heappush(free, (lost_tasks[0][0], worker))
            continue
        if ahead and (second := take(now)) is not None:
            held[worker] = second
        scheduler_free = now = max(now, scheduler_free) + scheduler * world.overheads
        now += world.load * reload
        for index, shard in enumerate(task):
            end = now + world.seconds(shard, worker)
            if end > fails[worker]:
                lost += max(0.0, fails[worker] - now) * float(world.speeds[worker])
                failures += 1
                for rest in (task[index:], held.pop(worker, ())):
                    if rest:
                        heapq.heappush(lost_tasks, (fails[worker], rest[0], rest))
                now = fails[worker] + SECONDS_TO_RETURN + world.load * (not reload)
                fails[worker] = world.next_failure(now)
                break
            done[shard] += 1
            now = end
            makespan = max(makespan, end)
        heapq.heappush(free, (now, worker))
    return Run(makespan, done, lost, failures)


def beforehand(world: World, owners: npt.NDArray[np.int64]) -> Run:
    """Shard i is worker `owners[i]`'s, and is folded in the order of the list."""
    done = np.zeros(len(world.work), np.int64)
    order = np.argsort(owners, kind="stable")
    bounds = np.searchsorted(owners[order], np.arange(len(world.speeds) + 1))
    lost, failures, makespan = 0.0, 0, 0.0
    for worker in range(len(world.speeds)):
        now, fails = world.load, world.next_failure(0.0)
        for shard in order[bounds[worker] : bounds[worker + 1]].tolist():
            while (end := now + world.seconds(shard, worker)) > fails:
                lost += max(0.0, fails - now) * float(world.speeds[worker])
                failures += 1
                now = fails + SECONDS_TO_RETURN + world.load
                fails = world.next_failure(now)
            done[shard] += 1
            now = end
        makespan = max(makespan, now)
    return Run(makespan, done, lost, failures)


def equal_ranges(num_shards: int, num_workers: int) -> npt.NDArray[np.int64]:
    return np.arange(num_shards) * num_workers // num_shards


def dealt(costs: Floats, num_workers: int) -> npt.NDArray[np.int64]:
    """Each shard to the worker with the least cost so far, as `--part K/N` does."""
    loads = [(0.0, worker) for worker in range(num_workers)]
    owners = np.empty(len(costs), np.int64)
    for shard, cost in enumerate(costs.tolist()):
        load, worker = loads[0]
        heapq.heapreplace(loads, (load + cost, worker))
        owners[shard] = worker
    return owners


def by_key(num_shards: int, num_workers: int, key_groups: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Random keys, hashed to key groups evenly; subtask = group * parallelism // groups (KeyGroupRangeAssignment)."""
    return random.integers(key_groups, size=num_shards) * num_workers // key_groups


def flink_key_groups(num_workers: int) -> int:
    """What Flink chooses (computeDefaultMaxParallelism): half as many again, up to a power of two, 128 to 32,768."""
    wanted = num_workers + num_workers // 2
    return min(max(1 << (wanted - 1).bit_length(), 128), FLINK_MOST_KEY_GROUPS)


def submitted(predicted: Floats, random: np.random.Generator) -> list[int]:
    """The order of `folding_run`: the full-size shards from a random place on, then the fine ones."""
    full_size = np.flatnonzero(predicted >= predicted.max() / 2).tolist()
    start = int(random.integers(len(full_size)))
    fine = np.flatnonzero(predicted < predicted.max() / 2).tolist()
    return [*full_size[start:], *full_size[:start], *fine]


def together(order: Sequence[int], size: int) -> list[Sequence[int]]:
    return [order[at : at + size] for at in range(0, len(order), size)]


def parts(world: World) -> list[Sequence[int]]:
    """PARTS_PER_GPU parts a worker, as `--part K/N` deals them."""
    number = PARTS_PER_GPU * len(world.speeds)
    owners = dealt(world.predicted, number)
    order = np.argsort(owners, kind="stable")
    return [part.tolist() for part in np.split(order, np.cumsum(np.bincount(owners, minlength=number))[:-1])]


def guided_ranges(predicted: Floats, num_workers: int) -> list[Sequence[int]]:
    """Ranges of shard numbers, each of 1 / (GUIDED_PARTS x workers) of the cost that is left when it begins."""
    ends = np.cumsum(predicted)
    ranges: list[Sequence[int]] = []
    first = 0
    while first < len(ends):
        done = float(ends[first - 1]) if first else 0.0
        size = max((float(ends[-1]) - done) / (GUIDED_PARTS * num_workers), GUIDED_SECONDS)
        last = max(first + 1, int(np.searchsorted(ends, done + size, side="right")))
        ranges.append(range(first, last))
        first = last
    return ranges


def one_size(world: World, order: list[int]) -> list[Sequence[int]]:
    """Ten neighbouring fine shards as one task."""
    is_fine = world.predicted < world.predicted.max() / 2
    full_size = [shard for shard in order if not is_fine[shard]]
    return [*together(full_size, 1), *together([shard for shard in order if is_fine[shard]], 10)]


WAYS: Final[dict[str, Callable[[World, list[int]], Run]]] = {
    "Dask": lambda world, order: as_workers_come_free(world, together(order, 1), scheduler=DASK_SECONDS_PER_SHARD),
    "Dask, a shard ahead": lambda world, order: as_workers_come_free(
        world, together(order, 1), scheduler=DASK_SECONDS_PER_SHARD, ahead=True
    ),
    "Dask, one size": lambda world, order: as_workers_come_free(
        world, one_size(world, order), scheduler=DASK_SECONDS_PER_SHARD
    ),
    "Slurm, --part K/N": lambda world, order: beforehand(world, dealt(world.predicted, len(world.speeds))),
    "Slurm, equal ranges": lambda world, order: beforehand(world, equal_ranges(len(world.work), len(world.speeds))),
    "Slurm, ten parts a GPU": lambda world, order: as_workers_come_free(world, parts(world), reload=True),
    "Slurm, guided ranges": lambda world, order: as_workers_come_free(
        world, guided_ranges(world.predicted, len(world.speeds)), reload=True
    ),
    "Flink": lambda world, order: beforehand(
        world, by_key(len(world.work), len(world.speeds), flink_key_groups(len(world.speeds)), world.random)
    ),
    "Flink, 32,768 key groups": lambda world, order: beforehand(
        world, by_key(len(world.work), len(world.speeds), FLINK_MOST_KEY_GROUPS, world.random)
    ),
}


def histogram() -> list[LengthCount]:
    """PROTEINS proteins by length, longest first."""
    lengths = np.arange(SHORTEST, LONGEST + 1)
    density = np.exp(-((np.log(lengths / MEDIAN_LENGTH) / SPREAD) ** 2) / 2) / lengths
    ends = np.rint(np.cumsum(density) / density.sum() * PROTEINS).astype(np.int64)
    counts = np.diff(ends, prepend=0)
    return [LengthCount(int(length), int(count)) for length, count in zip(lengths[::-1], counts[::-1], strict=True)]


def plan(tflops: float) -> list[Cut]:
    config = from_fair({"model": {}}, ESM2_3B, "esmfold_v1")
    default = measured_rate("cuda", [], {})  # nothing is measured yet
    costs = cost_model(config, RECYCLES, default, default_output_bytes(ESM2_3B.width))
    return cut_shards(histogram(), costs.mflop, costs.output_bytes, tflops * 1e6)


def throw(predicted: Floats, gpus: int, seed: int, *, slow_share: float = SLOW_SHARE) -> World:
    random = np.random.default_rng(seed)
    speeds = np.clip(random.normal(1, SPEED_DEVIATION, gpus), 0.5, 1.5)
    speeds[random.random(gpus) < slow_share] *= SLOW_SPEED
    bias = 1 + LENGTH_BIAS * random.choice([-1, 1]) * np.linspace(-0.5, 0.5, len(predicted))
    work = predicted * bias * np.exp(random.normal(0, SHARD_ERROR, len(predicted)))
    return World(work, predicted, speeds, random)


def check(predicted: Floats, gpus: int) -> None:
    """Without failures, errors and overheads each way must give what can be proved of it."""
    for speeds in (np.ones(gpus), throw(predicted, gpus, 0).speeds):
        world = World(predicted, predicted, speeds, np.random.default_rng(0), failures=False, overheads=False)
        order = submitted(predicted, world.random)
        for name, way in WAYS.items():
            run = way(world, order)
            assert (run.done == 1).all() and run.failures == 0 and run.lost == 0, name
            assert run.makespan >= world.ideal * (1 - 1e-9), name
        # Graham 1969: a list schedule ends within one task of the ideal
        assert WAYS["Dask"](world, order).makespan <= world.ideal + float(predicted.max() / speeds.min())
    loads = np.bincount(dealt(predicted, gpus), weights=predicted, minlength=gpus)
    assert loads.max() <= loads.mean() + predicted.max()
    assert flink_key_groups(2000) == 4096 and flink_key_groups(10) == 128


def simulate(predicted: Floats, gpus: int, seeds: int, slow_share: float = SLOW_SHARE) -> dict[str, list[Run]]:
    """Runs of each way, with the makespan over the ideal in place of seconds."""
    runs: dict[str, list[Run]] = {name: [] for name in WAYS}
    for seed in range(seeds):
        for name, way in WAYS.items():
            world = throw(predicted, gpus, seed, slow_share=slow_share)  # the same dice for all
            run = way(world, submitted(predicted, world.random))
            assert (run.done == 1).all(), "each shard is committed once"
            runs[name].append(run._replace(makespan=run.makespan / world.ideal))
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=2000)
    parser.add_argument("--tflops", type=float, default=200.0, help="of a GPU, as planned")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="folder for simulate_run.md and .json")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    cuts = plan(arguments.tflops)
    predicted = np.array([cut.cost for cut in cuts], np.float64) / (arguments.tflops * 1e6)
    check(predicted, arguments.gpus)
    runs = simulate(predicted, arguments.gpus, arguments.seeds)
    alike = simulate(predicted, arguments.gpus, arguments.seeds, slow_share=0.0)
    num_fine = int((predicted < predicted.max() / 2).sum())
    ideal = predicted.sum() / arguments.gpus / 3600
    facts = {
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware(),
        "gpus": arguments.gpus,
        "tflops": arguments.tflops,
        "seeds": arguments.seeds,
        "full_size_shards": len(cuts) - num_fine,
        "fine_shards": num_fine,
        "longest_shard_seconds": float(predicted.max()),
        "ideal_hours": float(ideal),
        "over_the_ideal_percent": {
            name: {
                "mean": round(100 * float(np.mean([run.makespan for run in found])) - 100, 2),
                "mean_without_slow": round(100 * float(np.mean([run.makespan for run in alike[name]])) - 100, 2),
                "worst": round(100 * max(run.makespan for run in found) - 100, 2),
                "failures": round(float(np.mean([run.failures for run in found]))),
                "lost": round(100 * float(np.mean([run.lost for run in found])) / predicted.sum(), 2),
            }
            for name, found in runs.items()
        },
    }
    text = table(facts)
    print(text)
    print(f"{time.perf_counter() - begun:.0f} s")
    if arguments.out:
        (arguments.out / "simulate_run.md").write_text(text, encoding="utf-8")
        (arguments.out / "simulate_run.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


def table(facts: dict[str, object]) -> str:
    rows = facts["over_the_ideal_percent"]
    assert isinstance(rows, dict)
    lines = [
        "# A run of 617 M proteins, simulated",
        "",
        f"`benchmarks/simulate_run.py`, {facts['date']}, {facts['hardware']}. {facts['gpus']:,} GPUs of "
        f"{facts['tflops']:g} TFLOP/s, esmfold_v1: {facts['full_size_shards']:,} full-size shards of up to "
        f"{facts['longest_shard_seconds']:,.0f} s and {facts['fine_shards']:,} fine ones; {facts['ideal_hours']:.1f} h "
        f"if nothing is lost. Speeds +-{SPEED_DEVIATION:.0%}, {SLOW_SHARE:.0%} of the GPUs at {SLOW_SPEED:.0%}; a "
        f"worker is lost every {HOURS_BETWEEN_FAILURES:g} h and returns after {SECONDS_TO_RETURN / 60:g} min; a "
        f"shard's time is off by {SHARD_ERROR:.0%}, and by {LENGTH_BIAS:.0%} from the longest proteins to the "
        f"shortest; loading {SECONDS_TO_LOAD:g} s, a commit {SECONDS_TO_COMMIT:g} s.",
        "",
        f"| work is handed out | over the ideal, mean | worst of {facts['seeds']} | mean without slow GPUs "
        "| workers lost | work lost |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['mean']:.1f} % | {row['worst']:.1f} % | {row['mean_without_slow']:.1f} % "
            f"| {row['failures']:,} | {row['lost']:.2f} % |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
