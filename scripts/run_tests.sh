#!/bin/sh
# Make the test environment and pass the tests, with coverage (subprocesses measured). Arguments go to pytest.
set -eu
cd -- "$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh
make_environment .venv -e '.[sandbox,dev]'
unset_ours=$(env | sed -n 's/^\(AMI_[A-Z0-9_]*\)=.*/-u \1/p')
# shellcheck disable=SC2086  # words of our own
exec env $unset_ours .venv/bin/python -m tests.measure "$@"
