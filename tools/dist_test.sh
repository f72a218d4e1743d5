#!/usr/bin/env bash
# Evaluates with several processes, one a GPU (or, where there is no GPU, on the CPU over gloo):
#
#     tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
#
# Variables as for tools/dist_train.sh.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tools/launch.sh
source "$here/launch.sh"

[[ $# -ge 3 ]] || complain "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/test.py]."
config=$1 checkpoint=$2 processes=$3
shift 3
launch "$processes" "$here/test.py" "$config" "$checkpoint" --launcher pytorch "$@"
