#!/bin/bash
# A worker under faults on a Slurm node until its job has ended. From the worker's environment, which sbatch hands on:
#
#   export AMI_ANTENNA_API_AUTH_TOKEN=... AMI_ANTENNA_SERVICE_NAME=... AMI_TEST_ACK_WAIT=300
#   sbatch slurm.sh --profile medium --job 12 -- ami worker --pipeline moth_binary
#
# The arguments are options of the run. Each start of the Slurm job is an attempt with a run folder of its own, since
# a folder holds one run; the exit code is the verdict on all attempts together.
#SBATCH --job-name=ami-faults
#SBATCH --output=%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --time=02:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --gpus=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=32G
set -u

# 80 minutes of work in order, 5 more if it hangs, 30 for the service's reaper: within the two hours above.
limit=${TIME_LIMIT:-80m} at_last=${HARD_LIMIT:-85m} patience=${PATIENCE:-30m}
# On a scratch that all nodes share, an attempt whose node was lost is still judged.
scratch=${SCRATCH:-${TMPDIR:-/tmp}}/ami-faults-$SLURM_JOB_ID
kept=$SLURM_SUBMIT_DIR/ami-fault-runs
attempt=slurm-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}
# An image that is bad in one attempt is bad in all.
export AMI_TEST_SEED=${AMI_TEST_SEED:-$SLURM_JOB_ID}

child='' stopped='' heard=''
# shellcheck disable=SC2329  # the trap calls it
stop() {
    stopped=yes heard=yes
    [ -z "$child" ] || kill -TERM "$child"
}
trap stop TERM

in_order() { # in_order COMMAND...: our SIGTERM goes to it, and its exit code to $status
    "$@" &
    child=$!
    heard=yes
    while [ -n "$heard" ]; do # a signal ends the wait, and not the command
        heard=''
        wait "$child"
        status=$?
    done
    child=''
}

judge() { # judge PATIENCE: all attempts, as far as their folders are still there
    cp -R "$scratch/." "$kept/" || echo "the run folders are still in $scratch" >&2
    in_order ami-fault check --wait "$1" "$kept/slurm-$SLURM_JOB_ID"-*
}

mkdir -p "$scratch" "$kept" || exit 2
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
    judge 5s
    case $status in 0 | 1) exit "$status" ;; esac # decided before the node was taken: there is nothing left to do
fi
# Without --foreground, timeout passes SIGTERM on twice, and asked twice a run kills its worker at once.
in_order timeout --foreground --preserve-status --kill-after=60 "$at_last" \
    ami-fault run --run-dir "$scratch/$attempt" --time-limit "$limit" "$@"
case $status in 2 | 78) exit "$status" ;; esac # nothing was tested
[ -z "$stopped" ] || patience=5s               # the node is wanted back
judge "$patience"
exit "$status"
