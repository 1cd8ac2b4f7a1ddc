"""Workflows on the real cluster: steps of one allocation, arrays of sweeps, and what is left when nodes are lost."""

from __future__ import annotations

import itertools
import json
import textwrap

import pytest
from containers import User
from gangs import gone
from page import BENCHMARK, BENCHMARKED, BLOCKS, DISAGGREGATED, GPUS, SERVER
from waiting import until


def write(user: User, text: str) -> str:
    return user.write("spec.yaml", textwrap.dedent(text))


def states(user: User, run_id: str) -> dict[str, str]:
    return {task["name"]: task["state"] for task in user.status(run_id)["tasks"]}


def left(user: User, run_id: str, name: str) -> str:
    """What a task left in its results under `name`; nothing as long as there is none."""
    return user.sh('cat "$HPCRUN_HOME/runs/$1/results/$2" 2>/dev/null', run_id, name).stdout


@pytest.mark.parametrize("name", BLOCKS)
def test_the_workflows_of_the_page(user: User, name: str) -> None:
    """Every replica by its name and with its values, whether they are steps of one job or shards of an array."""
    block = BLOCKS[name]
    done = user.hpcrun("run", *block.options, write(user, block.text))
    assert done.returncode == 0, done.stdout + done.stderr
    status = user.status("last")
    if status["tasks"]:
        names = [task["name"] for task in status["tasks"]]
        said = [user.hpcrun("logs", "last", "--task", one).stdout.strip() for one in names]
    else:
        (sweep,) = json.loads(user.hpcrun("results", "--json", "last").stdout)["sweeps"]
        names = [point["name"] for point in sweep["points"]]
        said = [user.hpcrun("logs", "last", "-s", str(shard)).stdout.strip() for shard in range(len(names))]
    assert (tuple(names), tuple(said)) == (block.tasks, block.says)


def test_every_replica_has_gpus_of_its_own(user: User) -> None:
    """Four replicas with two GPUs each, at the same time, on two nodes of four GPUs: no device is given twice."""
    path = write(user, GPUS.format(nodes=2, gpus=4, where="--partition=gpu"))
    done = user.hpcrun("run", path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = [user.hpcrun("logs", "last", "--task", f"worker_{index}").stdout.split() for index in range(4)]
    slices = [(words[2], tuple(words[3].split(","))) for words in told]
    assert [len(devices) for _, devices in slices] == [2] * 4
    given = [(node, device) for node, devices in slices for device in devices]
    assert len(set(given)) == 8
    gone(user, user.status("last")["run_id"])


def test_too_many_gpus_are_refused(user: User) -> None:
    """Before anything is submitted, with the arithmetic."""
    done = user.hpcrun("run", write(user, GPUS.format(nodes=1, gpus=4, where="--partition=gpu")))
    assert done.returncode == 2
    assert "spec.yaml:15: workflow.tasks.worker.resources.gpus:" in done.stderr
    assert "found 2 GPUs for worker_2, and the node has 4, of which 4 are taken when it runs" in done.stderr
    assert user.sh('ls "$HPCRUN_HOME/runs" 2>/dev/null').stdout == ""


def test_servers_for_prefill_and_decode(user: User) -> None:
    """Each has a GPU of its own and answers the client at the name of its node; nothing is left of them."""
    user.write("server.py", SERVER)
    done = user.hpcrun("run", "-p", "gpu", write(user, DISAGGREGATED))
    assert done.returncode == 0, done.stdout + done.stderr
    told = user.hpcrun("logs", "last", "--task", "client").stdout.splitlines()
    assert [line.rsplit(" ", 1)[0] for line in told] == ["prefill 0", "prefill 1", "decode 0", "decode 1"]
    assert len({line.rsplit(" ", 1)[1] for line in told}) == 4
    gone(user, user.status("last")["run_id"])


def test_a_benchmark_against_a_server_that_takes_ten_seconds(user: User) -> None:
    """Strictly one at a time, none before the server is ready, the server up all along, and gone at the end."""
    user.write("benchmark", BENCHMARK)
    user.ok("chmod", "+x", f"{user.folder}/benchmark")
    run_id = user.submit(write(user, BENCHMARKED.format(port=18431, late=10)))
    refused = "18431: connection refused"
    told = until(lambda: [t for t in user.status(run_id)["tasks"] if refused in t["probe"]], what="a probe's word")
    assert [(task["name"], task["state"]) for task in told] == [("server", "running")]
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    spans = [tuple(map(float, left(user, run_id, f"benchmark.{size}").split())) for size in (16, 32, 64, 128)]
    assert spans[0][0] - float(left(user, run_id, "began")) > 10
    assert all(one[1] <= two[0] for one, two in itertools.pairwise(spans))
    assert states(user, run_id)["server"] == "succeeded"
    gone(user, run_id)


def test_a_task_on_two_nodes(user: User) -> None:
    """A process on each, which is told its number, and both are over before the next task begins."""
    done = user.hpcrun("run", write(user, """
        workflow:
          tasks:
            - name: pair
              resources: {nodes: {count: 2}}
              script:
                - sleep $SFLOW_TASK_PROCESS_ID
                - me="$SFLOW_TASK_PROCESS_ID of $SFLOW_TASK_NUM_PROCESSES on $SFLOW_TASK_NODE_NAME"
                - echo "$me of $SFLOW_TASK_ASSIGNED_NODE_NAMES" >>$HPCRUN_RESULTS_DIR/who
            - name: after
              depends_on: [pair]
              script:
                - cd $HPCRUN_RESULTS_DIR
                - echo "after ${{ task.pair.nodes[1].name }} ${{ task.pair.nodes[1].ip_address }}" >>who
    """))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    first, second, after = left(user, user.status("last")["run_id"], "who").splitlines()
    nodes = first.rpartition(" ")[2].split(",")
    assert len(set(nodes)) == 2
    assert first == f"0 of 2 on {nodes[0]} of {','.join(nodes)}"
    assert second == f"1 of 2 on {nodes[1]} of {','.join(nodes)}"
    assert after.split()[:2] == ["after", nodes[1]]
    assert after.split()[2].count(".") == 3


def _long(user: User) -> str:
    """A run whose tasks live until they are ended: a service, and a task that ignores SIGTERM."""
    run_id = user.submit(write(user, """
        workflow:
          tasks:
            - {name: service, script: [echo up, sleep 1000], probes: {readiness: {log_watch: {match_pattern: up}}}}
            - name: stubborn
              depends_on: [service]
              script: ["trap '' TERM", 'sleep 1000 & touch "$HPCRUN_RESULTS_DIR/up.$HPCRUN_ATTEMPT"', 'wait; wait']
            - {name: never, depends_on: [stubborn], script: ["true"]}
    """))  # fmt: skip
    until(lambda: user.sh('test -e "$HPCRUN_HOME/runs/$1/results/up.0"', run_id).returncode == 0, what="the tasks")
    return run_id


@pytest.mark.parametrize("how", ["hpcrun cancel", "scancel"])
def test_nothing_is_left_when_it_is_ended(user: User, how: str) -> None:
    run_id = _long(user)
    (job,) = user.status(run_id)["jobs"]
    if how == "hpcrun cancel":
        assert user.hpcrun("cancel", run_id).returncode == 0
    else:
        user.ok("scancel", job)
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert states(user, run_id)["never"] == "cancelled"
    gone(user, run_id)


def test_a_failure_ends_the_others(user: User) -> None:
    """With its task, its node's log and its code told; a service that was up counts as a success."""
    done = user.hpcrun("run", write(user, """
        workflow:
          tasks:
            - {name: service, script: [echo up, sleep 1000], probes: {readiness: {log_watch: {match_pattern: up}}}}
            - {name: other, script: [sleep 1000]}
            - {name: bad, depends_on: [service], script: [echo what went wrong, exit 7]}
            - {name: never, depends_on: [bad], script: ["true"]}
    """))  # fmt: skip
    run_id = user.status("last")["run_id"]
    assert done.returncode == 1
    assert states(user, run_id) == {
        "service": "succeeded", "other": "cancelled", "bad": "failed", "never": "cancelled",
    }  # fmt: skip
    assert "failed with exit code 7" in done.stderr + done.stdout
    assert "what went wrong" in done.stderr + done.stdout
    gone(user, run_id)


def test_many_tasks_on_few_cpus(user: User) -> None:
    """Tasks that want CPUs of their own wait for them; more of them than fit run one after the other."""
    done = user.hpcrun("run", write(user, """
        workflow:
          tasks:
            - {name: layer, replicas: {count: 6}, resources: {cpus: 1}, script: ["true"]}
            - {name: next, replicas: {count: 6}, depends_on: [layer], resources: {cpus: 1}, script: ["true"]}
    """))  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(states(user, "last").values()) == {"succeeded"}
