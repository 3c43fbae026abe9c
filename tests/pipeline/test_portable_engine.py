"""Submission to a job service: a real one over gRPC on loopback, which says that it ran what it never ran."""

import importlib.util
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_runner_api_pb2

from foldatlas.atlas.folder import AtlasFolder
from foldatlas.pipeline import interruption
from foldatlas.pipeline.engines import conformance, dispatch
from foldatlas.pipeline.engines.choose import choose_engine
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.engines.rounds import ROUNDS
from foldatlas.pipeline.planning.costs import CostModel
from foldatlas.pipeline.planning.planner import make_plan
from foldatlas.pipeline.shards.run import fold_atlas
from foldatlas.pipeline.workers.supervisor import WorkerSpec
from foldatlas.schemas.errors import EngineError, IncompleteError, Interrupted, UsageError

_spec = importlib.util.spec_from_file_location("job_service", Path(__file__).with_name("job_service.py"))
assert _spec is not None and _spec.loader is not None
job_service = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(job_service)
IdleJobService, serving = job_service.IdleJobService, job_service.serving

POOL = ["--environment_type=EXTERNAL", "--environment_config=pool:50000"]


def engine_at(runner: str, address: str, *options: str) -> Engine:
    return choose_engine(runner, None, [f"--job_endpoint={address}", *POOL, *options])


def leaves(pipeline: beam_runner_api_pb2.Pipeline) -> set[str]:
    """What the transforms that have no parts are."""
    parts = pipeline.components.transforms.values()
    return {part.spec.urn for part in parts if not part.subtransforms}


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_the_job_service_gets_the_graph_and_the_options(runner: str) -> None:
    service = IdleJobService()
    with serving(service) as address:
        dispatch.run("fold", [1, 2, 3], print, engine_at(runner, address, "--parallelism=8"))
    (job,), (started,) = service.prepared, service.ran
    assert started == "preparation-1"
    pipeline = job.pipeline
    names = {part.unique_name.partition("/")[0] for part in pipeline.components.transforms.values()}
    ours = {name for name in names if not name.startswith("ref_")}  # the whole has a name of Beam's
    assert ours - {""} == {"fold: descriptors", "fold: spread", "fold: work"}
    urns = {part.unique_name: part.spec.urn for part in pipeline.components.transforms.values()}
    # what the runners know by name: one shuffle, and else only maps
    assert urns["fold: spread"] == "beam:transform:reshuffle:v1"
    allowed = {
        "beam:transform:impulse:v1",
        "beam:transform:pardo:v1",
        "beam:transform:group_by_key:v1",
        "beam:transform:reshuffle:v1",
    }
    assert leaves(pipeline) <= allowed
    for part in pipeline.components.transforms.values():
        if part.spec.urn == "beam:transform:pardo:v1":
            function = beam_runner_api_pb2.ParDoPayload.FromString(part.spec.payload)
            assert not function.side_inputs and not function.state_specs and not function.timer_family_specs
    environments = {
        environment.urn: environment.payload
        for environment in pipeline.components.environments.values()
        if environment.urn != "beam:env:default:v1"
    }
    assert set(environments) == {"beam:env:external:v1"}
    payload = beam_runner_api_pb2.ExternalPayload.FromString(environments["beam:env:external:v1"])
    assert payload.endpoint.url == "pool:50000"
    options = service.options()
    assert options["number_of_worker_harness_threads"] == "1"
    assert options["sdk_worker_parallelism"] == "1"
    assert options["parallelism"] == "8"
    assert options["streaming"] is False
    assert int(options["job_server_timeout"]) > 30 * 24 * 3600


def test_the_work_survives_beams_pickler_in_another_process(tmp_path: Path) -> None:
    """The work is unpickled from the graph as a worker does it, in a process without other state."""
    service = IdleJobService()
    with serving(service) as address:
        dispatch.run("conformance", [conformance.MarkTask(str(tmp_path / "marks"), 4)], conformance.leave_mark,
                   engine_at("FlinkRunner", address))  # fmt: skip
    (work,) = (
        part
        for part in service.prepared[0].pipeline.components.transforms.values()
        if part.unique_name.startswith("conformance: work") and part.spec.urn == "beam:transform:pardo:v1"
    )
    payload = beam_runner_api_pb2.ParDoPayload.FromString(work.spec.payload).do_fn.payload
    marks = tmp_path / "marks"
    (tmp_path / "function").write_bytes(payload)
    script = (
        "import sys; from apache_beam.internal import pickler;"
        "function, *_ = pickler.loads(open(sys.argv[1], 'rb').read());"
        "from foldatlas.pipeline.engines.conformance import MarkTask;"
        "print(list(function.process(MarkTask(sys.argv[2], 4))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "function"), str(marks)], capture_output=True, text=True
    )
    assert done.stdout == "[True]\n", done.stderr
    assert set(conformance.read_marks(str(marks))) == {4}


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_engine_that_does_nothing_is_refused_before_any_shard(
    runner: str, tmp_path: Path, proteins: list[str], write_fasta: Callable[..., str], costs: CostModel,
    worker: WorkerSpec,
) -> None:  # fmt: skip
    folder = AtlasFolder(tmp_path / "atlas")
    source = write_fasta(proteins)
    service = IdleJobService()
    with serving(service) as address:
        engine = engine_at(runner, address)
        with pytest.raises(UsageError, match="reports success, but 40 of 40 tasks left no mark"):
            make_plan([source], folder, worker.settings, costs, max_length=200, engine=engine)
        assert not folder.root.exists()
        make_plan([source], folder, worker.settings, costs, max_length=200)
        with pytest.raises(UsageError, match="40 of 40"):
            fold_atlas(folder, worker, engine=engine, show_progress=False)
    assert len(service.ran) == 2  # twice the small graph, and nothing else
    assert folder.entries() == {}


def test_engine_result_is_checked_against_the_manifest(
    tmp_path: Path, proteins: list[str], write_fasta: Callable[..., str], costs: CostModel, worker: WorkerSpec,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(conformance, "refuse_if_it_loses", lambda engine, folder: None)
    folder = AtlasFolder(tmp_path / "atlas")
    plan = make_plan([write_fasta(proteins)], folder, worker.settings, costs, max_length=200).plan
    assert plan is not None
    service = IdleJobService()
    with serving(service) as address, pytest.raises(IncompleteError) as refusal:
        fold_atlas(folder, worker, engine=engine_at("FlinkRunner", address), show_progress=False)
    text = str(refusal.value)
    assert f"{len(plan.shards)} of {len(plan.shards)} shards are not done" in text
    assert any(shard.name in text for shard in plan.shards)
    assert len(service.ran) == ROUNDS
    assert fold_atlas(folder, worker, show_progress=False).folded > 0


def test_a_job_that_fails_is_one_line(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    trace = "Traceback (most recent call last):\n" + "  File x\n" * 40 + "OSError: a worker was lost"
    with serving(IdleJobService(api.JobState.FAILED, trace)) as address, pytest.raises(EngineError) as error:
        dispatch.run("fold", [1], print, engine_at("FlinkRunner", address))
    assert str(error.value) == (
        "FlinkRunner failed (OSError: a worker was lost); finished work is kept: run the same command again to resume"
    )
    assert caplog.records == []
    assert capfd.readouterr().err == ""
    assert logging.getLogger().filters == []


def test_unreachable_job_service_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no job service answers at --job_endpoint=localhost:1"):
        dispatch.run("fold", [1], print, engine_at("FlinkRunner", "localhost:1"))


def test_a_job_is_taken_back_when_the_run_is_to_stop() -> None:
    service = IdleJobService(None)
    with serving(service) as address:

        def stop() -> None:
            assert service.running.wait(60)
            os.kill(os.getpid(), signal.SIGINT)

        stopper = threading.Thread(target=stop)
        stopper.start()
        started = time.monotonic()
        with pytest.raises(Interrupted), interruption.interruptible():
            dispatch.run("fold", [1], print, engine_at("SparkRunner", address))
        stopper.join()
        assert service.cancelled.is_set()
    assert time.monotonic() - started < 50
    assert not interruption.stopping()


def test_options_that_contradict_each_other_are_refused_as_such(tmp_path: Path) -> None:
    service = IdleJobService()
    with serving(service) as address, pytest.raises(UsageError, match="FlinkRunner refuses its options"):
        dispatch.run("fold", [1], print, engine_at("FlinkRunner", address, "--environment_option=process_command=x"))
    assert service.prepared == []
