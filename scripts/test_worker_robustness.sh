#!/bin/sh
# Run a worker under faults until its job has ended.
#   test_worker_robustness.sh [PIPELINE...]            the real worker (ami worker) against the service it is set up for
#   test_worker_robustness.sh --sandbox [PIPELINE]     a sample worker against a sandbox Antenna; needs nothing
# MAX_RESTARTS and RESTART_DELAY (seconds) hold here as in `ami-fault run`.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)

if [ "${1:-}" = --sandbox ]; then
    shift
    # shellcheck source=scripts/environment.sh
    . "$here/environment.sh"
    make_environment "$here/../.venv" -e "$here/..[sandbox]"
    set -- "$@" --
    ami_fault=$here/../.venv/bin/ami-fault
    options="--sandbox --seed ${AMI_TEST_SEED:-7} --max-deliver 10"
else
    set -- "$@" --
    options=
    ami_fault=$(command -v ami-fault) || {
        echo "error: ami-fault is not on the PATH; activate the worker's environment and: pip install $here/.." >&2
        exit 2
    }
fi
# Names become options: PIPELINE -> --pipeline PIPELINE.
while [ "$1" != -- ]; do
    name=$1
    shift
    set -- "$@" --pipeline "$name"
done
shift
# shellcheck disable=SC2086  # the options are words of our own
exec "$ami_fault" run $options "$@"
