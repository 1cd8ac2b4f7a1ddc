# shellcheck shell=bash
# A docker engine that answers, and a compose that drives it.

DOCKERD_LOG=${DOCKER_SLURM_DOCKERD_LOG:-/var/log/dockerd.log}

engine_answers() { docker info >/dev/null 2>&1; }

# drop_stale_pid FILE PROGRAM: a killed daemon leaves its pid file behind, and
# the next one believes it when another process has that number by now.
drop_stale_pid() {
    local file=$1 program=$2 pid
    [[ -f $file ]] || return 0
    pid=$(<"$file")
    if [[ $(cat "/proc/$pid/comm" 2>/dev/null) != "$program"* ]]; then
        say "removing $file: process $pid is not $program"
        rm -f "$file"
    fi
}

launch_engine() {
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker
        return
    fi
    drop_stale_pid /var/run/docker.pid dockerd
    drop_stale_pid /var/run/docker/containerd/containerd.pid containerd
    # 9 is the lock of `up`, which dockerd must not hold for the rest of its life.
    setsid dockerd >>"$DOCKERD_LOG" 2>&1 </dev/null 9>&- &
}

start_engine() {
    local deadline=$((SECONDS + 60))
    say "starting dockerd, log in $DOCKERD_LOG"
    launch_engine
    until engine_answers; do
        if ((SECONDS >= deadline)); then
            tail -n 15 "$DOCKERD_LOG" >&2 || true
            fail "dockerd did not answer within 60 s; the end of $DOCKERD_LOG is above"
        fi
        sleep 0.2
    done
}

ensure_engine() {
    have docker && engine_answers && return
    is_root || fail "no docker engine answers '$(id -un)': start it, join the group 'docker', or run this as root"
    # DOCKER_HOST names an engine elsewhere: starting one here would not help.
    [[ -z ${DOCKER_HOST:-} ]] || fail "the docker engine at DOCKER_HOST=$DOCKER_HOST does not answer"
    have dockerd || apt_install "a docker engine" docker.io iptables
    have docker || apt_install "the docker client" docker-cli
    start_engine
}


ensure_compose() {
    if docker compose version >/dev/null 2>&1; then
        COMPOSE=(docker compose)
        return
    fi
    have docker-compose || apt_install "docker compose" docker-compose
    COMPOSE=(docker-compose)
}

compose() {
    "${COMPOSE[@]}" --project-name "$CLUSTER" --project-directory "$HERE" --file "$HERE/compose.yaml" "$@"
}

# Slurm's state outlives the containers: jobs whose processes went with them
# would hold their nodes until slurmctld notices, which takes a minute.
cancel_jobs() {
    timeout 15 docker exec "$CLUSTER-slurmctld" bash -c \
        'squeue -ha -o %u | sort -u | xargs -r -n 1 scancel -u' >/dev/null 2>&1 || true
}
