"""Options that the engines behind Beam's job service need, and our defaults for them.

All missing options are listed at once, before anything starts. Otherwise a job server that Beam would download, a
cluster without an address, or workers in Beam's own image, which has no FoldAtlas, fail later and less clearly.
"""

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from foldatlas.schemas.errors import UsageError

Values = Mapping[str, Any]  # every Beam option, by the name of its attribute (options.values_of)

# A GPU folds one shard at a time. In Beam 2.77 the timeout for answers of the job service (300 s by default) is also
# the longest time that the driver waits for a job.
COMMON_DEFAULTS: Final = {
    "number_of_worker_harness_threads": "1",
    "sdk_worker_parallelism": "1",
    "job_server_timeout": str(366 * 24 * 3600),
}
DATAFLOW_DEFAULTS: Final = {"number_of_worker_harness_threads": "1"}
# One Python process a machine: several would compete for the GPU.
ONE_PROCESS: Final = "no_use_multiple_sdk_containers"
ENVIRONMENTS_WITH_CONFIG: Final = {"EXTERNAL": "HOST:PORT of a worker pool", "DOCKER": "an image", "PROCESS": "JSON"}


def refuse_incomplete(runner: str, values: Values) -> None:
    """Raise UsageError that lists the options that `runner` needs and `values` lack. Starts and contacts nothing."""
    lacking = NEEDS[runner](values)
    if lacking:
        listed = "".join(f"\n  {line}" for line in lacking)
        raise UsageError(f"{runner} needs more after --:{listed}\nsee docs/engines.md")
    if runner == "DataflowRunner":
        _refuse_without_google()


def completed(runner: str, options: Sequence[str], values: Values) -> list[str]:
    """Return the command line for Beam: `runner`, `options`, and our defaults for options that are not given."""
    given = {option.partition("=")[0].removeprefix("--").replace("-", "_") for option in options}
    defaults = DATAFLOW_DEFAULTS if runner == "DataflowRunner" else COMMON_DEFAULTS
    flags = [f"--runner={runner}", *options]
    flags += [f"--{name}={value}" for name, value in defaults.items() if name not in given]
    if runner == "PrismRunner" and "prism_log_level" not in given:
        flags.append("--prism_log_level=error")
    if runner == "DataflowRunner" and not {"save_main_session", "no_save_main_session"} & given:
        flags.append("--no_save_main_session")  # the program is in the image
    if runner == "DataflowRunner" and not any("sdk_containers" in text for text in values["experiments"] or ()):
        flags.append(f"--experiments={ONE_PROCESS}")
    return flags


def _prism(values: Values) -> list[str]:
    lacking = _environment(values, default="LOOPBACK")
    location = values["prism_location"]
    if location is None and values["job_endpoint"] is None:
        lacking.append(
            "--prism_location=FILE: Beam's program `prism`, of the version of apache-beam. It is among the assets of "
            "Beam's releases, or `go install` makes it from Beam's go/cmd/prism; nothing is downloaded from here"
        )
    elif location is not None and not Path(location).is_file():
        lacking.append(f"--prism_location=FILE: {location}: no such file")
    return lacking


def _flink(values: Values) -> list[str]:
    lacking = _job_server(values, "flink_job_server_jar", "Flink")
    if values["job_endpoint"] is None and values["flink_master"] == "[auto]":
        lacking.append("--flink_master=HOST:PORT, or [local] for a cluster inside the job server")
    is_local = values["flink_master"] == "[local]" and values["job_endpoint"] is None
    return lacking + _environment(values, default="LOOPBACK" if is_local else None)


def _spark(values: Values) -> list[str]:
    lacking = _job_server(values, "spark_job_server_jar", "Spark")
    is_local = values["job_endpoint"] is None and values["spark_master_url"].startswith("local")
    if values["spark_submit_uber_jar"] and not values["spark_rest_url"]:
        lacking.append("--spark_rest_url=URL, to which --spark_submit_uber_jar sends the job")
    return lacking + _environment(values, default="LOOPBACK" if is_local else None)


def _dataflow(values: Values) -> list[str]:
    wanted = {
        "project": "--project=ID of the Google Cloud project that pays",
        "region": "--region=NAME, as us-central1",
        "temp_location": "--temp_location=gs://BUCKET/FOLDER for staged files",
        "sdk_container_image": "--sdk_container_image=IMAGE with FoldAtlas in it (jobs/deploy/Dockerfile)",
    }
    lacking = [text for name, text in wanted.items() if not values[name]]
    location = values["temp_location"]
    if location and not location.startswith("gs://"):
        lacking.append(f"--temp_location=gs://BUCKET/FOLDER: {location} does not begin with gs://")
    return lacking


NEEDS: Final[Mapping[str, Callable[[Values], list[str]]]] = {
    "PrismRunner": _prism,
    "FlinkRunner": _flink,
    "SparkRunner": _spark,
    "DataflowRunner": _dataflow,
}


def _job_server(values: Values, jar: str, name: str) -> list[str]:
    if values["job_endpoint"] is not None:
        return []
    if values[jar] is None:
        return [
            f"--job_endpoint=HOST:PORT of Beam's {name} job server, or --{jar}=FILE to start it from (an asset of "
            "Beam's releases; nothing is downloaded from here)"
        ]
    return [] if Path(values[jar]).is_file() else [f"--{jar}=FILE: {values[jar]}: no such file"]


def _environment(values: Values, *, default: str | None) -> list[str]:
    """Return what is missing of the options for where workers run.

    `default` is Beam's own choice; None where that would be Beam's image, which has no FoldAtlas.
    """
    environment = values["environment_type"]
    if environment is None:
        if default is not None:
            return []
        return [
            "--environment_type=EXTERNAL --environment_config=HOST:PORT of a pool of workers that have FoldAtlas, or "
            "--environment_type=DOCKER --environment_config=IMAGE with FoldAtlas in it (jobs/deploy/Dockerfile)"
        ]
    what = ENVIRONMENTS_WITH_CONFIG.get(environment.upper())
    if what and not values["environment_config"] and not values["environment_options"]:
        return [f"--environment_config={what}, for --environment_type={environment}"]
    return []


def _refuse_without_google() -> None:
    try:
        importlib.import_module("apache_beam.runners.dataflow.internal.apiclient")
    except ImportError as error:
        raise UsageError(
            f"DataflowRunner needs Google's packages, which are not installed ({error}): "
            "pip install 'foldatlas[dataflow]'"
        ) from error
