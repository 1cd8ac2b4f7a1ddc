"""Jobs with workers, and shards that start together: who waits for whom, who is told what, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, ended, gone, number_in, text_of
from waiting import until

from hpcrun import Run

PYTHON = [sys.executable, "-I", "-S"]
SERVE = """
import os, signal, socket, time
results = os.environ["HPCRUN_RESULTS_DIR"]
who = os.environ["HPCRUN_SHARD_INDEX"] + "." + os.environ["HPCRUN_REPLICA_INDEX"]
def leave(name, text):
    with open(f"{results}/{name}.{who}", "a") as file:
        file.write(f"{text}\\n")
def told(number, frame):
    leave("told", number)
    os._exit(0)
signal.signal(signal.SIGTERM, told)
leave("process", os.getpid())
if who == os.environ.get("LATE"):
    time.sleep(float(os.environ["BY"]))
listener = socket.create_server((os.environ.get("BIND", ""), int(os.environ["HPCRUN_PORT_HTTP"])))
leave("listens", time.time())
while True:
    connection, _ = listener.accept()
    try:
        connection.sendall(who.encode())
    except OSError:
        pass
    connection.close()
"""
ASK = """
import json, os, socket, time
print(time.time())
for address in json.loads(os.environ["TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES"]):
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as connection:
        print(connection.makefile().read())
"""


def _spec(machine: Machine, job: list[str], worker: dict[str, Any] | None = None, **more: Any) -> str:
    """A spec file of `job`, with workers that serve their own numbers except where `worker` says otherwise."""
    machine.write("serve.py", SERVE)
    machine.write("ask.py", ASK)
    serving = {"command": [*PYTHON, "serve.py"], "endpoints": {"http": "auto"}}
    workers = {} if worker is None else {"worker": {**serving, **worker}}
    return machine.write("spec.yaml", json.dumps({"command": job, **workers, **more}))


def _asking(machine: Machine, worker: dict[str, Any], **more: Any) -> str:
    return _spec(machine, [*PYTHON, "ask.py"], worker, **more)


def _answers(run: Run, shard: int = 0) -> list[str]:
    return run.logs(shard).splitlines()[1:]


def _environment(text: str) -> dict[str, str]:
    return dict(entry.split("=", 1) for entry in text.split("\0") if entry)


def test_the_job_starts_when_all_workers_listen(machine: Machine) -> None:
    """The last worker to open its port is waited for, and the job starts soon after: well within two seconds."""
    run = machine.run(_asking(machine, {"replicas": 3, "env": {"LATE": "0.1", "BY": "1"}}))
    late = float(text_of(run, "listens.0.1"))
    began = float(run.logs().splitlines()[0])
    assert late < began < late + 2
    assert float(text_of(run, "listens.0.0")) < late - 0.5, "the others did not wait for it"


def test_addresses_are_in_replica_order(machine: Machine) -> None:
    """Address i is that of worker i, of which the job learns in each of the documented ways."""
    script = '"$0" -I -S ask.py; env -0 >"$HPCRUN_RESULTS_DIR/environ"; cat "$HPCRUN_WORKERS_FILE"'
    run = machine.run(_spec(machine, ["bash", "-c", script, sys.executable], {"replicas": 5}))
    *answers, listed = _answers(run)
    assert answers == [f"0.{replica}" for replica in range(5)]
    told = _environment(Path(run.dir.results, "environ").read_text())
    addresses = json.loads(told["TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES"])
    assert len(set(addresses)) == 5
    found = [(worker["node"], worker["endpoints"]["http"]) for worker in json.loads(listed)]
    assert [f"{node}:{port}" for node, port in found] == addresses
    assert json.loads(told["TYGER_WORKER_NODES"]) == [node for node, _ in found]


def test_twenty_workers(machine: Machine) -> None:
    """Each has a port of its own, and each answers."""
    run = machine.run(_asking(machine, {"replicas": 20}))
    assert _answers(run) == [f"0.{replica}" for replica in range(20)]


@pytest.mark.parametrize("more", [{}, {"max_parallel": 2}, {"gang": True}], ids=["at once", "by two", "gang"])
def test_each_shard_has_workers_of_its_own(machine: Machine, more: dict[str, Any]) -> None:
    """No shard is told of another's workers, whether all run at once, some after others, or as one gang."""
    run = machine.run(_asking(machine, {"replicas": 2}, shards=4, **more))
    assert [_answers(run, shard) for shard in range(4)] == [[f"{shard}.0", f"{shard}.1"] for shard in range(4)]


def test_what_a_worker_is_told(machine: Machine) -> None:
    """Its replica and the shard it serves; nothing of the job's shard variables, nor of its fellows."""
    worker = {"command": ["sh", "-c", 'env -0; exec "$0" -I -S serve.py', sys.executable], "replicas": 2}
    run = machine.run(_asking(machine, worker, shards=3, name="told"))
    found = _environment(run.logs(2, role="worker", replica=1))
    expected = {
        "HPCRUN_RUN_ID": run.id, "HPCRUN_RUN_NAME": "told", "HPCRUN_ROLE": "worker", "HPCRUN_SHARD_INDEX": "2",
        "HPCRUN_SHARD_COUNT": "3", "HPCRUN_REPLICA_INDEX": "1", "HPCRUN_REPLICA_COUNT": "2", "HPCRUN_ATTEMPT": "0",
        "HPCRUN_RUN_DIR": run.dir.path, "HPCRUN_RESULTS_DIR": run.dir.results, "TYGER_RUN_ID": run.id,
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected
    assert found["HPCRUN_PORT_HTTP"].isdecimal()
    foreign = ("SYLPHX_", "VELDA_", "SFLOW_", "SKYWARD_", "TYGER_HTTP", "TYGER_WORKER", "HPCRUN_WORKERS")
    names = ("JOB_COMPLETION_INDEX", "COMPUTE_POOL", "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    assert not [name for name in found if name.startswith(foreign) or name in names]


def test_ports_in_arguments_and_names_with_a_dash(machine: Machine) -> None:
    """$(HPCRUN_PORT_…) stands for the port in args and env; the job finds both spellings of an endpoint's name."""
    serve = 'import socket, sys, time; s = [socket.create_server(("", int(p))) for p in sys.argv[1:]]; time.sleep(1000)'
    worker = {
        "command": [*PYTHON, "-c", serve], "args": ["$(HPCRUN_PORT_MY_EP)", "$(OTHER)"],
        "env": {"OTHER": "$(HPCRUN_PORT_B)"}, "endpoints": {"my-ep": "auto", "b": "auto"},
    }  # fmt: skip
    run = machine.run(_spec(machine, ["env", "-0"], worker))
    found = _environment(run.logs())
    assert found["TYGER_MY-EP_WORKER_ENDPOINT_ADDRESSES"] == found["TYGER_MY_EP_WORKER_ENDPOINT_ADDRESSES"]
    assert found["TYGER_B_WORKER_ENDPOINT_ADDRESSES"] != found["TYGER_MY_EP_WORKER_ENDPOINT_ADDRESSES"]


def test_a_fixed_port(machine: Machine) -> None:
    """One replica has the very port that its spec names, shard after shard."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fixed = {"endpoints": {"http": port}}
    script = 'echo 0; echo "$TYGER_HTTP_WORKER_ENDPOINT_ADDRESSES"'
    run = machine.run(_spec(machine, ["bash", "-c", script], fixed, shards=2, max_parallel=1))
    assert [_answers(run, shard) for shard in range(2)] == [[f'["127.0.0.1:{port}"]']] * 2


def test_a_worker_for_its_own_machine_only(machine: Machine) -> None:
    """Where job and workers are on one machine, 127.0.0.1 is as good an address as any."""
    assert _answers(machine.run(_asking(machine, {"env": {"BIND": "127.0.0.1"}}))) == ["0.0"]


HTTP = """
import http.server, os, time
ready = time.monotonic() + 0.7
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = time.monotonic() > ready
        self.send_response(200 if good else 503)
        self.end_headers()
        if good:
            open(os.environ["HPCRUN_RESULTS_DIR"] + "/good", "w").close()
    def log_message(self, *said):
        pass
http.server.HTTPServer(("", int(os.environ["HPCRUN_PORT_HTTP"])), Handler).serve_forever()
"""
SLOW = 'sleep 0.7; echo "model loaded"; touch "$HPCRUN_RESULTS_DIR/good"; exec sleep 1000'
PROBES: dict[str, dict[str, Any]] = {
    "http_get": {"command": [*PYTHON, "-c", HTTP], "endpoints": {"http": "auto"},
                 "readiness": {"http_get": {"url": "http://127.0.0.1:$(HPCRUN_PORT_HTTP)/"}}},
    "log_watch": {"command": ["bash", "-c", SLOW], "endpoints": {},
                  "readiness": {"log_watch": {"regex_pattern": "^model l.*d$"}}},
    "exec": {"command": ["bash", "-c", SLOW], "endpoints": {},
             "readiness": {"exec": ["test", "-e", "$(HPCRUN_RESULTS_DIR)/good"]}},
}  # fmt: skip


@pytest.mark.parametrize("probe", PROBES)
def test_readiness_probes(machine: Machine, probe: str) -> None:
    """A worker that has come up but is not ready (503, a line of the log, a command) is waited for."""
    machine.run(_spec(machine, ["bash", "-c", 'test -e "$HPCRUN_RESULTS_DIR/good"'], PROBES[probe]))


MEET = """
import os, socket, time
rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
where = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
if rank == 0:
    listener = socket.create_server(("", where[1]))
    there = [listener.accept()[0] for _ in range(size - 1)]
    ranks = sorted(int(connection.recv(16)) for connection in there)
    for connection in there:
        connection.sendall(str(ranks).encode())
    print(ranks)
else:
    while True:
        try:
            connection = socket.create_connection(where)
            break
        except ConnectionRefusedError:  # as torch does
            time.sleep(0.02)
    connection.sendall(str(rank).encode())
    print(connection.recv(64).decode())
print(os.environ["LOCAL_RANK"], os.environ["LOCAL_WORLD_SIZE"], os.environ["NODE_RANK"])
"""


def test_shards_of_a_gang_meet(machine: Machine) -> None:
    """All run at once, and torch's variables lead them to each other; so do those of a second run beside it."""
    spec = _spec(machine, [*PYTHON, "-c", MEET], shards=4, gang=True)
    runs = [machine.submit(spec) for _ in range(2)]
    for run in runs:
        assert ended(run).state == "succeeded"
        assert [run.logs(shard) for shard in range(4)] == [f"[1, 2, 3]\n{shard} 4 0\n" for shard in range(4)]


def test_shards_of_a_gang_that_may_fail_alone(machine: Machine) -> None:
    """With fail_fast: false each runs to its own end, and its code is kept."""
    script = "exit $(($RANK * 3))"
    run = machine.run(_spec(machine, ["bash", "-c", script], shards=4, gang=True, fail_fast=False), code=3)
    assert [(shard.state, shard.exit_code) for shard in run.shards()] == [
        ("succeeded", 0), ("failed", 3), ("failed", 6), ("failed", 9)
    ]  # fmt: skip


def test_the_first_shard_to_fail_ends_the_gang(machine: Machine) -> None:
    """It keeps its exit code; the others are cancelled and say on whose account, but for one that was through."""
    script = """
        cd "$HPCRUN_RESULTS_DIR"; echo $$ >process.$RANK; echo $PPID >agent.$RANK
        if [ $RANK = 0 ]; then exit 0; fi
        if [ $RANK != 2 ]; then exec sleep 1000; fi
        until [ -e go ]; do sleep 0.02; done
        exit 7
    """
    run = machine.submit(_spec(machine, ["bash", "-c", script], shards=4, gang=True))
    processes = [number_in(run, f"process.{shard}") for shard in range(4)]
    gone(number_in(run, "agent.0"))  # it has said that its shard is through
    Path(run.dir.results, "go").touch()
    shards = ended(run).shards
    assert [(shard.state, shard.cause) for shard in shards] == [
        ("succeeded", None), ("cancelled", "cancelled"), ("failed", "failed"), ("cancelled", "cancelled")
    ]  # fmt: skip
    assert shards[2].exit_code == 7
    assert {shard.detail for shard in shards if shard.state == "cancelled"} == {
        "shard 2 on 127.0.0.1 exited with code 7"
    }
    assert machine.hpcrun("wait", run.id).returncode == 3
    gone(*processes)


def test_the_time_of_a_gang_is_up(machine: Machine) -> None:
    """It is up for all its shards: the run has timed out, exit code 124."""
    run = machine.run(_spec(machine, ["sleep", "1000"], shards=3, gang=True, timeout="0.5s"), code=124)
    assert {shard.cause for shard in run.shards()} == {"timed_out"}
    until(lambda: not machine.processes(), what="the end of every process of the run")


@pytest.mark.parametrize("code", [0, 9])
def test_the_end_of_the_job_ends_the_workers(machine: Machine, code: int) -> None:
    """The run's exit code is the job's; every worker is told by one SIGTERM, and nothing is left."""
    run = machine.run(_spec(machine, ["bash", "-c", f"exit {code}"], {"replicas": 3}), code=code)
    assert run.shards()[0].exit_code == code
    for replica in range(3):
        gone(number_in(run, f"process.0.{replica}"))
        assert text_of(run, f"told.0.{replica}") == f"{int(signal.SIGTERM)}\n"
    until(lambda: not machine.processes(), what="the end of every process of the run")


def test_the_time_of_a_job_is_up(machine: Machine) -> None:
    """The workers end with it, and its waiting for them has cost it nothing."""
    late = {"replicas": 2, "env": {"LATE": "0.1", "BY": "1"}}
    run = machine.run(_spec(machine, ["sleep", "1000"], late, timeout="0.8s"), code=124)
    assert run.shards()[0].cause == "timed_out"
    gone(*[number_in(run, f"process.0.{replica}") for replica in range(2)])


def test_a_worker_that_ignores_its_end_is_killed(machine: Machine) -> None:
    """After the grace, with its children; the run is as good as its job was."""
    script = """
        trap '' TERM; sleep 1000 & echo $! >"$HPCRUN_RESULTS_DIR/child"; echo $$ >"$HPCRUN_RESULTS_DIR/worker"
        while :; do wait; done
    """
    seen = 'until [ -s "$HPCRUN_RESULTS_DIR/worker" ]; do sleep 0.02; done'
    run = machine.run(_spec(machine, ["bash", "-c", seen], {"command": ["bash", "-c", script], "endpoints": {}}))
    gone(number_in(run, "worker"), number_in(run, "child"))


def test_nothing_leaks_into_a_worker(machine: Machine) -> None:
    """Three descriptors, an empty standard input, default signals, a session of its own."""
    script = "ls /proc/$$/fd; wc -c; cut -d' ' -f1,5,6 /proc/$$/stat; exec grep -E 'Sig(Blk|Ign)' /proc/self/status"
    worker = {"command": ["dash", "-c", script], "endpoints": {}, "restart": "always"}
    run = machine.submit(_spec(machine, ["sleep", "1000"], worker))
    said = until(lambda: found if "SigIgn" in (found := run.logs(role="worker")) else "").splitlines()
    assert said[:4] == ["0", "1", "2", "0"]
    assert len(set(said[4].split())) == 1
    assert int(said[5].split()[1], 16) == 0
    assert int(said[6].split()[1], 16) & 0x7FFFFFFF == 0, "beyond are two that the C library keeps for itself"


def test_the_secret_of_a_gang(machine: Machine) -> None:
    """Only the owner can read where the supervisor is and how one proves to belong to it; nothing of it remains."""
    script = 'until [ -e "$HPCRUN_RESULTS_DIR/go" ]; do sleep 0.02; done'
    run = machine.submit(_spec(machine, ["bash", "-c", script], {}))
    meeting = Path(run.dir.rendezvous(0, 0))
    until(lambda: run.status().state == "running")
    assert meeting.stat().st_mode & 0o777 == 0o600
    secret = json.loads(meeting.read_text())["secret"]
    for process in machine.processes():
        for name in ("environ", "cmdline"):
            assert secret.encode() not in _read(Path(f"/proc/{process}/{name}"))
    Path(run.dir.results, "go").touch()
    assert ended(run).state == "succeeded"
    until(lambda: not os.listdir(meeting.parent), what="the end of the rendezvous")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
        return b""
