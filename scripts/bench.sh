#!/bin/sh
# Measure what this package promises beside what people use in its place; writes bench.md and bench.json. --help says more.
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
# shellcheck source=scripts/environment.sh
. "$root/scripts/environment.sh"
make_environment "$root/.venv" "$root" sandbox,dev
PYTHONPATH=$root exec "$root/.venv/bin/python" -m tests.bench "$@"
