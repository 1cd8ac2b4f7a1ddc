"""Results on a real cluster: there when the shard has succeeded, and then for good."""

from __future__ import annotations

import json

from containers import User
from gangs import gone
from trouble import frozen, restart, running
from waiting import until

WRITES = 'echo "$HPCRUN_SHARD_INDEX $HPCRUN_ATTEMPT" >"$HPCRUN_RESULTS_DIR/out"; '
SEES_ITS_SIGN = 'until [ -e "$HPCRUN_RUN_DIR/go.$HPCRUN_ATTEMPT" ]; do sleep 0.05; done; ' + WRITES


def test_shards_of_an_array(user: User) -> None:
    """Each shard that succeeds has a folder, found by the command; one that fails has none, and the run says so."""
    script = WRITES + "[ $HPCRUN_SHARD_INDEX != 2 ]"
    assert user.hpcrun("run", "-N", "4", "--results", "committed", "--", "bash", "-c", script).returncode == 3
    found = user.hpcrun("results", "--shard", "all")
    assert found.returncode == 1
    assert "has no results yet of 2\n" in found.stderr
    written = [user.read(f"{folder}/out") for folder in found.stdout.splitlines()]
    assert written == ["0 0\n", "1 0\n", "3 0\n"]
    said = json.loads(user.hpcrun("results", "--json").stdout)
    assert [(shard["index"], shard["attempt"]) for shard in said["shards"]] == [(0, 0), (1, 0), (3, 0)]
    assert said["missing"] == "2"


def test_the_attempt_that_succeeds(user: User) -> None:
    """What an attempt has left that failed is none of the shard's results after the next one has succeeded."""
    script = WRITES + 'touch "$HPCRUN_RESULTS_DIR/by$HPCRUN_ATTEMPT"; [ $HPCRUN_ATTEMPT = 1 ]'
    run_id = user.submit(
        "-N", "2", "--results", "committed", "--retries", "1", "--retry", "in_place", "--", "bash", "-c", script
    )
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    for folder in user.hpcrun("results", run_id, "-s", "0,1").stdout.splitlines():
        assert user.ok("ls", "-A", folder).split() == [".attempt", "by1", "out"]


def test_a_node_that_returns_changes_nothing(user: User) -> None:
    """Its program may succeed long after the shard was given to another node: the results are those of the first."""
    run_id = user.submit("-N", "1", "--results", "committed", "--", "bash", "-c", SEES_ITS_SIGN)
    (first,) = running(user, run_id)
    folder = f"{user.home}/runs/{run_id}"
    with frozen(first["node"]):
        restart(user, first["job"])
        user.ok("touch", f"{folder}/go.0", f"{folder}/go.1")
        assert user.hpcrun("wait", "-q", run_id).returncode == 0
        (committed,) = user.hpcrun("results", run_id, "-s", "0").stdout.splitlines()
        assert user.read(f"{committed}/out") == "0 1\n"
    until(lambda: not user.left(run_id), what="the end of what the node still ran")
    assert user.read(f"{committed}/out") == "0 1\n"
    assert user.status(run_id)["shards"][0]["state"] == "succeeded"
    user.ok("bash", "-c", "until sinfo -h -t idle,mix,alloc -o %D | grep -qx 4; do sleep 1; done", timeout=120)
    gone(user, run_id)


def test_a_job_with_workers(user: User) -> None:
    """Job and workers leave their results together; they are there when the last of them has ended."""
    serve = (
        "import os, signal, socket, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "listener = socket.create_server(('', int(os.environ['HPCRUN_PORT_RPC'])))\n"
        "path = os.environ['HPCRUN_RESULTS_DIR'] + '/worker' + os.environ['HPCRUN_REPLICA_INDEX']\n"
        "try:\n"
        "    time.sleep(1000)\n"
        "finally:\n"
        "    open(path, 'w').write('last words')\n"
    )
    worker = {"command": ["python3", "-c", serve], "endpoints": {"rpc": "auto"}, "replicas": 2}
    run_id = user.submit_spec({"command": ["bash", "-c", WRITES], "worker": worker, "results": "committed"})
    assert user.hpcrun("wait", "-q", run_id).returncode == 0, user.hpcrun("logs", run_id).stdout
    (folder,) = user.hpcrun("results", run_id, "-s", "0").stdout.splitlines()
    assert user.ok("ls", "-A", folder).split() == [".attempt", "out", "worker0", "worker1"]
