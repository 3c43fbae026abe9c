"""The description of a Dataflow job, as Beam's DataflowRunner builds it, up to the call that would submit it.

Needs Google's packages: pip install 'foldatlas[dataflow]'.
"""

import http.server
import threading
from collections.abc import Iterator

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions, StandardOptions
from apache_beam.portability.api import beam_runner_api_pb2

from foldatlas.pipeline.engines import dispatch, graph
from foldatlas.pipeline.engines.choose import choose_engine
from foldatlas.pipeline.engines.options import values_of
from foldatlas.pipeline.engines.portable.options import completed
from foldatlas.schemas.errors import UsageError

pytest.importorskip("apache_beam.runners.dataflow.internal.apiclient", exc_type=ImportError)
# Google's packages say what they will drop, and leave sockets to the collector
pytestmark = [pytest.mark.filterwarnings(f"ignore::{kind}") for kind in ("FutureWarning", "ResourceWarning")]

GPU = "worker_accelerator=type:nvidia-l4;count:1;install-nvidia-driver"
OPTIONS = [
    "--project=my-project", "--region=us-central1", "--temp_location=gs://some-bucket/tmp",
    "--sdk_container_image=images/foldatlas:beam", f"--dataflow_service_options={GPU}", "--num_workers=8",
]  # fmt: skip


class _Nothing(http.server.BaseHTTPRequestHandler):
    """A store without any bucket."""

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def no_store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Beam asks the store about its bucket: here a server on loopback answers."""
    server = http.server.ThreadingHTTPServer(("localhost", 0), _Nothing)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://localhost:{server.server_port}")
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("no_store")
def test_the_job_that_would_be_submitted() -> None:
    engine = choose_engine("DataflowRunner", None, OPTIONS)
    flags = completed(engine.runner, engine.options, values_of(engine.runner, engine.options))
    options = PipelineOptions([*flags, "--dry_run=True", "--no_auth"])
    assert options.view_as(DebugOptions).number_of_worker_harness_threads == 1
    pipeline = beam.Pipeline(options=options)
    graph.build(pipeline, "fold", [1, 2, 3], print)
    job = pipeline.run().job
    proto = job.proto_pipeline

    (environment,) = proto.components.environments.values()
    assert environment.urn == "beam:env:docker:v1"
    docker = beam_runner_api_pb2.DockerPayload.FromString(environment.payload)
    assert docker.container_image == "images/foldatlas:beam"
    staged = [
        beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(artifact.role_payload).staged_name
        for artifact in environment.dependencies
    ]
    assert staged == ["submission_environment_dependencies.txt"]  # no pickled session: the image has the program
    names = {part.unique_name.partition("/")[0] for part in proto.components.transforms.values()}
    assert {"fold: descriptors", "fold: spread", "fold: work"} <= names
    assert {part.is_bounded for part in proto.components.pcollections.values()} == {
        beam_runner_api_pb2.IsBounded.BOUNDED
    }
    assert not options.view_as(StandardOptions).streaming
    assert options.get_all_options()["dataflow_service_options"] == [GPU]
    assert "no_use_multiple_sdk_containers" in options.get_all_options()["experiments"]


@pytest.mark.usefixtures("no_store")
def test_a_template_holds_the_fold_and_nothing_before_it() -> None:
    engine = choose_engine("DataflowRunner", None, [*OPTIONS, "--template_location=gs://some-bucket/job.json"])
    assert engine.only_describes
    with pytest.raises(UsageError, match="plan first"):
        dispatch.run("ingest", [1], print, engine)
