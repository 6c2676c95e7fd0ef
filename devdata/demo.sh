#!/bin/sh
# A class that writes: sets up all it needs in .venv on its first run, serves the class page and /debug/kvs on this
# machine alone, and prints their addresses. Ctrl-C stops it.
#
#   sh devdata/demo.sh             keeps its state in .lo_kvs of the checkout
#   sh devdata/demo.sh /some/where keeps it in .lo_kvs of that folder
set -eu
case ${1:-} in
    -h | --help) sed -n 's/^# \{0,1\}//p' "$0"; exit ;;
esac
where=$PWD
cd "$(dirname "$0")/.."
. devdata/venv.sh
make_venv
PYTHONPATH=$PWD
export PYTHONPATH
if [ $# -gt 0 ]; then
    cd "$where"
    mkdir -p -- "$1"
    cd -- "$1"
    shift
fi
exec python -m devdata.demo "$@"
