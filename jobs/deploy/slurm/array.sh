#!/usr/bin/env bash
# Folds on Slurm with no engine at all: an array of independent tasks, each a part of the shards on one GPU.
#
#   jobs/deploy/slurm/array.sh TASKS FASTA ATLAS [OPTIONS THAT foldatlas plan AND fold SHARE]
#   jobs/deploy/slurm/array.sh 64 proteins.fasta atlas --model esmfold_v1 --weights models --device cuda
#   SBATCH_PARTITION=gpu SBATCH_TIMELIMIT=24:00:00 jobs/deploy/slurm/array.sh ...
#
# Plans here (a job for a machine with memory, not for a login node, if there are millions of proteins), then submits
# the array, then the index, which waits for it. A task that dies, is preempted or runs out of time costs the shard in
# hand: the same command again submits an array that folds what is missing. Parts are of equal predicted cost, dealt
# once and for all, so the slowest GPU ends last: many more tasks than GPUs even that out.
#
# NOT RUN BY US ON SLURM: tests run this script with an sbatch of their own that runs each task.
set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/$(basename "${BASH_SOURCE[0]}")"

if [ -n "${FOLDATLAS_STEP:-}" ]; then # a job of ours, on its node
    atlas="$2"
    case "$FOLDATLAS_STEP" in
    # `exec`: Slurm's SIGTERM must reach foldatlas, which keeps all finished shards and ends.
    fold) exec foldatlas fold "$@" --part "$((SLURM_ARRAY_TASK_ID + 1))/$FOLDATLAS_PARTS" ;;
    index) exec foldatlas index "$atlas" ;;
    esac
fi

if [ $# -lt 3 ]; then
    sed -n '2,6s/^# \{0,1\}//p' "$here" >&2
    exit 2
fi
tasks="$1"
shift
case "$tasks" in
'' | *[!0-9]* | 0*)
    echo "array.sh: $tasks is no number of tasks: array.sh TASKS FASTA ATLAS ..." >&2
    exit 2
    ;;
esac

foldatlas plan "$@"
# --signal: SIGTERM two minutes before the time is up. Requeued when preempted: it goes on where it was.
fold=$(FOLDATLAS_STEP=fold FOLDATLAS_PARTS="$tasks" sbatch --parsable --export=ALL --job-name=foldatlas \
    --array="0-$((tasks - 1))" --ntasks=1 --gpus-per-task=1 --cpus-per-task=4 --mem=32G \
    --signal=TERM@120 --requeue --open-mode=append "$here" "$@")
# afterany: an index of what there is, also when some tasks failed.
index=$(FOLDATLAS_STEP=index sbatch --parsable --export=ALL --job-name=foldatlas-index \
    --dependency="afterany:${fold%%;*}" --ntasks=1 --cpus-per-task=4 --mem=16G "$here" "$@")
echo "array.sh: array job ${fold%%;*} of $tasks tasks, then index job ${index%%;*}; watch: foldatlas status $2"
