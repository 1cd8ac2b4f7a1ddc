# shellcheck shell=bash
# The image of one Slurm version, and the base image below it.

# Slurm's version follows from Debian's.
debian_of() {
    case $1 in
        22.05) echo bookworm ;;
        24.11) echo trixie ;;
        26.05) echo forky ;;
        *) usage_error "--slurm is '$1'; wanted 22.05, 24.11 or 26.05" ;;
    esac
}

# Testing's release files are only valid for a week, and mirrors may lag.
apt_conf_of() {
    case $1 in
        forky) echo 'Acquire::Check-Valid-Until "false";' ;;
    esac
}

image_exists() { docker image inspect "$1" >/dev/null 2>&1; }

# Newer releases than the installed debootstrap knows use sid's script.
bootstrap_script() {
    local scripts=/usr/share/debootstrap/scripts
    if [[ -e $scripts/$1 ]]; then echo "$scripts/$1"; else echo "$scripts/sid"; fi
}

# bootstrap SUITE IMAGE: make the base image from Debian's packages.
bootstrap() {
    local suite=$1 image=$2 mirror=${DOCKER_SLURM_MIRROR:-http://deb.debian.org/debian} root
    is_root || fail "no registry has $image for this machine, and only root can make it with debootstrap: run this as root once"
    have debootstrap || apt_install "debootstrap" debootstrap debian-archive-keyring
    say "making $image with debootstrap (about half a minute)"
    root=$(mktemp -d)
    if ! debootstrap --variant=minbase "$suite" "$root" "$mirror" "$(bootstrap_script "$suite")" >"$CACHE/debootstrap.log" 2>&1; then
        tail -n 5 "$CACHE/debootstrap.log" >&2
        rm -rf "$root"
        fail "debootstrap failed; its output is in $CACHE/debootstrap.log"
    fi
    # /dev, /etc/resolv.conf and the like are Docker's to provide.
    tar -C "$root" --exclude='./dev/*' --exclude=./etc/resolv.conf --exclude='./var/cache/apt/*' -c . \
        | docker import - "$image" >/dev/null
    rm -rf "$root"
}

ensure_base() {
    local suite=$1 image=$2
    image_exists "$image" && return
    say "getting $image"
    timeout "${DOCKER_SLURM_PULL_TIMEOUT:-60}" docker pull --quiet "$image" >/dev/null 2>&1 && return
    bootstrap "$suite" "$image"
}

build_image() {
    local release=$1 image=$2 suite base
    suite=$(debian_of "$release")
    base=debian:$suite-slim
    ensure_base "$suite" "$base"
    say "building $image (about half a minute)"
    docker build --tag "$image" --build-arg "BASE=$base" --build-arg "SLURM=$release" \
        --build-arg "APT_CONF=$(apt_conf_of "$suite")" "$HERE/image" >"$CACHE/build.log" 2>&1 && return
    tail -n 15 "$CACHE/build.log" >&2
    fail "docker build failed; its output is in $CACHE/build.log"
}

# add_packages PACKAGE,...: sets IMAGE to one that has them, too. What the Dockerfile keeps out of a package
# (path-exclude) is there where the package is among those named.
add_packages() {
    local packages=${1//,/ } base=$IMAGE
    IMAGE=$base-with-$(sha256sum <<<"$packages" | cut -c 1-12)
    image_exists "$IMAGE" && return
    say "adding $packages to $base"
    docker build --tag "$IMAGE" - >"$CACHE/build.log" 2>&1 <<DOCKERFILE && return
FROM $base
RUN rm -f /etc/dpkg/dpkg.cfg.d/docker-slurm \
 && apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends --reinstall $packages \
 && apt-get clean \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
DOCKERFILE
    tail -n 15 "$CACHE/build.log" >&2
    fail "$packages could not be added; the output of docker build is in $CACHE/build.log"
}

# ensure_image RELEASE PACKAGE,...: sets IMAGE; its tag changes with what it is made from.
ensure_image() {
    local release=$1 packages=$2
    IMAGE=docker-slurm:$release-$(cd "$HERE/image" && checksum -- *)
    image_exists "$IMAGE" || build_image "$release" "$IMAGE"
    [[ -z $packages ]] || add_packages "$packages"
}
