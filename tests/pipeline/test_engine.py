"""The choice of an engine: names, refusals with their reasons, and Beam's own options."""

import pytest

from foldatlas.pipeline.engines.choose import choose_engine, runner_name
from foldatlas.pipeline.engines.engine import EMBEDDED, RUNNERS, Engine
from foldatlas.schemas.errors import UsageError


def test_without_a_runner_the_number_of_workers_decides() -> None:
    assert choose_engine(None, None) == choose_engine(None, 1) == EMBEDDED
    assert choose_engine(None, 3) == Engine("DaskRunner", 3)


@pytest.mark.parametrize("name", RUNNERS)
def test_names_are_beams_own_and_forgiving(name: str) -> None:
    assert runner_name(name) == runner_name(name.lower()) == runner_name(name.removesuffix("Runner").upper()) == name


def test_known_good_engines() -> None:
    good = {name for name in RUNNERS if Engine(name).is_known_good}
    assert good == {"FnApiRunner", "DaskRunner", "PrismRunner"}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DirectRunner", "FnApiRunner, the embedded engine"),
        ("direct", "download"),
        ("RayRunner", "no longer maintained"),
        ("ray-beam", "no longer maintained"),
        ("PySparkRunner", "SparkRunner goes through"),
        ("beam_pyspark_runner.pyspark_runner.PySparkRunner", "SparkRunner goes through"),
        ("beam-pyspark-runner", "SparkRunner goes through"),
        ("InteractiveRunner", "notebook"),
        ("SamzaRunner", "choose one of FnApiRunner, DaskRunner"),
    ],
)
def test_engines_that_lose_work_are_refused_by_name(name: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        choose_engine(name, None)


@pytest.mark.parametrize(
    ("runner", "workers", "options", "reason"),
    [
        (None, 0, [], "1 or more"),
        ("FnApiRunner", 2, [], "one worker, not 2"),
        ("DaskRunner", None, [], "needs workers"),
        ("DaskRunner", 2, ["--dask_client_address=tls://a:1"], "give only one of them"),
        ("DaskRunner", None, ["--dask_client_address=tls://a:1", "--dask_scheduler_file", "f"], "both name a cluster"),
        ("PrismRunner", 2, [], "has its own workers"),
        (None, None, ["--direct_running_mode=multi_threading"], "lost 0.6 to 1.5 %"),
        (None, None, ["--direct_running_mode=multi_processing"], "waited for ever"),
        (None, None, ["--direct_num_workers=4"], "use --workers N"),
        (None, None, ["--direct_num_workers", "0"], "use --workers N"),
        (None, None, ["--streaming"], "batch"),
        (None, None, ["--runner=DaskRunner"], "before `--`"),
        (None, None, ["--no_wait_until_finish"], "compares manifest and plan"),
        ("DaskRunner", 2, ["--dask_npartitions=4"], "a partition is one shard"),
        ("DaskRunner", 2, ["--dask_partition_size=128"], "a partition is one shard"),
        (
            "DaskRunner",
            2,
            ["--dask_clientaddress=tls://a:1"],
            "'--dask_clientaddress=tls://a:1' after -- is not an option",
        ),
        (None, None, ["--dask_client_address=tls://a:1"], "not an option of Beam with FnApiRunner"),
        (None, None, ["--nonsense"], "'--nonsense' after -- is not an option"),
        (None, None, ["more.fasta"], "'more.fasta' after -- is not an option"),
        (None, None, ["--direct_num_workers=many"], "invalid int value"),
    ],
)
def test_contradictory_or_harmful_option_is_refused(
    runner: str | None, workers: int | None, options: list[str], reason: str
) -> None:
    with pytest.raises(UsageError, match=reason):
        choose_engine(runner, workers, options)


def test_good_options_are_kept_for_beam() -> None:
    options = ("--dask_client_address=tls://a:1", "--dask_partition_size=1", "--dask_connection_timeout", "5")
    assert choose_engine("daskrunner", None, options) == Engine("DaskRunner", 0, options)
    assert choose_engine(None, None, ("--direct_running_mode=in_memory",)).is_embedded
    options = ("--job_endpoint=host:8099", "--environment_type=LOOPBACK", "--parallelism=64")
    assert choose_engine("FlinkRunner", None, options) == Engine("FlinkRunner", 0, options)
