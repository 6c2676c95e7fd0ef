#!/bin/sh
# A class that writes: sets up all it needs in .venv on its first run, serves the class page and /debug/kvs on this
# machine alone, and prints their addresses. Ctrl-C stops it.
#
#   sh devdata/demo.sh [FOLDER] [--students 12] [--speed 1] [--port 8888]
#
# The state is kept in .lo_kvs of the folder, or of the checkout; the next start shows it again.
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
        mkdir -p "$1" && cd "$1" || fail "the state cannot be kept in $1; name another folder."
        shift
        ;;
esac
mkdir -p .lo_kvs || fail "the state cannot be kept in $PWD; name another folder, as in: sh devdata/demo.sh FOLDER"
exec python -m devdata.demo "$@"
