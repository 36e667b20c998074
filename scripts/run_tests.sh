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
COVERAGE_FILE=$PWD/.coverage
export COVERAGE_FILE
.venv/bin/python -m coverage erase
.venv/bin/python -m coverage run -m pytest -n 4 --dist worksteal "$@"
[ $# -eq 0 ] || exit 0
.venv/bin/python -m coverage combine --quiet
.venv/bin/python -m coverage report
