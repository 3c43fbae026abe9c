#!/usr/bin/env bash
# Fold on Slurm without an engine: an array of independent tasks, each a part of the shards, then the index.
#
#   jobs/deploy/slurm/array.sh TASKS FASTA ATLAS [--sbatch-OPTION[=VALUE] ...] [OPTIONS OF foldatlas plan AND fold]
#   jobs/deploy/slurm/array.sh 64 proteins.fasta atlas --model esmfold_v1 --weights models --device cuda
#   jobs/deploy/slurm/array.sh 640%64 proteins.fasta atlas --model nano --sbatch-partition=cpu --sbatch-time=8:00:00
#   SBATCH_PARTITION=gpu SBATCH_ACCOUNT=lab SBATCH_GRES=gpu:a100:1 jobs/deploy/slurm/array.sh ...
#
# TASKS%N runs at most N tasks at a time. The plan is made here: for millions of proteins run this script in a job.
# A task asks for one GPU, 4 cores and 32 GB; for nano without --device cuda for 2 cores and 8 GB; with --device cpu for
# 8 cores and 32 GB. Any SBATCH_ variable and any --sbatch-OPTION takes the place of these. --sbatch-OPTION holds for
# the array and the index, but what asks for GPUs holds for the array alone; --index-sbatch-OPTION is for the index.
#
# A task gets SIGTERM two minutes before its time limit and keeps every finished shard. A task that is requeued goes on;
# after one that failed, timed out or was cancelled, the same command submits an array that folds what is missing. Parts
# are of equal predicted cost and fixed by the plan: many more tasks than GPUs even out slow ones.
#
# RUN BY US on one node of Slurm 22.05 (docs/engines.md); GPUs as a generic resource without hardware.
set -euo pipefail

usage() {
    sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2
    exit 2
}

[ $# -ge 3 ] || usage
array="$1"
shift
if [[ ! "$array" =~ ^([1-9][0-9]*)(%[1-9][0-9]*)?$ ]]; then
    echo "array.sh: $array is not a number of tasks: array.sh TASKS FASTA ATLAS ..." >&2
    exit 2
fi
tasks="${BASH_REMATCH[1]}"
limit="${BASH_REMATCH[2]}"

# What is for sbatch, and what for foldatlas.
words=() both=() fold_only=() index_only=()
gpu_given=0
for word in "$@"; do
    case "$word" in
    --sbatch-gres=* | --sbatch-gpus=* | --sbatch-gpus-per-*=* | --sbatch-*-per-gpu=* | --sbatch-gpu-*=*)
        fold_only+=("--${word#--sbatch-}")
        gpu_given=1
        ;;
    --sbatch-*) both+=("--${word#--sbatch-}") ;;
    --index-sbatch-*) index_only+=("--${word#--index-sbatch-}") ;;
    *) words+=("$word") ;;
    esac
done
[ ${#words[@]} -ge 2 ] || usage
atlas="${words[1]}"
for name in SBATCH_GRES SBATCH_GPUS SBATCH_GPUS_PER_NODE SBATCH_GPUS_PER_TASK; do
    [ -z "${!name+set}" ] || gpu_given=1
done

model="" device="" previous=""
for word in "${words[@]}"; do
    case "$word" in
    --) break ;; # Beam's options follow
    --model=*) model="${word#*=}" ;;
    --device=*) device="${word#*=}" ;;
    esac
    case "$previous" in
    --model) model="$word" ;;
    --device) device="$word" ;;
    esac
    previous="$word"
done

# Lines of the job script, not arguments of sbatch: there SBATCH_ variables and arguments override them.
case "$model,$device" in
*,cuda*) cores=4 memory=32G gpu=1 ;;
nano,*) cores=2 memory=8G gpu=0 ;;
*,cpu) cores=8 memory=32G gpu=0 ;;
*) cores=4 memory=32G gpu=1 ;;
esac
gpu_line=""
if [ "$gpu" = 1 ] && [ "$gpu_given" = 0 ]; then
    gpu_line="#SBATCH --gres=gpu:1"
fi

foldatlas plan "${words[@]}"

fold=$(
    sbatch --parsable --array="0-$((tasks - 1))$limit" "${both[@]}" "${fold_only[@]}" <<END
#!/usr/bin/env bash
#SBATCH --job-name=foldatlas
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=$cores
#SBATCH --mem=$memory
$gpu_line
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
# exec: the signal is for this process (B:), so foldatlas must be it.
exec foldatlas fold --part "\$((SLURM_ARRAY_TASK_ID + 1))/$tasks" $(printf '%q ' "${words[@]}")
END
)
# afterany: an index of what there is, also when some tasks failed.
index=$(
    env -u SBATCH_GRES -u SBATCH_GPUS -u SBATCH_GPUS_PER_NODE -u SBATCH_GPUS_PER_TASK -u SBATCH_MEM_PER_GPU \
        -u SBATCH_CPUS_PER_GPU -u SBATCH_ARRAY_INX sbatch --parsable --dependency="afterany:${fold%%;*}" \
        "${both[@]}" "${index_only[@]}" <<END
#!/usr/bin/env bash
#SBATCH --job-name=foldatlas-index
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=8G
#SBATCH --requeue
#SBATCH --open-mode=append
exec foldatlas index $(printf '%q' "$atlas")
END
)
echo "array.sh: array job ${fold%%;*} of $tasks tasks, then index job ${index%%;*}; watch: foldatlas status $atlas"
