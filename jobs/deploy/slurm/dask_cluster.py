"""Fold on Slurm with Dask: start a scheduler and one Slurm job per GPU, run `foldatlas fold`, and end them.

    pip install 'foldatlas[dask,slurm]'
    python dask_cluster.py --gpus 32 --partition gpu --time 24:00:00 -- proteins.fasta atlas --model esmfold_v1

Arguments after `--` are for `foldatlas fold`, and a second `-- OPTIONS` among them is for Beam. Run this script in a
job of its own or on a login node that allows long processes: it is the driver, and its workers end with it. Workers
that Slurm preempts are requeued and take shards as they become free, so slow GPUs get fewer shards, unlike in an array.

`--sbatch-OPTION=VALUE` adds any other option of sbatch (`--sbatch-constraint=a100`); `--gpu-option=` requests no GPU.

RUN BY US on one node of Slurm 22.05 with dask-jobqueue 0.9, with one of two workers killed; not with real GPUs.
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
    parser.add_argument("--gpus", type=int, required=True, metavar="N", help="number of Slurm jobs, with one GPU each")
    parser.add_argument("--partition", metavar="NAME", help="Slurm partition")
    parser.add_argument("--account", metavar="NAME", help="Slurm account")
    parser.add_argument("--time", default="24:00:00", help="time limit of one Slurm job (default: %(default)s)")
    parser.add_argument("--cores", type=int, default=4, help="processor cores of one job (default: %(default)s)")
    parser.add_argument("--memory", default="32GB", help="host memory of one job (default: %(default)s)")
    parser.add_argument(
        "--gpu-option", default="--gpus=1", help="option of sbatch that requests a GPU (default: %(default)s)"
    )
    parser.add_argument(
        "--interface", metavar="NAME", help="network interface of scheduler and workers, for example ib0"
    )
    parser.add_argument(
        "--shared", default=".", metavar="DIR", help="folder that all nodes can access, for keys and logs"
    )
    ours = arguments[:cut]
    parsed = parser.parse_args([word for word in ours if not word.startswith("--sbatch-")])
    parsed.sbatch = [f"--{word.removeprefix('--sbatch-')}" for word in ours if word.startswith("--sbatch-")]
    parsed.fold = arguments[cut + 1 :]
    if not parsed.fold:
        parser.error("nothing to fold: give FASTA, ATLAS and --model after --")
    return parsed


def fold_command(fold: list[str], address: str) -> list[str]:
    """Return the `foldatlas fold` command for the cluster at `address`, with Beam's own options last."""
    cut = fold.index("--") if "--" in fold else len(fold)
    ours, beam = fold[:cut], fold[cut + 1 :]
    return ["foldatlas", "fold", *ours, "--runner", "DaskRunner", "--", f"--dask_client_address={address}", *beam]


def main(arguments: list[str]) -> int:
    asked = parse(arguments)
    shared = Path(asked.shared).resolve()
    with tempfile.TemporaryDirectory(prefix=".foldatlas-dask-", dir=shared) as keys:  # readable by this user alone
        environment = make_keys(Path(keys))
        security = use_keys(environment)
        from dask_jobqueue import SLURMCluster  # imported after the settings that it reads

        with SLURMCluster(
            queue=asked.partition,
            account=asked.account,
            walltime=asked.time,
            cores=1,  # threads of a worker: a GPU folds one shard at a time
            processes=1,
            job_cpu=asked.cores,
            memory=asked.memory,
            job_extra_directives=[*filter(None, [asked.gpu_option]), "--requeue", *asked.sbatch],
            job_script_prologue=[f"export {name}={value}" for name, value in environment.items()],
            # Slurm limits the memory, not Dask
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
