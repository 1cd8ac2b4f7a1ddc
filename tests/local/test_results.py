"""Results: one folder for all shards, or one each that is there only when the shard has succeeded."""

from __future__ import annotations

import json
import os
from pathlib import Path

from machine import Machine

WRITES = 'echo "$HPCRUN_SHARD_INDEX $HPCRUN_ATTEMPT" >"$HPCRUN_RESULTS_DIR/out"; '


def test_shared(machine: Machine) -> None:
    """All shards write into one folder, under names of their own; that is what `hpcrun results` prints."""
    script = 'echo part >"$HPCRUN_RESULTS_DIR/part-$HPCRUN_SHARD_INDEX"'
    run = machine.run("-N", "3", "--", "sh", "-c", script)
    folder = machine.hpcrun("results").stdout.decode().strip()
    assert sorted(os.listdir(folder)) == ["part-0", "part-1", "part-2"]
    assert machine.json("results", "--json") == {"run_id": run.id, "folder": folder, "committed": False}
    refused = machine.hpcrun("results", "--shard", "1")
    assert refused.returncode == 2
    assert f"those of run {run.id} share one folder" in refused.stderr.decode()


def test_committed(machine: Machine) -> None:
    """A shard that has failed has left nothing; the others each have a folder, and the command says which."""
    script = WRITES + "[ $HPCRUN_SHARD_INDEX != 1 ]"
    run = machine.run("-N", "3", "--results", "committed", "--", "sh", "-c", script, code=3)
    found = machine.hpcrun("results", "-s", "all")
    folders = found.stdout.decode().splitlines()
    assert [Path(folder, "out").read_text() for folder in folders] == ["0 0\n", "2 0\n"]
    assert found.returncode == 1
    assert found.stderr.decode().endswith(f"run {run.id} ('sh') has no results yet of 1\n")
    assert machine.hpcrun("results", "-s", "0,2").returncode == 0
    said = machine.json("results", "--json")
    assert said["committed"]
    assert [(shard["index"], shard["attempt"], shard["folder"]) for shard in said["shards"]] == [
        (0, 0, folders[0]), (2, 0, folders[1])
    ]  # fmt: skip
    assert said["missing"] == "1"
    assert machine.hpcrun("results").stdout.decode() == f"{run.dir.results}\n"
    assert "found shard 3, wanted 0 to 2" in machine.hpcrun("results", "-s", "3").stderr.decode()


def test_an_attempt_that_failed_leaves_no_trace(machine: Machine) -> None:
    """The results of a shard that was tried again are those of its success, and nothing of other attempts."""
    script = WRITES + 'touch "$HPCRUN_RESULTS_DIR/by$HPCRUN_ATTEMPT"; [ $HPCRUN_ATTEMPT = 1 ]'
    spec = {"command": ["sh", "-c", script], "shards": 2, "results": "committed", "retries": 1, "retry": "in_place"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)))
    for shard in (0, 1):
        assert sorted(os.listdir(run.dir.committed(shard))) == [".attempt", "by1", "out"]
        assert Path(run.dir.committed(shard), "out").read_text() == f"{shard} 1\n"
        assert Path(run.dir.uncommitted(shard, 0), "by0").exists(), "it is there to be looked at"


def test_results_that_cannot_be_kept(machine: Machine) -> None:
    """A program that succeeds and whose folder is gone has not succeeded: the shard fails, and says why."""
    script = WRITES + 'rm -r "$HPCRUN_RESULTS_DIR"'
    run = machine.run("--results", "committed", "--", "sh", "-c", script, code=74)
    (shard,) = run.shards()
    assert (shard.state, shard.exit_code) == ("failed", 74)
    assert shard.detail.startswith("its results cannot be kept: No such file or directory (")
    assert "hpcrun: its results cannot be kept" in run.logs()


def test_nowhere_to_leave_results(machine: Machine) -> None:
    """Where the folder cannot even be made the program is not run, and the shard says why."""
    script = 'rm -r "$HPCRUN_RUN_DIR/results"; echo >"$HPCRUN_RUN_DIR/results"; exit 1'
    spec = {"command": ["sh", "-c", script], "results": "committed", "retries": 1, "retry": "in_place"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)), code=74)
    (shard,) = run.shards()
    assert (shard.state, shard.attempts, shard.exit_code) == ("failed", 2, 74)
    assert shard.detail.startswith("its results cannot be kept: Not a directory (")


def test_a_job_and_its_workers(machine: Machine) -> None:
    """Both write into the folder of their attempt, and it is committed when the last of them has ended."""
    serve = (
        "import os, signal, socket, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "listener = socket.create_server(('', int(os.environ['HPCRUN_PORT_RPC'])))\n"
        "path = os.environ['HPCRUN_RESULTS_DIR'] + '/worker'\n"
        "try:\n"
        "    time.sleep(1000)\n"
        "finally:\n"
        "    open(path, 'w').write('last words')\n"
    )
    worker = {"command": ["python3", "-c", serve], "endpoints": {"rpc": "auto"}}
    spec = {"command": ["sh", "-c", WRITES], "worker": worker, "results": "committed"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)))
    assert sorted(os.listdir(run.dir.committed(0))) == [".attempt", "out", "worker"]
    assert Path(run.dir.committed(0), "worker").read_text() == "last words"


def test_shards_of_a_gang(machine: Machine) -> None:
    """Each has a folder of its own; one that succeeded beside one that failed keeps what it has left."""
    script = WRITES + "[ $HPCRUN_SHARD_INDEX = 0 ]"
    spec = {"command": ["sh", "-c", script], "shards": 2, "gang": True, "fail_fast": False, "results": "committed"}
    run = machine.run(machine.write("spec.yaml", json.dumps(spec)), code=3)
    assert Path(run.dir.committed(0), "out").read_text() == "0 0\n"
    assert not os.path.exists(run.dir.committed(1))
