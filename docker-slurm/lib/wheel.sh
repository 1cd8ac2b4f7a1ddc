# shellcheck shell=bash
# A project's wheel on the login node, in a virtual environment of its own.
# Dependencies are downloaded by the host, which is the machine that is set up
# to reach a package index, and installed without one.

check_wheel() {
    [[ -z $WHEEL ]] && return
    [[ $WHEEL == *.whl ]] || usage_error "--wheel is '$WHEEL'; wanted a file that ends in .whl"
    [[ -f $WHEEL ]] || fail "--wheel: there is no file '$WHEEL'"
    WHEEL=$(cd "$(dirname "$WHEEL")" && pwd -P)/${WHEEL##*/}
}

# Sets PYTHON to one that has pip.
ensure_pip() {
    local venv=$CACHE/pip
    for PYTHON in python3 "$venv/bin/python"; do
        "$PYTHON" -m pip --version >/dev/null 2>&1 && return
    done
    have python3 || apt_install "python3" python3 python3-venv
    rm -rf "$venv"
    if ! python3 -m venv "$venv" >/dev/null 2>&1; then
        apt_install "python3-venv" python3-venv
        python3 -m venv --clear "$venv" >&2 || fail "python3 can make no virtual environment in $venv"
    fi
}

run_pip() {
    local log=$CACHE/pip-$CLUSTER.log
    "$PYTHON" -m pip --disable-pip-version-check "$@" >"$log" 2>&1 && return
    tail -n 15 "$log" >&2
    fail "'pip $1' failed; its output is in $log"
}

# What the wheel is built from, changes that are not committed included.
source_checksum() {
    cd "$1" || return
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard -- . ":!${HERE##*/}"
    else
        find . -name .git -prune -o -path "./${HERE##*/}" -prune -o -type f -print0 | sort -z
    fi | while IFS= read -r -d '' file; do
        [[ -f $file ]] && printf '%s\0' "$file"
    done | xargs -0 sha256sum | sha256sum | cut -c 1-12
}

# Sets WHEEL to one built from the project folder, unless that is built already.
# Builds of a week ago are of no use to anybody.
build_wheel() {
    local project=$1 folder fresh
    folder=$CACHE/built/$(source_checksum "$project")
    if ! compgen -G "$folder/*.whl" >/dev/null; then
        find "$CACHE/built" -mindepth 1 -maxdepth 1 -mtime +7 -exec rm -rf {} + 2>/dev/null || true
        ensure_pip
        say "building a wheel of $project"
        fresh=$(mktemp -d "$CACHE/new.XXXXXX")
        run_pip wheel --no-deps --wheel-dir "$fresh" "$project"
        keep "$fresh" "$folder"
    fi
    WHEEL=$(compgen -G "$folder/*.whl" | head -n 1)
}

# requirements WHEEL: the lines of its metadata that decide what must come with it.
requirements() {
    "$PYTHON" - "$1" <<'PYTHON'
import sys
import zipfile

wheel = zipfile.ZipFile(sys.argv[1])
path = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
header = wheel.read(path).decode().partition("\n\n")[0]
for line in header.splitlines():
    if line.startswith(("Requires-Dist:", "Requires-Python:")):
        print(line)
PYTHON
}

# keep NEW FOLDER: whoever is first wins, an `up` of another cluster may be too.
keep() {
    mkdir -p "${2%/*}"
    mv --no-target-directory "$1" "$2" 2>/dev/null || rm -rf "$1"
}

# download_dependencies PYTHON_VERSION MACHINE: sets WHEELHOUSE. Kept for as
# long as the wheel wants the same, so a changed project needs no index.
download_dependencies() {
    local version=$1 machine=$2 platforms=() tag fresh
    ensure_pip
    WHEELHOUSE=$CACHE/wheelhouse/$version-$machine-$(requirements "$WHEEL" | sha256sum | cut -c 1-12)
    [[ -d $WHEELHOUSE ]] && return
    for tag in manylinux_2_34 manylinux_2_28 manylinux_2_17 manylinux2014 manylinux2010 manylinux1 linux; do
        platforms+=(--platform "${tag}_$machine")
    done
    say "downloading what ${WHEEL##*/} depends on, for Python $version"
    fresh=$(mktemp -d "$CACHE/new.XXXXXX")
    run_pip download --only-binary=:all: --python-version "$version" --implementation cp \
        "${platforms[@]}" --dest "$fresh" "$WHEEL"
    rm -f "$fresh/${WHEEL##*/}"
    keep "$fresh" "$WHEELHOUSE"
}

put_wheel() {
    local venv=$1 checksum=$2 box=$CLUSTER-login python
    # shellcheck disable=SC2016  # for the shell in the container
    python=$(docker exec "$box" sh -c 'python3 -c "import sys; print(\"%d.%d\" % sys.version_info[:2])"; uname -m')
    # shellcheck disable=SC2086  # two words
    download_dependencies $python
    say "installing ${WHEEL##*/} on the login node"
    docker exec "$box" rm -rf /opt/wheelhouse
    docker cp "$WHEELHOUSE" "$box:/opt/wheelhouse" >/dev/null 2>&1
    docker cp "$WHEEL" "$box:/opt/wheelhouse/" >/dev/null 2>&1
    docker exec "$box" chmod -R a+rX /opt/wheelhouse # for users' own environments
    docker exec "$box" install-wheel "$venv" "/opt/wheelhouse/${WHEEL##*/}" "$checksum" >&2 \
        || fail "${WHEEL##*/} could not be installed on the login node; see above"
}

install_wheel() {
    local project=${HERE%/*} venv checksum
    [[ $WITH_WHEEL == yes ]] || return 0
    if [[ -z $WHEEL ]]; then
        [[ -f $project/pyproject.toml ]] || return 0
        build_wheel "$project"
    fi
    venv=${WHEEL##*/}
    venv=/opt/${venv%%-*}
    checksum=$(sha256sum <"$WHEEL" | cut -c 1-64)
    [[ $(docker exec "$CLUSTER-login" cat "$venv/.checksum" 2>/dev/null) == "$checksum" ]] && return
    put_wheel "$venv" "$checksum"
}
