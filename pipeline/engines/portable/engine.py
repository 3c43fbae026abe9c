"""Engines behind Beam's job service: Prism, Flink, Spark, Dataflow.

The graph is submitted by a separate thread while the main thread waits for Ctrl-C, since Beam's own wait cannot be
interrupted without a traceback. What was done is read from the files, so the job's result is only whether it ended.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import grpc
from apache_beam.options.pipeline_options import PortableOptions

from foldatlas.pipeline.engines import graph
from foldatlas.pipeline.engines.backend import memory_here
from foldatlas.pipeline.engines.beam import PipelineOptions, beam
from foldatlas.pipeline.engines.engine import Engine
from foldatlas.pipeline.engines.options import values_of
from foldatlas.pipeline.engines.portable.options import completed
from foldatlas.pipeline.engines.portable.prism_server import answers, prism
from foldatlas.pipeline.engines.portable.quiet import quiet_job
from foldatlas.pipeline.interruption import stopping
from foldatlas.pipeline.workers.devices import choose_device
from foldatlas.schemas.errors import EngineError, FoldAtlasError, UsageError

ANSWER_SECONDS: Final = 10.0  # for a job service to accept a connection
CANCEL_SECONDS: Final = 5.0  # for an engine to cancel a job
_POLL_SECONDS: Final = 0.1
_REASON_LENGTH: Final = 300


class Submitted(FoldAtlasError):
    """A template of the job was written and nothing was run, so there is no result to check yet."""

    exit_code = 0


def run(label: str, descriptors: Sequence[Any], work: Callable[[Any], None], engine: Engine) -> None:
    """Run the graph. Return when the engine reports success, or when the run is to stop.

    Raise UsageError for an engine that cannot be reached; EngineError when the job fails, with all finished work kept;
    Submitted when only a template was written.
    """
    values = values_of(engine.runner, engine.options)
    options = completed(engine.runner, engine.options, values)
    if engine.only_describes and label != "fold":
        raise UsageError(
            f"--template_location describes one job, but this run would start with another ({label!r}): plan first, "
            "by `foldatlas plan` with another engine"
        )
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet_job())  # first, so that it ends last: Beam's threads print when their server goes
        if engine.runner == "PrismRunner" and values["job_endpoint"] is None:
            address = stack.enter_context(prism(values["prism_location"], log_level=values["prism_log_level"]))
            options.append(f"--job_endpoint={address}")
        elif values["job_endpoint"] is not None and not answers(values["job_endpoint"], ANSWER_SECONDS):
            raise UsageError(
                f"no job service answers at --job_endpoint={values['job_endpoint']}: start it, or give another address"
            )
        job = _Job(label, descriptors, work, engine.runner, options)
        job.run()
    if engine.only_describes:
        raise Submitted(
            f"the job {label!r} was written to {values['template_location']} and not run; after it has run, use the "
            "same command without --template_location"
        )


class Portable:
    """A Backend behind Beam's job service. Its workers may be on other machines, with other devices."""

    def __init__(self, engine: Engine):
        self._engine = engine

    def run(self, label: str, descriptors: Sequence[Any], work: Callable[[Any], None]) -> None:
        run(label, descriptors, work, self._engine)

    @contextlib.contextmanager
    def opened(self, device: str) -> Iterator[str]:
        yield choose_device(device) if device == "auto" else device  # a cluster's driver may have no GPU

    def device_name(self, device: str) -> str:
        return ""

    def device_memory(self, device: str) -> int | None:
        return memory_here(device)


class _Job:
    """One submission and the wait for its end, in a thread."""

    def __init__(
        self, label: str, descriptors: Sequence[Any], work: Callable[..., None], runner: str, options: list[str]
    ):
        try:
            self._pipeline = beam.Pipeline(options=PipelineOptions(options))
        except ValueError as error:  # Beam's own check of combinations
            raise UsageError(f"{runner} refuses its options: {_one_line(error)}") from error
        graph.build(self._pipeline, label, descriptors, work)
        self._runner = runner
        environment = self._pipeline.options.view_as(PortableOptions).environment_type
        self._in_this_process = environment == "LOOPBACK" or (environment is None and runner == "PrismRunner")
        self._result: Any = None
        self._submitted = threading.Event()  # or refused
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._submit_and_wait, name=f"foldatlas-{label}", daemon=True)

    def run(self) -> None:
        self._thread.start()
        try:
            while self._thread.is_alive() and not stopping():
                self._thread.join(_POLL_SECONDS)
            if self._in_this_process:  # the work sees the flag and ends, and then the job does
                self._thread.join(CANCEL_SECONDS)
            if self._thread.is_alive():
                self._cancel()
        except BaseException:  # KeyboardInterrupt, without the flag
            self._cancel()
            raise
        if self._error is not None and not stopping():
            raise EngineError(
                f"{self._runner} failed ({_one_line(self._error)}); finished work is kept: run the same command "
                "again to resume"
            ) from self._error

    def _submit_and_wait(self) -> None:
        try:
            try:
                self._result = self._pipeline.run()
            finally:
                self._submitted.set()
            self._result.wait_until_finish()
        except BaseException as error:
            self._error = error

    def _cancel(self) -> None:
        """Ask the engine to cancel the job, and wait a moment for it."""
        self._submitted.wait(CANCEL_SECONDS)  # the job may just be being submitted
        result = self._result
        if result is not None:
            asking = threading.Thread(target=_cancel_quietly, args=(result,), daemon=True)
            asking.start()
            asking.join(CANCEL_SECONDS)
        self._thread.join(CANCEL_SECONDS)


def _cancel_quietly(result: Any) -> None:
    with contextlib.suppress(Exception):  # an engine that has ended has no job to cancel
        result.cancel()


def _one_line(error: BaseException) -> str:
    """Return the last line of an engine's error: the exception, after its traceback."""
    if isinstance(error, grpc.Call):
        return f"the job service is lost: {error.details()}"[:_REASON_LENGTH]
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:_REASON_LENGTH]
