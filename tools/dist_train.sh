#!/usr/bin/env bash
# Trains with several processes, one a GPU (or, where there is no GPU, on the CPU over gloo):
#
#     tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
#
# GPUS is the number of processes on this node. On one node torchrun finds a free port. On several, call it on each with
# NNODES, NODE_RANK, MASTER_ADDR and, unless 29500 is free, PORT. torchrun's own variables work as well:
# PET_MAX_RESTARTS=3 starts all processes again when one has died, from the newest intact checkpoint.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/launch.sh
source "$here/launch.sh"

[[ $# -ge 2 ]] || complain "usage: $0 CONFIG GPUS [arguments of tools/train.py]."
config=$1 processes=$2
shift 2
launch "$processes" "$here/train.py" "$config" --launcher pytorch "$@"
