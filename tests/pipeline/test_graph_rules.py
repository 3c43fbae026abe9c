"""Our graph has the one shape that every engine gets right; any other is seen."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.transforms.userstate import CombiningValueStateSpec
from graph_rules import GraphError, check_graph

from foldatlas.pipeline.engines.graph import build


class Plain(beam.DoFn):
    def process(self, element: Any) -> Iterator[Any]:
        yield element


class Finishing(Plain):
    def finish_bundle(self) -> Iterator[Any]:
        yield beam.utils.windowed_value.WindowedValue("last", 0, [beam.transforms.window.GlobalWindow()])


class Batches(Plain):
    def process_batch(self, batch: list[int]) -> Iterator[list[int]]:
        yield batch


class Counting(beam.DoFn):
    COUNT = beam.DoFn.StateParam(CombiningValueStateSpec("count", sum))

    def process(self, element: Any, count: Any = COUNT) -> Iterator[Any]:
        count.add(1)
        yield element


def spread(pipeline: beam.Pipeline) -> beam.PCollection:
    return pipeline | beam.Create([1, 2, 3], reshuffle=False) | beam.Reshuffle()


def two_leaves(pipeline: beam.Pipeline) -> None:
    source = spread(pipeline)
    _ = source | "one" >> beam.ParDo(Plain())
    _ = source | "other" >> beam.ParDo(Plain())


WRONG: dict[str, tuple[Callable[[beam.Pipeline], Any], str]] = {
    "no shuffle": (lambda p: p | beam.Create([1], reshuffle=False) | beam.ParDo(Plain()), "it is Create | ParDo"),
    "a second step": (lambda p: spread(p) | beam.ParDo(Plain()) | "more" >> beam.ParDo(Plain()), "ParDo | ParDo"),
    "a map": (lambda p: spread(p) | beam.Map(str) | beam.GroupBy(len), "it is Create | Reshuffle"),
    "nothing": (lambda p: None, "it is empty"),
    "two leaves": (two_leaves, "is read twice: of two leaves one is lost"),
    "two graphs": (lambda p: (spread(p), p | "again" >> beam.Create([1])), "it is Create | Reshuffle | Create"),
    "finish_bundle": (lambda p: spread(p) | beam.ParDo(Finishing()), "has finish_bundle"),
    "batches": (lambda p: spread(p) | beam.ParDo(Batches()).with_output_types(int), "works on batches"),
    "state": (lambda p: p | beam.Create([(1, 2)]) | beam.Reshuffle() | beam.ParDo(Counting()), "keeps state"),
    "tagged outputs": (lambda p: spread(p) | beam.ParDo(Plain()).with_outputs("x", main="y"), "has tagged outputs"),
    "a side input": (
        lambda p: spread(p) | beam.Map(lambda x, y: x, y=beam.pvalue.AsList(p | "side" >> beam.Create([1]))),
        "has a side input",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_shape_is_refused_with_the_reason(name: str) -> None:
    make, reason = WRONG[name]
    pipeline = beam.Pipeline(runner="FnApiRunner")
    make(pipeline)
    with pytest.raises(GraphError, match=reason.replace("|", r"\|")):
        check_graph(pipeline)


def test_our_own_graph_passes() -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    build(pipeline, "label", [1, 2], print)
    check_graph(pipeline)


@pytest.fixture
def on_dask(tmp_path: Path) -> Iterator[Callable[[Callable[[beam.PCollection, Any], Any]], set[str]]]:
    """Runs steps on the numbers 1 to 5 by Beam's DaskRunner, on a worker in this process; gives the names of the files
    that the steps made by the function they are given."""
    distributed = pytest.importorskip("distributed")
    from apache_beam.runners.dask.dask_runner import DaskRunner

    cluster = distributed.LocalCluster(n_workers=1, processes=False, dashboard_address=None)

    def run(steps: Callable[[beam.PCollection, Any], Any]) -> set[str]:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        options = beam.options.pipeline_options.PipelineOptions([f"--dask_client_address={cluster.scheduler_address}"])
        pipeline = beam.Pipeline(runner=DaskRunner(), options=options)
        steps(pipeline | beam.Create(range(1, 6)), lambda mark, element: (folder / f"{mark}{element}").touch())
        result = pipeline.run()
        result.wait_until_finish()
        result.client.close()
        return {path.name for path in folder.iterdir()}

    yield run
    cluster.close()


def test_dask_does_lose_what_these_rules_refuse(
    on_dask: Callable[[Callable[[beam.PCollection, Any], Any]], set[str]],
) -> None:
    """So the rules are not vacuous; a Dask or Beam that has learnt it would show here."""

    def fork(numbers: beam.PCollection, mark: Any) -> None:
        _ = numbers | "one" >> beam.Map(lambda number: mark("one", number))
        _ = numbers | "other" >> beam.Map(lambda number: mark("other", number))

    assert on_dask(fork) == {f"other{number}" for number in range(1, 6)}  # the first leaf never ran

    def finish(numbers: beam.PCollection, mark: Any) -> None:
        _ = numbers | beam.ParDo(Finishing()) | beam.Map(lambda element: mark("", element))

    assert on_dask(finish) == {str(number) for number in range(1, 6)}  # no "last"
