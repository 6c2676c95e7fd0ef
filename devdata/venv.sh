# Functions that make the virtual environment of a checkout, to be sourced by scripts whose working directory it is.

fail() { echo "$0: $*" >&2; exit 1; }

# install_package NAME…: install packages of the system, if this user may.
install_package() {
    command -v apt-get >/dev/null 2>&1 && [ "$(id -u)" = 0 ] || return 1
    (
        flock 9 2>/dev/null || true  # one at a time, also of those that run in the background
        echo "Installing $1 ..."
        apt-get install -y -q "$@" >/dev/null 2>&1 || {
            apt-get update -q >/dev/null 2>&1 && apt-get install -y -q "$@" >/dev/null 2>&1
        }
    ) 9<setup.cfg
}

# pip_install …: prints errors only.
pip_install() { .venv/bin/python -m pip install --quiet --quiet --disable-pip-version-check "$@"; }

# find_python: prints the name of a Python that is new enough.
find_python() {
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    fail 'Python 3.11 or newer is required and was not found on the path.'
}

# make_venv [EXTRA]: makes .venv with this package and the packages of an extra of setup.cfg, and puts it on the path.
# It is made again only when setup.cfg or setup.py has changed.
make_venv() {
    extra=${1:-}
    made=.venv/.made${extra:+-$extra}
    wanted=$(cat setup.cfg setup.py | cksum)
    if [ "$(cat "$made" 2>/dev/null || true)" != "$wanted" ]; then
        echo 'Setting up .venv ...'
        python=$(find_python) || exit 1
        if [ ! -x .venv/bin/python ] || [ ! -x .venv/bin/pip ]; then
            "$python" -m venv --clear .venv >/dev/null 2>&1 ||
                { install_package python3-venv && "$python" -m venv --clear .venv; } ||
                fail 'the virtual environment could not be made; install the package python3-venv.'
        fi
        # What is installed is compiled afterwards, by all processors.
        pip_install --no-compile --editable ".${extra:+[$extra]}" || fail 'the packages could not be installed.'
        .venv/bin/python -W ignore -m compileall -qq -j 0 .venv/lib >/dev/null || true
        echo "$wanted" > .venv/.made
        echo "$wanted" > "$made"
    fi
    PATH=$PWD/.venv/bin:$PATH
    export PATH
}
