#!/bin/sh
# Run a worker under faults until its job has ended.
#   test_worker_robustness.sh [PIPELINE...]            the real worker (ami worker) against the service it is set up for
#   test_worker_robustness.sh --sandbox [PIPELINE]     a sample worker against a sandbox Antenna; needs nothing
# MAX_RESTARTS and RESTART_DELAY (seconds) hold here as in `ami-fault run`.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=$(dirname -- "$here")

case ${1:-} in
    -h | --help)
        sed -n -e 1d -e '/^#/!q' -e 's/^# \{0,1\}//p' "$0"
        exit 0
        ;;
    --sandbox) ;;
    -*)
        echo "error: there is no option $1; there are --sandbox and --help" >&2
        exit 2
        ;;
esac
if [ "${1:-}" = --sandbox ]; then
    shift
    # shellcheck source=scripts/environment.sh
    . "$here/environment.sh"
    make_environment "$root/.venv" "$root" report,sandbox
    ami_fault=$root/.venv/bin/ami-fault
    # A fixed seed for a first look; ten deliveries, so that what our own faults use up does not hide what is lost.
    options="--sandbox --seed ${AMI_TEST_SEED:-26} --max-deliver 10"
else
    options=
    ami_fault=$(command -v ami-fault) || {
        echo "error: ami-fault is not on the PATH; activate the worker's environment and: pip install $root" >&2
        exit 2
    }
fi
# Names become options: PIPELINE -> --pipeline PIPELINE.
left=$#
while [ "$left" -gt 0 ]; do
    name=$1
    shift
    set -- "$@" --pipeline "$name"
    left=$((left - 1))
done
# shellcheck disable=SC2086  # the options are words of our own
exec "$ami_fault" run $options "$@"
