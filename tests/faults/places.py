"""Where the harness's atlases are and what folds them: arguments of the command, when to kill, and which process.

folder    a local folder, one process             workers   a local folder, `--workers 2`
store     an S3 server on the loopback            dask      a local folder, a user's Dask cluster of three workers
"""

import contextlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from processes import Driver, children_of

sys.path.append(str(Path(__file__).parents[1] / "helpers"))

Condition = Callable[[], bool]
LOCAL_CLUSTER = "foldatlas.pipeline.engines.dask.local"  # the module that runs scheduler and nannies
PHASES = ("starting", "planning", "folding", "committing", "indexing")


class Folder:
    """Atlases in a folder of this machine, made by one process."""

    arguments: tuple[str, ...] = ()  # after those of every run
    environment: dict[str, str] = {}  # noqa: RUF012 - of every run
    sweeps: dict[str, str] | None = None  # the environment of a run that sweeps what killed ones left, if one must
    faults: tuple[str, ...] = ("hang", "disk_full", "two_drivers", "signals")

    def __init__(self, folder: Path):
        self.folder = folder

    def name_of(self, atlas: Path) -> str:
        """What the command calls the atlas that the harness calls by a path."""
        return str(atlas)

    def copy(self, atlas: Path) -> Path:
        """The atlas as a local folder, for the judge."""
        return atlas

    def remove(self, atlas: Path) -> None:
        shutil.rmtree(atlas)

    def left_over(self) -> list[str]:
        """What no run may leave behind outside of the atlas."""
        return []

    def victims(self, driver: Driver) -> list[int]:
        """Processes of a run that may be killed, but for its driver."""
        return children_of(driver.process.pid)

    def reached(self, atlas: Path, phase: str, shards: int) -> Condition:
        """Whether a run has come to `phase`; in folding, to as many `shards` or more."""

        def names(kind: str) -> list[str]:
            return os.listdir(atlas / kind) if (atlas / kind).is_dir() else []

        def count(kind: str, ending: str) -> int:
            return sum(name.endswith(ending) and not name.startswith(".") for name in names(kind))

        conditions: dict[str, Condition] = {
            "starting": lambda: True,
            "planning": lambda: (atlas / ".staging").is_dir(),
            "folding": lambda: (
                any(name.endswith(".part") for name in names("structures")) and count("manifest", ".json") >= shards
            ),
            "committing": lambda: (
                count("structures", ".parquet") > count("manifest", ".json") >= shards
                or any(name.endswith(".part") for name in names("manifest"))
            ),
            "indexing": lambda: atlas.is_dir() and any(name.startswith(".index.") for name in os.listdir(atlas)),
        }
        return conditions[phase]


def search_reached(atlas: Path, phase: str, shards: int) -> Condition:
    """As `Folder.reached`, of a search; "folding" is searching."""

    def count(pattern: str) -> int:
        return len(list(atlas.glob(f"novelty/{pattern}")))

    conditions: dict[str, Condition] = {
        "starting": lambda: True,
        "planning": lambda: (atlas / ".staging").is_dir() or count("*/queries/*") > 0,
        "folding": lambda: count("*/run.json") > 0 and count("*/manifest/[!.]*.json") >= shards,
        "committing": lambda: count("*/hits/[!.]*.parquet") > count("*/manifest/[!.]*.json") >= shards,
        "indexing": lambda: any(atlas.glob(".index.*")) and count("*/complete.json") > 0,
    }
    return conditions[phase]


class OwnWorkers(Folder):
    """Two workers and a scheduler, which the command starts for itself."""

    arguments = ("--workers", "2")
    faults = ("two_drivers", "signals")

    def victims(self, driver: Driver) -> list[int]:
        """Workers, what folds for them, and the process that holds scheduler and nannies."""
        from dask_cluster import command_of, descendants, is_folding, is_worker

        return [
            process.pid
            for process in descendants(driver.process.pid)
            if is_worker(process) or is_folding(process) or LOCAL_CLUSTER in command_of(process)
        ]


class SharedCluster(Folder):
    """A scheduler and three workers that outlive the runs, with TLS."""

    faults = ("two_drivers", "signals")

    def __init__(self, folder: Path, environment: dict[str, str]):
        super().__init__(folder)
        from dask_cluster import Cluster

        (folder / "cluster").mkdir()
        self.cluster = Cluster(folder / "cluster", environment)
        for _ in range(3):
            self.cluster.add_worker()
        self.environment = self.cluster.environment
        self.arguments = ("--runner", "DaskRunner", "--", "--dask_scheduler_file", str(self.cluster.file))

    def victims(self, driver: Driver) -> list[int]:
        from dask_cluster import is_folding, is_worker

        return [process.pid for process in self.cluster.members() if is_worker(process) or is_folding(process)]


class Store(Folder):
    """Atlases on an S3 server. When to strike follows from the requests that come by."""

    faults = ("hang", "two_drivers", "signals", "store_away")
    sweeps = {"FAULTS_SWEEP": "1"}  # noqa: RUF012 - else what is a day old

    def __init__(self, folder: Path, endpoint: str, way: Any):
        super().__init__(folder)
        import boto3
        import s3_server

        logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line a request
        self.way = way
        os.environ.update(s3_server.settings(way.address, folder / "none"))
        os.environ.pop("AWS_PROFILE", None)
        self.environment = {"TMPDIR": str(folder / "tmp"), "FOLDATLAS_CACHE": str(folder / "cache")}
        (folder / "tmp").mkdir()
        self._client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
        self._client.create_bucket(Bucket="faults")

    def name_of(self, atlas: Path) -> str:
        return f"s3://faults/{atlas.name}"

    def _keys(self, atlas: Path) -> Iterator[str]:
        for page in self._client.get_paginator("list_objects_v2").paginate(Bucket="faults", Prefix=f"{atlas.name}/"):
            yield from (item["Key"] for item in page.get("Contents", []))

    def copy(self, atlas: Path) -> Path:
        """Every object as a file; the index by the pointer, under the name that it has in a folder."""
        shutil.rmtree(atlas, ignore_errors=True)
        for key in self._keys(atlas):
            path = atlas.parent / key
            path.parent.mkdir(parents=True, exist_ok=True)
            self._client.download_file("faults", key, str(path))
        pointer = json.loads((atlas / "index.json").read_bytes())
        shutil.copy(atlas / "index" / f"{pointer['sha256']}.duckdb", atlas / "atlas.duckdb")
        return atlas

    def remove(self, atlas: Path) -> None:
        shutil.rmtree(atlas)
        for key in list(self._keys(atlas)):
            self._client.delete_object(Bucket="faults", Key=key)

    def left_over(self) -> list[str]:
        return [f"{path.name} is left in TMPDIR" for path in (self.folder / "tmp").glob("foldatlas-*")]

    def reached(self, atlas: Path, phase: str, shards: int) -> Condition:
        begin = len(self.way.requests)

        def count(method: str, table: str, since: int) -> int:
            wanted = f"/faults/{atlas.name}/{table}/"
            return sum(said == method and path.startswith(wanted) for said, path in self.way.requests[since:])

        def at_shard() -> bool:
            return count("PUT", "manifest", 0) >= shards

        conditions: dict[str, Condition] = {
            "starting": lambda: True,
            "planning": lambda: count("PUT", ".staging", begin) > 0,
            "folding": lambda: count("GET", "sequences", begin) > 0 and at_shard(),
            "committing": lambda: count("PUT", "structures", begin) > count("PUT", "manifest", begin) and at_shard(),
            "indexing": lambda: count("GET", "scores", begin) + count("PUT", "index", begin) > 0,
        }
        return conditions[phase]


@contextlib.contextmanager
def opened(where: str, folder: Path, environment: dict[str, str]) -> Iterator[Folder]:
    """The place called `where`, until the block ends. `environment` is what processes that fold need."""
    with contextlib.ExitStack() as stack:
        if where == "store":
            import s3_server

            endpoint = stack.enter_context(s3_server.served())
            yield Store(folder, endpoint, stack.enter_context(s3_server.on_the_way_to(endpoint)))
        elif where == "dask":
            place = SharedCluster(folder, environment)
            stack.callback(place.cluster.end)
            yield place
        else:
            yield {"folder": Folder, "workers": OwnWorkers}[where](folder)


WHERE = ("folder", "store", "workers", "dask")
