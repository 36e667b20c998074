#!/bin/sh
# Make the test environment and pass the tests, subprocesses measured. Arguments go to pytest, and then nothing is asked
# of the coverage.
set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh
make_environment .venv . sandbox,dev
# A shell in which a scenario was chosen must not strike the tests.
eval "$(env | sed -n 's/^\(AMI_[A-Z0-9_]*\)=.*/unset \1;/p')"
unset PYTHONDONTWRITEBYTECODE # every start of an interpreter would compile everything again
COVERAGE_FILE=$PWD/.coverage
export COVERAGE_FILE
.venv/bin/python -m coverage erase
run="-n 4 --dist worksteal" # more than there are processors: many tests wait
# shellcheck disable=SC2086  # the options are words of our own
if [ $# -gt 0 ]; then
    .venv/bin/python -m coverage run -m pytest $run "$@"
    exit 0
fi
.venv/bin/python -m pytest --collect-only --quiet >/dev/null # once, or each of the test processes would compile them all
TEST_ENVIRONMENTS=$(mktemp -d) # those that the first part makes serve the second as well
export TEST_ENVIRONMENTS
trap 'rm -rf "$TEST_ENVIRONMENTS"' EXIT
trap 'exit 1' HUP INT TERM
# shellcheck disable=SC2086
.venv/bin/python -m pytest $run -m 'untraced or browser'
# shellcheck disable=SC2086
.venv/bin/python -m coverage run -m pytest $run -m 'not (untraced or browser)'
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
