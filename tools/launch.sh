# shellcheck shell=bash
# What the launching scripts share; sourced, not run.

complain() {
    echo "error: $1" >&2
    exit 2
}

# A whole number of at least 1.
is_count() {
    [[ $1 =~ ^[1-9][0-9]*$ ]]
}

# How many GPUs a process would see, counted without importing torch; nothing where there is none.
gpus_here() {
    if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
        [[ -z $CUDA_VISIBLE_DEVICES ]] || tr ',' '\n' <<<"$CUDA_VISIBLE_DEVICES" | grep -c .
    elif command -v nvidia-smi >/dev/null; then
        nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU' || true
    fi
}

# launch PROCESSES PROGRAM [arguments]: PROCESSES of PROGRAM on this node, of NNODES.
launch() {
    local processes=$1 gpus nodes=${NNODES:-1} where
    shift
    is_count "$processes" || complain "the number of processes must be a whole number of at least 1, not '$processes'."
    is_count "$nodes" || complain "NNODES must be a whole number of at least 1, not '$nodes'."
    gpus=$(gpus_here)
    if [[ ${gpus:-0} -gt 0 && $processes -gt $gpus ]]; then
        complain "$processes processes need as many GPUs and there are $gpus; ask for fewer (gradients are accumulated to the same batch), or set CUDA_VISIBLE_DEVICES= to train on the CPU."
    fi
    if [[ $nodes -eq 1 ]]; then
        # The rendezvous chooses a port that is free, so that several trainings fit on one machine.
        where=(--rdzv-endpoint=localhost:0)
    else
        [[ -n ${MASTER_ADDR:-} ]] || complain "NNODES=$nodes needs MASTER_ADDR, the host name or address of the first node."
        [[ ${NODE_RANK:-} =~ ^[0-9]+$ && $NODE_RANK -lt $nodes ]] ||
            complain "NNODES=$nodes needs NODE_RANK, 0 on the first node to $((nodes - 1)) on the last."
        where=(--rdzv-endpoint="$MASTER_ADDR:${PORT:-29500}" --rdzv-id="${PORT:-29500}")
        where+=(--rdzv-conf="is_host=$((NODE_RANK == 0))")
    fi
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
    # Else processes that are started again find the addresses of those before them (pytorch/pytorch#135712).
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    exec torchrun --rdzv-backend=c10d --nnodes="$nodes" --nproc-per-node="$processes" "${where[@]}" "$@"
}

# slurm_step PARTITION JOB PROGRAM [arguments]: GPUS of PROGRAM through srun, as a step of the batch job if there is one.
slurm_step() {
    local partition=$1 job=$2 gpus=${GPUS:-8} per_node=${GPUS_PER_NODE:-8} status step extra where
    shift 2
    is_count "$gpus" || complain "GPUS must be a whole number of at least 1, not '$gpus'."
    read -ra extra <<<"${SRUN_ARGS:-}"
    where=(--ntasks="$gpus" --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1)
    if [[ $per_node != 0 ]]; then
        is_count "$per_node" || complain "GPUS_PER_NODE must be a whole number, not '$per_node'."
        [[ $per_node -le $gpus ]] || per_node=$gpus
        where+=(--gres="gpu:$per_node" --ntasks-per-node="$per_node")
    fi
    if [[ -z ${SLURM_JOB_ID:-} ]]; then
        where+=(--partition="$partition" --job-name="$job")
    elif [[ -z ${MASTER_PORT:-} ]]; then
        # Jobs that share a node need ports of their own.
        export MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
    fi
    srun "${where[@]}" "${extra[@]}" python -u "$@" &
    step=$!
    # Slurm signals the step's processes; where it signals this shell, they are told.
    trap 'kill -USR1 "$step" 2>/dev/null || true' USR1
    trap 'kill -TERM "$step" 2>/dev/null || true' TERM
    while kill -0 "$step" 2>/dev/null; do
        wait "$step" || true # a signal ends a wait, too
    done
    status=0
    wait "$step" || status=$?
    if [[ $status -eq 138 && -n ${SLURM_JOB_ID:-} ]]; then
        scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}" || true
    fi
    exit "$status"
}
