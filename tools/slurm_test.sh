#!/usr/bin/env bash
# Evaluates on a Slurm cluster, one process a GPU:
#
#     [GPUS=8] [GPUS_PER_NODE=8] [CPUS_PER_TASK=5] [SRUN_ARGS=...] \
#         tools/slurm_test.sh PARTITION JOB CONFIG CHECKPOINT [arguments of tools/test.py]
#
# GPUS_PER_NODE=0 evaluates with GPUS processes on CPUs.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# Of a batch script Slurm runs a copy that stands elsewhere.
[[ -f $here/launch.sh ]] || here=${SLURM_SUBMIT_DIR:-.}/tools
# shellcheck source=tools/launch.sh
source "$here/launch.sh"

[[ $# -ge 4 ]] || complain "usage: $0 PARTITION JOB CONFIG CHECKPOINT [arguments of tools/test.py]."
partition=$1 job=$2 config=$3 checkpoint=$4
shift 4
slurm_step "$partition" "$job" "$here/test.py" "$config" "$checkpoint" --launcher slurm "$@"
