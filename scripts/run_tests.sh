#!/bin/sh
# Make the test environment and pass the tests; arguments go to pytest. COVERAGE=1 in the environment also measures what
# they reach, subprocesses too, and asks that it is enough: half as long again.
set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh
make_environment .venv . sandbox,dev
# A shell in which a scenario was chosen must not strike the tests.
eval "$(env | sed -n 's/^\(AMI_[A-Z0-9_]*\)=.*/unset \1;/p')"
unset PYTHONDONTWRITEBYTECODE # every start of an interpreter would compile everything again
run="-m pytest -n 4 --dist worksteal" # more than there are processors: many tests wait
# shellcheck disable=SC2086  # the options are words of our own
if [ $# -gt 0 ]; then
    exec .venv/bin/python $run "$@"
fi
.venv/bin/python -m pytest --collect-only --quiet >/dev/null # once, or each of the test processes would compile them all
# shellcheck disable=SC2086
if [ -z "${COVERAGE:-}" ]; then
    exec .venv/bin/python $run
fi
COVERAGE_FILE=$PWD/.coverage
TEST_ENVIRONMENTS=$(mktemp -d) # those that the first part makes serve the second as well
export COVERAGE_FILE TEST_ENVIRONMENTS
trap 'rm -rf "$TEST_ENVIRONMENTS"' EXIT
trap 'exit 1' HUP INT TERM
.venv/bin/python -m coverage erase
# shellcheck disable=SC2086
.venv/bin/python $run -m 'untraced or browser'
# shellcheck disable=SC2086
.venv/bin/python -m coverage run $run -m 'not (untraced or browser)'
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
