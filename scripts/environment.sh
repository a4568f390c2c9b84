# Sourced by start and test: the virtual environment at .venv and what is installed in it.

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
venv="$root/.venv"
python="$venv/bin/python"

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

# True if the command $1 is a Python that can run the program.
is_recent_python() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

make_venv() {
    local candidate system_python=""
    for candidate in python3.11 python3 python3.12 python3.13 python3.14; do
        if is_recent_python "$candidate"; then
            system_python="$candidate"
            break
        fi
    done
    [ -n "$system_python" ] || fail "Python 3.11 or newer is needed and was not found: install python3.11, then run this again."
    # Debian and Ubuntu ship Python without ensurepip, which venv needs, unless the package is asked for.
    "$system_python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
        fail "$system_python has no venv module: install it (on Debian or Ubuntu: apt install python3-venv), then run this again."
    echo "Making the virtual environment at $venv"
    # --clear also removes the rest of an environment whose making was interrupted.
    "$system_python" -m venv --clear "$venv" || fail "The virtual environment at $venv could not be made."
}

# True if a package was cut off while it was unpacked. pip writes RECORD last, takes a package without one for
# installed, and cannot remove it either.
has_torn_package() {
    local metadata
    for metadata in "$venv"/lib/python*/site-packages/*.dist-info; do
        if [ -d "$metadata" ] && [ ! -f "$metadata/RECORD" ]; then
            return 0
        fi
    done
    return 1
}

# Install the requirements file $1, in the versions of constraints.txt, unless it is installed already. The hash covers
# every file that says what to install. It is written last, so an interrupted installation has none and is repeated.
install_requirements() {
    local stamp="$venv/$1.sha256" hash
    hash="$(cat "$root/pyproject.toml" "$root/constraints.txt" "$root/requirements.txt" "$root/$1" | sha256sum)"
    if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$hash" ]; then
        return
    fi
    if has_torn_package; then
        make_venv
    fi
    echo "Installing $1 into $venv"
    local pip=("$python" -m pip install --disable-pip-version-check --no-input -c "$root/constraints.txt" -r "$root/$1")
    # The files name the project as `.`, the current folder.
    if ! (cd "$root" && "${pip[@]}" </dev/null); then
        fail "Installing $1 failed, for the reason above: check the network and the free disk space, then run this again."
    fi
    printf '%s\n' "$hash" >"$stamp"
}

# Bring .venv up to date with the requirements files named.
prepare() {
    local requirements
    if ! { is_recent_python "$python" && "$python" -m pip --version >/dev/null 2>&1; }; then
        make_venv
    fi
    for requirements in "$@"; do
        install_requirements "$requirements"
    done
}
