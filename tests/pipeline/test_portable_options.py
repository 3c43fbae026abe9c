"""Options of the engines behind Beam's job service: all missing ones are named before anything starts."""

import importlib
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_runner_api_pb2

from foldatlas.pipeline.engines import dispatch, graph
from foldatlas.pipeline.engines.choose import choose_engine
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.engines.options import values_of
from foldatlas.pipeline.engines.portable.options import ONE_PROCESS, completed
from foldatlas.schemas.errors import UsageError

POOL = ["--environment_type=EXTERNAL", "--environment_config=localhost:50000"]
DATAFLOW = ["--project=p", "--region=r", "--temp_location=gs://bucket/t", "--sdk_container_image=i"]


@pytest.mark.parametrize(
    ("runner", "options", "named"),
    [
        ("PrismRunner", [], ["--prism_location=FILE"]),
        ("PrismRunner", ["--prism_location=not-there"], ["not-there: no such file"]),
        ("PrismRunner", ["--job_endpoint=a:1", "--environment_type=EXTERNAL"], ["--environment_config=HOST:PORT"]),
        ("FlinkRunner", [], ["--job_endpoint=", "--flink_job_server_jar=", "--flink_master=", "--environment_type="]),
        ("FlinkRunner", ["--job_endpoint=a:1"], ["--environment_type=EXTERNAL", "jobs/deploy/Dockerfile"]),
        ("FlinkRunner", ["--job_endpoint=a:1", "--environment_type=DOCKER"], ["--environment_config=an image"]),
        ("FlinkRunner", ["--flink_job_server_jar=x.jar", "--flink_master=[local]"], ["x.jar: no such file"]),
        ("SparkRunner", [], ["--job_endpoint=", "--spark_job_server_jar="]),
        ("SparkRunner", ["--spark_master_url=spark://a:1"], ["--spark_job_server_jar=", "--environment_type="]),
        ("SparkRunner", ["--job_endpoint=a:1", *POOL, "--spark_submit_uber_jar"], ["--spark_rest_url=URL"]),
        ("DataflowRunner", [], ["--project=", "--region=", "--temp_location=gs://", "--sdk_container_image="]),
        ("DataflowRunner", ["--project=p", "--region=r"], ["--temp_location=gs://", "--sdk_container_image="]),
        ("DataflowRunner", [*DATAFLOW, "--temp_location=/tmp"], ["/tmp does not begin with gs://"]),
    ],
)
def test_missing_options_are_listed(runner: str, options: list[str], named: list[str]) -> None:
    with pytest.raises(UsageError) as refusal:
        choose_engine(runner, None, options)
    text = str(refusal.value)
    assert text.startswith(f"{runner} needs more after --:")
    assert all(name in text for name in named)
    assert text.count("\n  ") == len({line for line in text.splitlines() if line.startswith("  ")})
    listed = [line for line in text.splitlines() if line.startswith("  ")]
    assert len(listed) <= len(named)  # nothing that was given is asked for


@pytest.mark.parametrize(
    ("runner", "options"),
    [
        ("PrismRunner", ["--prism_location={file}"]),
        ("PrismRunner", ["--job_endpoint=a:1"]),
        ("FlinkRunner", ["--job_endpoint=a:1", *POOL]),
        ("FlinkRunner", ["--job_endpoint=a:1", "--environment_type=DOCKER", "--environment_config=image"]),
        ("FlinkRunner", ["--job_endpoint", "a:1", "--environment_type=LOOPBACK"]),
        ("FlinkRunner", ["--flink_job_server_jar={file}", "--flink_master=[local]"]),
        ("FlinkRunner", ["--flink_job_server_jar={file}", "--flink_master=a:8081", *POOL]),
        ("SparkRunner", ["--job_endpoint=a:1", *POOL]),
        ("SparkRunner", ["--spark_job_server_jar={file}"]),  # Spark's own default is a local cluster
    ],
)
def test_sufficient_options_are_accepted(runner: str, options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    options = [option.format(file=file) for option in options]
    assert choose_engine(runner, None, options).options == tuple(options)


def test_dataflow_without_googles_packages_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError("No module named 'google.auth'")

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(UsageError, match=r"google\.auth.*pip install 'foldatlas\[dataflow\]'"):
        choose_engine("DataflowRunner", None, DATAFLOW)


def flags(runner: str, options: list[str]) -> list[str]:
    return completed(runner, options, values_of(runner, options))


@pytest.mark.parametrize("runner", ["PrismRunner", "FlinkRunner", "SparkRunner", "DataflowRunner"])
def test_worker_has_one_thread_by_default(runner: str) -> None:
    assert "--number_of_worker_harness_threads=1" in flags(runner, [])
    given = ["--number_of_worker_harness_threads=3", "--sdk_worker_parallelism", "2"]
    made = flags(runner, given)
    assert made[:4] == [f"--runner={runner}", *given]
    assert not [flag for flag in made[4:] if "threads" in flag or "parallelism" in flag]


def test_a_machine_of_dataflow_has_one_python_process() -> None:
    assert f"--experiments={ONE_PROCESS}" in flags("DataflowRunner", ["--experiments=upload_graph"])
    chosen = ["--experiments=upload_graph,use_multiple_sdk_containers"]
    assert flags("DataflowRunner", chosen)[1:2] == chosen
    assert f"--experiments={ONE_PROCESS}" not in flags("DataflowRunner", chosen)


def test_a_driver_needs_no_gpu_of_its_own() -> None:
    with dispatch.opened(Engine("FlinkRunner", 0), "cuda") as device:
        assert device == "cuda"


def test_dataflows_graph_is_the_one_shape() -> None:
    """The portable description, without Google's packages; test_dataflow_job.py has the job as Dataflow gets it."""
    options = PipelineOptions(flags("DataflowRunner", DATAFLOW))
    pipeline = beam.Pipeline(runner=beam.runners.runner.PipelineRunner(), options=options)
    graph.build(pipeline, "fold", [1, 2, 3], print)
    proto = pipeline.to_runner_api()
    (root,) = (proto.components.transforms[name] for name in proto.root_transform_ids)
    names = [proto.components.transforms[name].unique_name for name in root.subtransforms]
    assert names == ["fold: descriptors", "fold: spread", "fold: work"]
    pardo = [part for part in proto.components.transforms.values() if part.unique_name.startswith("fold: work")]
    payloads = [beam_runner_api_pb2.ParDoPayload.FromString(part.spec.payload) for part in pardo if part.spec.payload]
    assert payloads and not any(payload.side_inputs or payload.state_specs for payload in payloads)
    bounded = {part.is_bounded for part in proto.components.pcollections.values()}
    assert bounded == {beam_runner_api_pb2.IsBounded.BOUNDED}
    assert not options.view_as(StandardOptions).streaming
