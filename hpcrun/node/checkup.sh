#!/bin/sh
# What `hpcrun doctor` asks a compute node: FOLDER/report gets a line NAME=VALUE for each fact, FOLDER/requeue whether
# this job may start itself again. A shell's script, for a node without a Python must be able to say so.
#
#   checkup.sh FOLDER PYTHON      exit codes: 71 no such folder here, 72 it cannot be written
folder=$1 python=$2

# Requeued by the last lines below, and not cancelled since: there is nothing more to do.
[ "${SLURM_RESTART_COUNT:-0}" -eq 0 ] || exit 0
[ -f "$folder/start.py" ] || exit 71
umask 077
# Not `:`, after which a shell that cannot write would end with a code of its own.
{ printf "" >"$folder/facts"; } 2>/dev/null || exit 72

say() {
    printf '%s=%s\n' "$1" "$(printf '%s' "$2" | tr '\n' ' ')" >>"$folder/facts" || exit 72
}

# check NAME COMMAND...: `ok`, or what the command complained of.
check() {
    name=$1
    shift
    if said=$("$@" 2>&1); then say "$name" ok; else say "$name" "${said:-exit code $?}"; fi
}

# shellcheck disable=SC2329 # `check` calls it
exclusive() {
    (set -C && printf "" >"$folder/exclusive") || return 1
    if (set -C && printf "" >"$folder/exclusive") 2>/dev/null; then
        echo "a file was created twice"
        return 1
    fi
}

# shellcheck disable=SC2329 # `check` calls it
rename() {
    printf "" >"$folder/old" && printf "" >"$folder/new" && mv -f "$folder/new" "$folder/old" && [ ! -e "$folder/new" ]
}

say time "$(date +%s.%N)"
say node "${SLURMD_NODENAME:-$(uname -n)}"
check link ln "$folder/facts" "$folder/link"
check exclusive exclusive
check rename rename
# shellcheck disable=SC3045 # dash and bash, which /bin/sh is, have it; where another has not, nothing is said
say nofile "$(ulimit -n 2>/dev/null)"
for command in scontrol srun scancel apptainer singularity podman; do
    say "$command" "$(command -v "$command")"
done
srun --help 2>/dev/null | grep -q -e --container-image= && say pyxis srun

# The interpreter of the settings, and the newest other one that is new enough.
version='import sys; print("%d.%d.%d" % sys.version_info[:3])'
say python "$(command -v "$python")"
found=$("$python" -I -S -c "$version" 2>&1 | tail -n 1)
say python_version "$found"
for path in /usr/bin /usr/local/bin /opt/*/bin; do
    for minor in 15 14 13 12 11 10 9; do
        other=$path/python3.$minor
        [ -x "$other" ] && other_version=$("$other" -I -S -c "$version" 2>/dev/null) && break 2
        other=
    done
done
[ -n "$other" ] && say pythons "$other" && say pythons_version "$other_version"
case $found in
    3.9.* | 3.[1-9][0-9].* | [4-9].*)
        "$python" -I -S "$folder/start.py" checkup >"$folder/runtime" 2>"$folder/complaint"
        grep '=' "$folder/runtime" >>"$folder/facts" || say runtime "$(tail -n 1 "$folder/complaint")"
        ;;
esac
mv -f "$folder/facts" "$folder/report" || exit 72

trap '' TERM # which the requeue sends
requeue() {
    scontrol requeue "$SLURM_JOB_ID" 2>&1
}

if answer=$(requeue); then
    echo requeue=ok
elif scontrol update jobid="$SLURM_JOB_ID" requeue=1 2>/dev/null && requeue >/dev/null; then
    printf 'requeue=ok\nupdate=ok\n'
else
    echo "requeue=$answer" | tr '\n' ' '
fi >"$folder/requeue.new"
mv -f "$folder/requeue.new" "$folder/requeue"
exit 0
