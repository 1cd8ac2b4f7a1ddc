# shellcheck shell=bash
# A docker engine that answers, and a compose that drives it.

DOCKERD_LOG=${DOCKER_SLURM_DOCKERD_LOG:-/var/log/dockerd.log}
ENGINE_PID=''

engine_answers() { docker info >/dev/null 2>&1; }

# runs PID PROGRAM: a zombie, which nobody has reaped yet, does not run.
runs() {
    [[ $(cat "/proc/$1/comm" 2>/dev/null) == "$2" ]] && ! grep -q '^State:.Z' "/proc/$1/status" 2>/dev/null
}

# drop_stale_pid FILE PROGRAM: a killed daemon leaves its pid file behind, and
# the next one believes it when another process has that number by now.
drop_stale_pid() {
    local file=$1 program=$2 pid
    [[ -f $file ]] || return 0
    pid=$(<"$file")
    runs "$pid" "$program" && return
    say "removing $file: process $pid is not a running $program"
    rm -f "$file"
}

# Sets ENGINE_PID where this starts one.
launch_engine() {
    drop_stale_pid /var/run/docker.pid dockerd
    drop_stale_pid /var/run/docker/containerd/containerd.pid containerd
    # 8 and 9 are the locks of `up`, which dockerd must not hold for the rest of its life.
    setsid dockerd >>"$DOCKERD_LOG" 2>&1 </dev/null 8>&- 9>&- &
    ENGINE_PID=$!
}

# dockerd gives up when what it found of its predecessor goes away, or when
# another `up` started one at the same time: the next try finds things settled.
start_engine() {
    local deadline=$((SECONDS + 60))
    if [[ -d /run/systemd/system ]]; then
        systemctl start docker
    else
        say "starting dockerd, log in $DOCKERD_LOG"
        launch_engine
    fi
    until engine_answers; do
        if ((SECONDS >= deadline)); then
            tail -n 15 "$DOCKERD_LOG" >&2 || true
            fail "dockerd did not answer within 60 s; the end of $DOCKERD_LOG is above"
        fi
        sleep 0.5
        [[ -z $ENGINE_PID ]] || kill -0 "$ENGINE_PID" 2>/dev/null || launch_engine
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
