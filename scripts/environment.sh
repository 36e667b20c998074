# Sourced by the other scripts: find a Python that is new enough, and make .venv from it if there is none.
# shellcheck shell=sh

find_python() {
    for candidate in ${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
            echo "$candidate"
            return 0
        fi
    done
    echo "error: Python 3.10 or newer is needed and none was found; install one, or name one: PYTHON=/path/to/python3" >&2
    return 1
}

make_environment() { # make_environment DIRECTORY CHECKOUT EXTRAS
    stamp=$1/.installed-$3
    clear=--clear
    if [ -x "$1/bin/python" ]; then
        clear= # one that was being made when somebody stopped it is only made whole
    fi
    if [ -n "$clear" ] || { [ ! -f "$stamp" ] && ! "$1/bin/python" -m pip --version >/dev/null 2>&1; }; then
        python=$(find_python) || return 1
        if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "error: $python has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2
            return 1
        fi
        echo "making $1 with $("$python" --version)" >&2
        # shellcheck disable=SC2086  # nothing, or one word
        "$python" -m venv $clear "$1" || return 1
    fi
    # Nothing to do if these extras are in and what the package needs has not changed since.
    if [ ! -f "$stamp" ] || [ -n "$(find "$2/pyproject.toml" -newer "$stamp")" ]; then
        echo "installing ami-fault-site[$3] into $1" >&2
        # Not compiled: Python does that with what is used, which is a small part.
        "$1/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check --no-warn-script-location \
            -e "$2[$3]" || return 1
        : >"$stamp"
    fi
}
