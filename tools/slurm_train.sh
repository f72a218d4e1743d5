#!/usr/bin/env bash
# Trains on a Slurm cluster, one process a GPU:
#
#     [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#         tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR [arguments of tools/train.py]
#
# As a batch job, submitted from the repository's folder, it outlives its time limit and preemption; an array trains a
# seed a task, each in WORK_DIR/seed_N:
#
#     sbatch --requeue --open-mode=append --signal=USR1@180 --array=0-4 ... \
#         tools/slurm_train.sh PARTITION JOB CONFIG WORK_DIR
#
# 180 seconds before the limit Slurm sends SIGUSR1: the training writes a checkpoint and ends with status 138, and the
# job goes back into the queue. At SIGTERM it does the same with status 143, but does not ask for the queue: who preempts
# requeues by himself, and who cancels does not want it. A job that Slurm has started again resumes by itself.
# GPUS_PER_NODE=0 trains with GPUS processes on CPUs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Of a batch script Slurm runs a copy that stands elsewhere.
[[ -f $here/launch.sh ]] || here=${SLURM_SUBMIT_DIR:-.}/tools
# shellcheck source=tools/launch.sh
source "$here/launch.sh"

[[ $# -ge 4 ]] || complain "usage: $0 PARTITION JOB CONFIG WORK_DIR [arguments of tools/train.py]."
partition=$1 job=$2 config=$3 work_dir=$4
shift 4
seed=()
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    work_dir=$work_dir/seed_$SLURM_ARRAY_TASK_ID
    seed=(--seed "$SLURM_ARRAY_TASK_ID")
fi
slurm_step "$partition" "$job" "$here/train.py" "$config" --work-dir "$work_dir" --launcher slurm "${seed[@]}" "$@"
