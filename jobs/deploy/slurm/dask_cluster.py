"""Folds on Slurm with Dask: starts a scheduler here and one Slurm job a GPU, runs `foldatlas fold`, and ends them.

    pip install 'foldatlas[dask,slurm]'
    python dask_cluster.py --gpus 32 --partition gpu --time 24:00:00 -- proteins.fasta atlas --model esmfold_v1

What stands after `--` is for `foldatlas fold`; a last `-- OPTIONS` among it is Beam's. Run it in a job of its own or on
a machine that stays: it is the driver, and when it ends its workers end. Workers that Slurm preempts come back by
themselves and take up shards as they come free, so this evens out slow GPUs, which an array of parts does not.

NOT RUN BY US: tests hold its arguments and its keys; dask-jobqueue and Slurm were not tried.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from foldatlas.pipeline.engines.dask.keys import make_keys, use_keys

PRELOAD = "foldatlas.pipeline.engines.dask.preload"


def parse(arguments: list[str]) -> argparse.Namespace:
    cut = arguments.index("--") if "--" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="dask_cluster.py", usage="%(prog)s --gpus N [OPTIONS] -- FASTA ATLAS ...")
    parser.add_argument("--gpus", type=int, required=True, metavar="N", help="Slurm jobs, one GPU each")
    parser.add_argument("--partition", metavar="NAME", help="of Slurm")
    parser.add_argument("--account", metavar="NAME", help="of Slurm")
    parser.add_argument("--time", default="24:00:00", help="of one Slurm job (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=4, help="processor cores of one job (default: %(default)s)")
    parser.add_argument("--memory", default="32GB", help="host memory of one job (default: %(default)s)")
    parser.add_argument("--gpu-option", default="--gpus=1", help="how sbatch is asked for a GPU (default: %(default)s)")
    parser.add_argument("--interface", metavar="NAME", help="network interface of the scheduler and workers, as ib0")
    parser.add_argument("--shared", default=".", metavar="DIR", help="a folder all nodes see, for keys and logs")
    parsed = parser.parse_args(arguments[:cut])
    parsed.fold = arguments[cut + 1 :]
    if not parsed.fold:
        parser.error("nothing to fold: name FASTA, ATLAS and --model after --")
    return parsed


def fold_command(fold: list[str], address: str) -> list[str]:
    """`foldatlas fold` on the cluster at `address`; Beam's own options, after a `--` in `fold`, stay last."""
    cut = fold.index("--") if "--" in fold else len(fold)
    ours, beam = fold[:cut], fold[cut + 1 :]
    return ["foldatlas", "fold", *ours, "--runner", "DaskRunner", "--", f"--dask_client_address={address}", *beam]


def main(arguments: list[str]) -> int:
    asked = parse(arguments)
    shared = Path(asked.shared).resolve()
    with tempfile.TemporaryDirectory(prefix=".foldatlas-dask-", dir=shared) as keys:  # readable by this user alone
        environment = make_keys(Path(keys))
        security = use_keys(environment)
        from dask_jobqueue import SLURMCluster  # reads Dask's settings

        with SLURMCluster(
            queue=asked.partition,
            account=asked.account,
            walltime=asked.time,
            cores=1,  # threads of a worker: a GPU folds one shard at a time
            processes=1,
            job_cpu=asked.cores,
            memory=asked.memory,
            job_extra_directives=[asked.gpu_option, "--requeue"],
            job_script_prologue=[f"export {name}={value}" for name, value in environment.items()],
            # no memory limit of Dask's: Slurm has one
            worker_extra_args=["--memory-limit", "0", "--no-dashboard", "--preload", PRELOAD],
            log_directory=str(shared),
            interface=asked.interface,
            protocol="tls://",
            security=security,
            scheduler_options={"dashboard": False},
            death_timeout=600,
        ) as cluster:
            cluster.adapt(minimum_jobs=asked.gpus, maximum_jobs=asked.gpus)  # lost jobs are submitted again
            return subprocess.run(fold_command(asked.fold, cluster.scheduler_address), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
