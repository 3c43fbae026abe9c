#!/usr/bin/env bash
# Fold on Slurm without an engine: an array of independent tasks that fold one part of the shards each, then the index.
#
#   jobs/deploy/slurm/array.sh TASKS FASTA ATLAS [--sbatch-OPTION[=VALUE] ...] [OPTIONS OF foldatlas plan AND fold]
#   jobs/deploy/slurm/array.sh 64 proteins.fasta atlas --model esmfold_v1 --weights models --device cuda
#   jobs/deploy/slurm/array.sh 640%64 proteins.fasta atlas --model nano --sbatch-partition=cpu --sbatch-time=8:00:00
#   SBATCH_PARTITION=gpu SBATCH_ACCOUNT=lab SBATCH_GRES=gpu:a100:1 jobs/deploy/slurm/array.sh ...
#
# TASKS%N runs at most N tasks at a time. The plan is made by this script: run it in a job for millions of proteins.
# A task requests one GPU, 4 cores and 32 GB; for nano without --device cuda 2 cores and 8 GB; with --device cpu 8 cores
# and 32 GB. SBATCH_ variables and --sbatch-OPTION override these. --sbatch-OPTION applies to the array and the index,
# except that options for GPUs apply only to the array; --index-sbatch-OPTION applies only to the index.
#
# A task gets SIGTERM two minutes before its time limit and keeps every committed shard. A requeued task resumes.
# If a task failed, timed out or was cancelled, run the same command again: it submits an array that folds what is
# missing. Parts have equal predicted cost and are fixed by the plan; with slow GPUs, use many more tasks than GPUs.
#
# RUN BY US on one node of Slurm 22.05 (docs/engines.md); GPUs only as a generic resource without hardware.
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

# Separate the options of sbatch from those of foldatlas.
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

# These become lines of the job script, which SBATCH_ variables and arguments of sbatch override.
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
# exec: Slurm signals only this process (B:), so it must become foldatlas.
exec foldatlas fold --part "\$((SLURM_ARRAY_TASK_ID + 1))/$tasks" $(printf '%q ' "${words[@]}")
END
)
# afterany: build the index also when some tasks failed.
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
