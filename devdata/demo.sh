#!/bin/sh
# The demo: a server and a simulated class of students who write. The first run installs what it needs in .venv. It serves
# the class page and /debug/kvs to this machine alone, and prints their URLs. Ctrl-C stops it.
#
#   sh devdata/demo.sh [DIRECTORY] [--students 12] [--speed 1] [--port 8888]
#
# The state is kept in .lo_kvs in the directory, by default in the checkout; the next start shows it again.
set -eu
where=$PWD
cd "$(dirname "$0")/.."
. devdata/venv.sh
make_venv
PYTHONPATH=$PWD
export PYTHONPATH
case ${1:--} in
    -*) ;;
    *)
        cd "$where"
        mkdir -p "$1" && cd "$1" || fail "the state cannot be kept in $1; give another directory."
        shift
        ;;
esac
mkdir -p .lo_kvs || fail "the state cannot be kept in $PWD; give another directory, as in: sh devdata/demo.sh DIRECTORY"
exec python -m devdata.demo "$@"
