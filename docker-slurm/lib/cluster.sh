# shellcheck shell=bash
# The containers of one cluster: started, compared with what was asked, waited for.

NODES=(c1 c2 c3 c4)

services() {
    [[ $ACCOUNTING == none ]] || printf '%s\n' db slurmdbd
    printf '%s\n' slurmctld login "${NODES[@]}"
}

export_settings() {
    export DOCKER_SLURM_IMAGE=$IMAGE DOCKER_SLURM_RELEASE=$RELEASE
    export DOCKER_SLURM_ACCOUNTING=$ACCOUNTING DOCKER_SLURM_ENFORCE=$ENFORCE
    export DOCKER_SLURM_CPUS=$CPUS DOCKER_SLURM_MAX_ARRAY_SIZE=$MAX_ARRAY_SIZE
    export DOCKER_SLURM_CRED_EXPIRE=$CRED_EXPIRE DOCKER_SLURM_SCHEDULING=$SCHEDULING
    export DOCKER_SLURM_OVER_MEMORY=$OVER_MEMORY DOCKER_SLURM_CAPABILITY=CHOWN
    [[ $OVER_MEMORY == allow ]] || DOCKER_SLURM_CAPABILITY=SYS_PTRACE
    DOCKER_SLURM_SPEC=$(printf '%s\n' "$IMAGE" "$RELEASE" "$ACCOUNTING" "$ENFORCE" "$CPUS" "$MAX_ARRAY_SIZE" "$CRED_EXPIRE" \
        "$SCHEDULING" "$OVER_MEMORY" "$(checksum "$HERE/compose.yaml")" | sha256sum | cut -c 1-12)
    export DOCKER_SLURM_SPEC
}

# What the running cluster was started with; nothing where none runs.
current_spec() { docker exec "$CLUSTER-login" printenv DOCKER_SLURM_SPEC 2>/dev/null || true; }

# Asking compose whether anything changed takes seconds, asking docker does not.
as_wanted() {
    local wanted running
    wanted=$(services | sed "s/^/$CLUSTER-/" | sort)
    running=$(docker ps --filter "label=com.docker.compose.project=$CLUSTER" --filter status=running --format '{{.Names}}' | sort)
    [[ $wanted == "$running" ]] || return 1
    [[ $(current_spec) == "$DOCKER_SLURM_SPEC" ]]
}

unpause_all() {
    docker ps -q --filter "label=com.docker.compose.project=$CLUSTER" --filter status=paused \
        | xargs -r docker unpause >/dev/null
}

# Compose keeps services that it was not asked for.
remove_unwanted() {
    [[ $ACCOUNTING == none ]] || return 0
    docker rm -f "$CLUSTER-slurmdbd" "$CLUSTER-db" >/dev/null 2>&1 || true
}

start_containers() {
    local wanted
    mapfile -t wanted < <(services)
    [[ $(current_spec) == "$DOCKER_SLURM_SPEC" ]] || cancel_jobs
    remove_unwanted
    say "starting ${#wanted[@]} containers of '$CLUSTER' (Slurm $RELEASE)"
    # Containers that fill a new volume at the same moment can collide (mkdir: file exists); the second time it is there.
    for _ in 1 2; do
        compose up --detach --no-build --remove-orphans "${wanted[@]}" >"$CACHE/compose-$CLUSTER.log" 2>&1 && return
    done
    tail -n 15 "$CACHE/compose-$CLUSTER.log" >&2
    fail "compose failed; its output is in $CACHE/compose-$CLUSTER.log"
}

# The end of the log of every container that is not up and healthy.
show_unhealthy() {
    local name status
    docker ps -a --filter "label=com.docker.compose.project=$CLUSTER" --format '{{.Names}}\t{{.Status}}' \
        | while IFS=$'\t' read -r name status; do
            case $status in
                Up*\(healthy\)) continue ;;
            esac
            printf '%s is "%s". The end of its log:\n' "$name" "$status" >&2
            docker logs --tail 40 "$name" 2>&1 | uniq | tail -n 12 | sed 's/^/    /' >&2
        done
}

wait_for_cluster() {
    local seconds=${DOCKER_SLURM_TIMEOUT:-120} missing
    missing=$(docker exec "$CLUSTER-login" wait-for-cluster "$seconds" 2>&1) && return
    show_unhealthy
    printf '%s\n' "$missing" | sed 's/^/docker-slurm: /' >&2
    fail "the cluster was not ready within $seconds s (DOCKER_SLURM_TIMEOUT); 'docker logs $CLUSTER-slurmctld' says more, '${0%/*}/down --volumes' starts afresh"
}

start_cluster() {
    export_settings
    unpause_all
    as_wanted || start_containers
    wait_for_cluster
}
