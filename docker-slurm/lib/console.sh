# shellcheck shell=bash
# What all commands share: the cluster's name, words and endings.

CLUSTER=${DOCKER_SLURM_NAME:-docker-slurm}
CACHE=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/docker-slurm
export DOCKER_SLURM_NAME=$CLUSTER

# Daemons and package tools live in sbin, which is not in everybody's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "docker-slurm: $*" >&2; }

fail() {
    say "$*"
    exit 1
}

usage_error() {
    say "$*"
    say "see '$0 --help'"
    exit 2
}

# need_value OPTION REMAINING: an option's value must be there.
need_value() { (($2 >= 2)) || usage_error "$1 wants a value"; }

check_name() {
    [[ $CLUSTER =~ ^[a-z0-9][a-z0-9_-]*$ ]] \
        || usage_error "DOCKER_SLURM_NAME is '$CLUSTER'; wanted lower-case letters, digits, '-' and '_'"
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { ((EUID == 0)); }

make_cache() {
    mkdir -p "$CACHE" 2>/dev/null || true
    [[ -w $CACHE ]] || fail "'$CACHE' cannot be written to; set XDG_CACHE_HOME to a folder that can"
}

# apt_install WHY PACKAGE...: only root may, and only where there is apt.
apt_install() {
    local why=$1
    shift
    have apt-get || fail "$why is missing and this machine has no apt-get: install $* (or the like) and try again"
    is_root || fail "$why is missing: as root, run 'apt-get install $*', then try again"
    say "installing $* ($why is missing)"
    # A third-party source that does not answer is no reason to stop here.
    apt-get update -qq >/dev/null 2>&1 || true
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$CACHE/apt.log" 2>&1 \
        || fail "apt-get could not install $*; its output is in $CACHE/apt.log"
}

# checksum FILE...: of names and contents.
checksum() { sha256sum "$@" | sha256sum | cut -c 1-12; }
