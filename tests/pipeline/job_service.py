"""A job service on loopback, as Flink's and Spark's job servers are ones: it takes jobs and says how they ended, and
runs nothing. What was sent is kept for tests to look at."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import grpc
from apache_beam.portability.api import beam_job_api_pb2 as api
from apache_beam.portability.api import beam_job_api_pb2_grpc
from google.protobuf import json_format

State = api.JobState.Enum


class IdleJobService(beam_job_api_pb2_grpc.JobServiceServicer):
    """Says of every job that it ended in `end`, with `message` as its error; None: that it runs, until it is
    cancelled. Job and preparation have different ids, as on a real job server."""

    def __init__(self, end: "State | None" = api.JobState.DONE, message: str = ""):
        self.end = end
        self.message = message
        self.prepared: list[api.PrepareJobRequest] = []
        self.ran: list[str] = []
        self.cancelled = threading.Event()
        self.running = threading.Event()

    def options(self, job: int = 0) -> dict[str, Any]:
        """The options that came with a job, by their names."""
        found = json_format.MessageToDict(self.prepared[job].pipeline_options)
        return {name.removeprefix("beam:option:").removesuffix(":v1"): value for name, value in found.items()}

    def Prepare(self, request: api.PrepareJobRequest, context: Any) -> api.PrepareJobResponse:
        self.prepared.append(request)
        return api.PrepareJobResponse(preparation_id=f"preparation-{len(self.prepared)}")

    def Run(self, request: api.RunJobRequest, context: Any) -> api.RunJobResponse:
        self.ran.append(request.preparation_id)
        self.running.set()
        return api.RunJobResponse(job_id=f"job-{len(self.ran)}")

    def DescribePipelineOptions(self, request: Any, context: Any) -> api.DescribePipelineOptionsResponse:
        return api.DescribePipelineOptionsResponse()

    def GetState(self, request: Any, context: Any) -> api.JobStateEvent:
        return api.JobStateEvent(state=self._state())

    def Cancel(self, request: Any, context: Any) -> api.CancelJobResponse:
        self.cancelled.set()
        return api.CancelJobResponse(state=api.JobState.CANCELLED)

    def GetStateStream(self, request: Any, context: Any) -> Iterator[api.JobStateEvent]:
        self._refuse_unless_job(request.job_id, context)
        yield api.JobStateEvent(state=api.JobState.RUNNING)
        if self.end is None:
            self.cancelled.wait(60)
        yield api.JobStateEvent(state=self._state())

    def GetMessageStream(self, request: Any, context: Any) -> Iterator[api.JobMessagesResponse]:
        self._refuse_unless_job(request.job_id, context)
        if self.message:
            error = api.JobMessage(importance=api.JobMessage.JOB_MESSAGE_ERROR, message_text=self.message)
            yield api.JobMessagesResponse(message_response=error)

    def _state(self) -> Any:
        return api.JobState.CANCELLED if self.end is None else self.end

    def _refuse_unless_job(self, name: str, context: Any) -> None:
        if not name.startswith("job-"):
            context.abort(grpc.StatusCode.NOT_FOUND, f"no job {name}")


@contextmanager
def serving(service: IdleJobService) -> Iterator[str]:
    """Within the block `service` answers at the address that is given."""
    server = grpc.server(ThreadPoolExecutor(16))
    beam_job_api_pb2_grpc.add_JobServiceServicer_to_server(service, server)
    port = server.add_insecure_port("localhost:0")
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        service.cancelled.set()
        server.stop(2).wait()  # without a grace gRPC complains on stderr
