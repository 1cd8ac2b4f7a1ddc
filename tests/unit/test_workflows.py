"""Workflows: which of both shapes each becomes, its tasks as the plan has them, and what sbatch is told."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from unit.made import ASKED, SLURM, local, settings

from hpcrun import environ, script, spec, sweep
from hpcrun import plan as plans
from hpcrun.allocation import Allocation
from hpcrun.cluster import Limits
from hpcrun.codespec import Codespec
from hpcrun.compile import bare_mounts, compile_plan
from hpcrun.config import Config
from hpcrun.errors import SpecError
from hpcrun.node.swept import as_replica
from hpcrun.plan import Plan, Task
from hpcrun.quotas import Limit, Place
from hpcrun.rundir import RunDir

HERE = dataclasses.replace(ASKED, cluster="local")
EIGHT = local(devices=tuple("01234567"))
BATCH_SIZE = {"BATCH_SIZE": {"value": 32, "domain": [16, 32, 64, 128]}}
TWO = {
    "LEARNING_RATE": {"value": 0.001, "domain": [0.001, 0.01]}, "BATCH_SIZE": {"value": 32, "domain": [32, 64]},
    "OTHER": {"value": "x"},
}  # fmt: skip
SWEPT = {"replicas": {"variables": ["LEARNING_RATE", "BATCH_SIZE"], "policy": "parallel"}}


def plan(
    tasks: dict[str, Any],
    *,
    limits: Limits = SLURM,
    here: bool = False,
    config: Config | None = None,
    named: dict[str, Codespec] | None = None,
    workflow: dict[str, Any] | None = None,
    **fields: Any,
) -> Plan:
    """The plan of a workflow of these tasks; each echoes something unless it says otherwise."""
    listed = [
        {"name": name, **({} if "codespec" in task else {"script": ["echo $A"]}), **task}
        for name, task in tasks.items()
    ]
    values = {"workflow": {"name": "demo", "tasks": listed, **(workflow or {})}, **fields}
    made = spec.from_source(spec.raw(values))
    found = compile_plan(made, config or settings(), limits, HERE if here else ASKED, named)
    assert plans.from_json(json.loads(json.dumps(found.to_json()))) == found
    return found


def tasks_of(made: Plan) -> dict[str, Task]:
    return {task.name: task for task in made.tasks}


# The page's examples.

GPUS = {"worker": {"replicas": {"count": 4, "policy": "parallel"}, "resources": {"gpus": {"count": 2}}}}


@pytest.mark.parametrize("here", [True, False])
def test_gpu_slices(here: bool) -> None:
    """Each replica has two GPUs of its own; the cluster is asked for all of them on one node, a step for two."""
    made = plan(
        GPUS,
        here=here,
        limits=EIGHT if here else SLURM,
        backends=[{"name": "cluster", "type": "slurm", "gpus_per_node": 8}],
    )
    assert (made.shape, made.shards, made.sharded) == ("workflow", 1, False)
    assert {task.name: task.devices for task in made.tasks} == {
        "worker_0": (0, 1), "worker_1": (2, 3), "worker_2": (4, 5), "worker_3": (6, 7)
    }  # fmt: skip
    assert {(task.role.gpus, task.role.tasks, task.overlaps) for task in made.tasks} == {(2, 1, False)}
    assert (made.job.gpus, made.job.command, made.devices) == (8, (), tuple("01234567") if here else ())
    if not here:
        assert dict(made.components[0])["gpus-per-node"] == "8"


def test_too_many_gpus() -> None:
    """What does not fit is said before anything starts, with the arithmetic."""
    message = r"workflow\.tasks\.worker\.resources\.gpus: found 2 GPUs for worker_1, and this machine has 2, of which 2 are taken when it runs \(worker_0 2\): 2 - 2 = 0 left; wanted fewer"
    with pytest.raises(SpecError, match=message):
        plan(GPUS, here=True, limits=local())
    with pytest.raises(SpecError, match=r"worker_4, and the node has 8, of which 8 are taken .*: 8 - 8 = 0 left"):
        plan(
            {"worker": {**GPUS["worker"], "replicas": {"count": 5}}},
            backends=[{"name": "c", "type": "slurm", "gpus_per_node": 8}],
        )


def test_disaggregated() -> None:
    """Servers of two kinds side by side, counted by expressions, each with a GPU."""
    variables = {"NUM_PREFILL_SERVERS": {"value": 2}, "NUM_DECODE_SERVERS": {"value": 2}}
    made = plan(
        {
            f"{kind}_server": {
                "replicas": {"count": f"${{{{ variables.NUM_{kind.upper()}_SERVERS }}}}", "policy": "parallel"},
                "resources": {"gpus": {"count": 1}}, "script": [f"python -m server --mode {kind}"],
            }
            for kind in ("prefill", "decode")
        }, variables=variables,
    )  # fmt: skip
    assert {name: task.devices for name, task in tasks_of(made).items()} == {
        "prefill_server_0": (0,), "prefill_server_1": (1,), "decode_server_0": (2,), "decode_server_1": (3,)
    }  # fmt: skip
    assert tasks_of(made)["decode_server_1"].role.command == (
        "bash", "-c", "python -m server --mode decode", "decode_server_1"
    )  # fmt: skip
    assert tasks_of(made)["decode_server_1"].role.env == {"NUM_PREFILL_SERVERS": "2", "NUM_DECODE_SERVERS": "2"}


@pytest.mark.parametrize(("here", "host"), [(True, "127.0.0.1"), (False, "$(SFLOW_TASK_NODE_NAME)")])
def test_benchmark_against_a_server(here: bool, host: str) -> None:
    """A server with a probe, and a sweep that runs one after the other against it, in one allocation."""
    made = plan(
        {
            "server": {"script": ["python -m http.server 8000"], "probes": {"readiness": {"tcp_port": {"port": 8000}}}},
            "benchmark": {"replicas": {"variables": ["BATCH_SIZE"], "policy": "sequential"}, "depends_on": ["server"]},
        }, variables=BATCH_SIZE, here=here, limits=EIGHT if here else SLURM,
    )  # fmt: skip
    assert {task.name: task.needs for task in made.tasks} == {
        "server": (), "benchmark_16": ("server",), "benchmark_32": ("benchmark_16",), "benchmark_64": ("benchmark_32",),
        "benchmark_128": ("benchmark_64",),
    }  # fmt: skip
    server = made.tasks[0]
    (probe,) = server.readiness
    assert (probe.kind, probe.host, probe.port, probe.interval, probe.timeout, probe.each_check_timeout) == (
        "tcp_port", host, "8000", None, 1200, 30
    )  # fmt: skip
    last = made.tasks[-1]
    assert (last.of, last.replica, last.replicas, last.variables, last.overlaps) == (
        "benchmark",
        3,
        4,
        {"BATCH_SIZE": "128"},
        True,
    )
    assert last.role.env == {"BATCH_SIZE": "128"}
    assert made.reason == "workflow of 5 tasks" + (
        " on this machine (they are tasks of one graph)" if here
        else ": one job on one node, each task a step of it (they are tasks of one graph)"
    )  # fmt: skip


@pytest.mark.parametrize("here", [True, False])
def test_a_sweep_of_independent_replicas(here: bool) -> None:
    """It is an array of one shard a replica, told of its own values and of all other variables."""
    made = plan({"experiment": SWEPT}, variables=TWO, here=here, limits=EIGHT if here else SLURM)
    assert (made.shape, made.shards, made.sharded, made.tasks, made.name) == ("array", 4, True, (), "demo")
    assert made.sweep == plans.Sweep(
        "experiment", (("LEARNING_RATE", ("0.001", "0.01")), ("BATCH_SIZE", ("32", "64"))), ()
    )  # fmt: skip
    assert [made.sweep.name(shard) for shard in range(4)] == [
        "experiment_0_001_32", "experiment_0_001_64", "experiment_0_01_32", "experiment_0_01_64"
    ]  # fmt: skip
    assert made.job.env == {"OTHER": "x"}
    assert made.job.command == ("bash", "-c", "echo $A", "demo")
    assert [(batch.count, batch.array) for batch in made.batches] == [(4, True)]
    assert made.reason.startswith("experiment swept over LEARNING_RATE (2) × BATCH_SIZE (2): 4 ")


def test_commands_of_a_sweep() -> None:
    """Where the scripts of replicas differ, each shard has its own."""
    made = plan(
        {"train": {"replicas": {"variables": ["BATCH_SIZE"]}, "script": ["train ${{ variables.BATCH_SIZE }}"]}},
        variables=BATCH_SIZE,
    )
    assert made.sweep is not None
    assert made.sweep.commands == tuple(("bash", "-c", f"train {size}", "demo") for size in (16, 32, 64, 128))


def test_an_array_as_any_other() -> None:
    """Retries, time limits, throttle and amounts are those of a sharded run; a failure ends the others where the spec says so."""
    task = {
        "replicas": {"variables": ["BATCH_SIZE"]}, "retries": {"count": 2, "interval": 30}, "timeout": "5m",
        "resources": {"gpus": {"count": 2}, "cpus": 4, "memory": "8G"},
    }  # fmt: skip
    made = plan({"train": task}, variables=BATCH_SIZE, max_parallel=2, retries={"preempted": 1})
    assert (made.budgets["failed"], made.budgets["timed_out"], made.budgets["preempted"]) == (2, 2, 1)
    assert (made.backoff, made.backoff_factor, made.timeout) == (30, 1, 300)
    assert (made.batches[0].throttle, made.max_failed) == (2, None)
    options = dict(made.components[0])
    assert {name: options[name] for name in ("cpus-per-task", "mem-per-cpu", "gpus", "time")} == {
        "cpus-per-task": "4", "mem-per-cpu": "2048M", "gpus": "2", "time": "7"
    }  # fmt: skip
    told = {"variables": BATCH_SIZE, "workflow": {"fail_fast": True}}
    assert plan({"train": task}, **told).max_failed == 0
    assert plan({"train": task}, max_failed_indexes=3, **told).max_failed == 3
    assert plan({"train": {**task, "fail_fast": False}}, **told).max_failed is None


@pytest.mark.parametrize(
    ("task", "fields", "why"),
    [
        ({}, {}, "it is no sweep over variables"),
        ({"replicas": {"count": 4}}, {}, "it is no sweep over variables"),
        ({"replicas": {"variables": ["BATCH_SIZE"], "policy": "sequential"}}, {}, "its replicas run one after the other"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}, "probes": {"failure": {"log_watch": {"match_pattern": "x"}}}}, {}, "it has probes"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}, "resources": {"nodes": {"count": 2}}}, {}, "each replica runs on 2 nodes"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}}, {"nodes": 3}, "each replica runs on 3 nodes"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}, "resources": {"nodes": {"indices": [0]}}}, {}, "it names its nodes or GPUs"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}}, {"topology": "flat"}, "as the spec says"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}, "script": ["echo ${{ task.train[0].nodes[0].name }}"]}, {}, "it asks for its nodes"),
        ({"replicas": {"variables": ["BATCH_SIZE"]}, "env": {"X": "${{ BATCH_SIZE }}"}}, {},
         "its replicas differ in more than what they execute and their variables"),
    ],
)  # fmt: skip
def test_why_together(task: dict[str, Any], fields: dict[str, Any], why: str) -> None:
    """Whatever is more than a sweep of independent replicas shares an allocation, and compile says why."""
    made = plan({"train": task}, variables=BATCH_SIZE, **fields)
    assert (made.shape, made.sweep) == ("workflow", None)
    assert made.reason.endswith(f", each task a step of it ({why})")


# What a task is.


def test_policies() -> None:
    """Retries, time limit and whom a failure ends are each task's own."""
    made = plan(
        {
            "a": {"retries": {"count": 3, "interval": 2, "backoff": 1.5}, "timeout": 90, "fail_fast": False},
            "b": {"depends_on": ["a"], "fail_fast": True},
        }, retries=1, timeout="1h", env={"A": "1"}, variables={"B": {"value": True}},
    )  # fmt: skip
    a, b = made.tasks
    assert (a.retries, a.interval, a.backoff, a.timeout, a.fail_fast) == (3, 2, 1.5, 90, False)
    assert (b.retries, b.timeout, b.fail_fast, b.role.command[2]) == (0, None, True, "set -e\necho $A")
    assert a.role.env.keys() == {"A", "B"}
    assert (made.budgets["failed"], made.timeout) == (1, 3600)
    assert not any(task.fail_fast for task in plan({"a": {}, "b": {}}, workflow={"fail_fast": False}).tasks)


def test_probes() -> None:
    """Every kind of probe, with nv-sflow's numbers; one for failure counts hits, and has no deadline."""
    made = plan(
        {
            "a": {
                "probes": {
                    "readiness": [
                        {"http_post": {"url": "http://x/", "body": "{}", "headers": {"A": "b"}}, "interval": 5},
                        {"tcp_port": {"port": 1, "host": "h", "on_node": "each"}, "success_threshold": 2},
                        {"log_watch": {"match_pattern": "re:up+", "match_count": 2}, "timeout": 7},
                    ],
                    "failure": {"log_watch": {"match_pattern": "a.b", "logger": "b"}, "delay": 1},
                }
            },
            "b": {},
        }
    )  # fmt: skip
    post, port, log = made.tasks[0].readiness
    assert (post.kind, post.url, post.body, post.headers, post.interval) == (
        "http_post",
        "http://x/",
        "{}",
        {"A": "b"},
        5,
    )
    assert (port.host, port.port, port.each, port.success_threshold) == ("h", "1", True, 2)
    assert (log.pattern, log.match_count, log.timeout, log.success_threshold) == ("up+", 2, 7, 1)
    (failure,) = made.tasks[0].failure
    assert (failure.pattern, failure.watched, failure.success_threshold, failure.timeout, failure.delay) == (
        r"a\.b", "b", 3, None, 1
    )  # fmt: skip


def test_several_nodes() -> None:
    """A task has one process on each of its nodes, and its GPUs are those of all of them together."""
    made = plan(
        {
            "a": {"resources": {"nodes": {"count": 2}, "gpus": {"count": 4}}},
            "b": {"resources": {"nodes": {"indices": [-1]}}},
        },
        nodes=3,
    )
    a, b = made.tasks
    assert (a.nodes, a.devices, a.role.tasks, a.role.nodes, a.role.gpus) == ((0, 1), (0, 1), 2, 2, 2)
    assert (b.nodes, b.role.tasks) == ((2,), 1)
    assert (made.job.tasks, made.job.nodes, made.job.gpus) == (3, 3, 2)


def test_prologue_and_containers() -> None:
    """A task's program is started as any other: after the prologue here, in its container."""
    config = settings(containers={"runtime": "apptainer"})
    (task,) = plan({"a": {"image": "img"}}, config=config).tasks
    assert task.role.command[0] == "apptainer"
    assert task.role.command[-4:] == ("bash", "-c", "echo $A", "a")
    (task,) = plan({"a": {}}, prologue="module load x", here=True, limits=EIGHT).tasks
    assert task.role.command[2].startswith('_program=("$@")\nmodule load x\n')
    assert task.role.command[-4:] == ("bash", "-c", "echo $A", "a")


def test_codespec() -> None:
    """A task may be a named codespec, which brings what it needs."""
    named = {"train/versions/2": Codespec(command=["train"], args=["$(BATCH_SIZE)"], cpus=3, gpus="a100:1")}
    made = plan({"t": {"codespec": "train/versions/2"}, "u": {}}, named=named, variables=BATCH_SIZE)
    role = made.tasks[0].role
    assert (role.codespec, role.command, role.expand, role.cpus, role.gpus, role.gpu_type) == (
        "train/versions/2", ("train", "$(BATCH_SIZE)"), True, 3, 1, "a100"
    )  # fmt: skip
    assert dict(made.components[0])["gpus-per-node"] == "a100:1"


# The allocation.

ALWAYS = {"job-name": "demo", "open-mode": "append", "comment": "hpcrun:abc", "export": "ALL", "requeue": None}
ONE = {"nodes": "1", "ntasks-per-node": "1", "cpus-per-task": "1"}


@pytest.mark.parametrize(
    ("tasks", "fields", "options"),
    [
        ({"a": {}, "b": {}}, {}, {**ONE, "cpus-per-task": "2"}),
        ({"a": {"resources": {"cpus": 2, "memory": "1G"}}, "b": {"resources": {"cpus": 3, "memory": "2G"}}, "c": {"resources": {"memory": 10}}},
         {}, {**ONE, "cpus-per-task": "6", "mem": "3082M"}),
        ({"a": {"resources": {"cpus": 2, "memory": "1G"}}, "b": {"depends_on": ["a"], "resources": {"cpus": 3}}},
         {}, {**ONE, "cpus-per-task": "3"}),
        ({"a": {"resources": {"memory": "1G"}}, "b": {}}, {"sbatch": {"mem-per-cpu": "3G", "exclusive": True}},
         {**ONE, "cpus-per-task": "2", "mem-per-cpu": "3G", "exclusive": None}),
        ({"a": {"resources": {"memory": "1G"}}}, {"sbatch": {"mem-per-cpu": "3G"}}, {**ONE, "mem-per-cpu": "3G"}),
        ({"a": {"resources": {"nodes": {"count": 2}, "cpus": 4}}, "b": {}}, {}, {**ONE, "nodes": "2", "cpus-per-task": "5"}),
        ({"a": {}}, {"nodes": 3}, {**ONE, "nodes": "3"}),
        ({"a": {}}, {"timeout": 90}, {**ONE, "time": "3"}),
        ({"a": {}}, {"backends": [{"name": "c", "type": "slurm", "partition": "gpu", "account": "us", "time": "01:00:00", "nodes": 2, "gpus_per_node": 8}],
                     "sbatch": {"partition": "cpu"}},
         {"nodes": "2", "ntasks-per-node": "1", "cpus-per-task": "1", "partition": "cpu", "account": "us", "time": "01:00:00"}),
    ],
)  # fmt: skip
def test_directives(tasks: dict[str, Any], fields: dict[str, Any], options: dict[str, str | None]) -> None:
    """One allocation for all tasks: what they want on a node at a time; what the user says of it wins."""
    made = plan(tasks, **fields)
    assert len(made.components) == 1
    assert dict(made.components[0]) == {**ALWAYS, **options}


@pytest.mark.parametrize(
    ("tasks", "fields", "message"),
    [
        ({"a": {}, "b": {}}, {"max_parallel": 2},
         "max_parallel: found it beside a workflow whose tasks share an allocation (they are tasks of one graph); wanted it with the sweep of one task whose replicas are independent, or `policy: sequential`"),
        ({"a": {"resources": {"nodes": {"count": 2}}}}, {"here": True, "limits": EIGHT},
         "workflow.tasks.a.resources.nodes.count: found 2 nodes, and this machine is one; wanted 1, or a cluster (--cluster slurm)"),
        ({"a": {"resources": {"cpus": 5}}, "b": {"replicas": {"count": 2}, "resources": {"cpus": 2}}}, {"here": True, "limits": EIGHT},
         "workflow.tasks.a.resources.cpus: found 9 CPUs at a time (a 5, b 4), and this machine has 8; wanted fewer, or tasks one after the other (`depends_on`, or `policy: sequential`)"),
        ({"a": {"codespec": {"command": ["x"], "tasks": 4}}}, {},
         "workflow.tasks.a: found 4 tasks in what a executes, wanted `resources.nodes`: a task has one process on each of its nodes"),
    ],
)  # fmt: skip
def test_refused(tasks: dict[str, Any], fields: dict[str, Any], message: str) -> None:
    """What cannot be carried out is said, with what would do."""
    with pytest.raises(SpecError) as caught:
        plan(tasks, **fields)
    assert str(caught.value) == message


def test_a_sweeps_errors_name_its_task() -> None:
    """What is wrong with a sharded run that is a sweep is said of the task that its author wrote."""
    task = {"replicas": {"variables": ["BATCH_SIZE"]}, "resources": {"cpus": 9}}
    with pytest.raises(
        SpecError, match=r"^workflow\.tasks\.train\.resources\.cpus: found 9 a shard, and this machine has 8"
    ):
        plan({"train": task}, variables=BATCH_SIZE, here=True, limits=EIGHT)
    task = {"replicas": {"variables": ["BATCH_SIZE"]}, "image": "x"}
    for tasks in ({"train": task}, {"train": task, "other": {}}):
        with pytest.raises(SpecError, match=r"^workflow\.tasks\.train\.image: found the image 'x', and no container"):
            plan(tasks, variables=BATCH_SIZE)


def test_limits_of_the_cluster() -> None:
    """A partition that is too small for the tasks together refuses the workflow, before it is queued."""
    place = Place(partition="p", limits=(Limit("job", "mem", 2048, "partition p", "MaxMemPerNode"),))
    limits = dataclasses.replace(SLURM, places=((place,),))
    wants = {"resources": {"memory": "2G"}}
    plan({"a": wants, "b": {**wants, "depends_on": ["a"]}}, limits=limits)
    with pytest.raises(SpecError, match=r"^workflow: found 4 GiB a job, and partition p allows 2 GiB"):
        plan({"a": wants, "b": wants}, limits=limits)


def test_script() -> None:
    """The batch script is as thin as any other, and says what it starts."""
    made = plan({"a": {"resources": {"gpus": {"count": 2}}}, "b": {}})
    text = script.render(made, RunDir("/h/runs/abc"), made.batches[0], *script.template(None))
    assert {"#SBATCH --nodes=1", "#SBATCH --ntasks-per-node=1", "#SBATCH --gpus-per-node=2"} <= set(text.splitlines())
    assert "a workflow of 2 tasks" in text
    assert "echo $A" not in text


def test_bare_mounts() -> None:
    """Folders that tasks without an image want are looked for before anything is submitted."""
    tasks = [
        {"name": "a", "script": ["x"], "mounts": ["/data"]},
        {"name": "b", "image": "i", "script": ["x"], "mounts": ["/other"]},
    ]
    made = spec.from_source(spec.raw({"workflow": {"tasks": tasks}}))
    assert bare_mounts(made, {}) == ("/data",)


# Who a task is.

WHO = environ.Who(
    run_id="abc", run_dir="/r", results="/r/results", name="demo", shard=0, shards=1, sharded=False, attempt=1,
    role="train", replica=2, replicas=3,
)  # fmt: skip
ON = Allocation(cluster="slurm", job="12", raw_job="12", task=None, node="n2", components=(("n1", "n2", "n3"),))


def test_environment_of_a_task() -> None:
    """A process of a task sees exactly these variables."""
    found = environ.task(
        WHO, ON, workspace="/work", name="train_64", nodes=["n2", "n3"], rank=1, addresses=["10.0.0.2", "10.0.0.3"]
    )
    assert found == {
        "HPCRUN_RUN_ID": "abc", "HPCRUN_RUN_NAME": "demo", "HPCRUN_RUN_DIR": "/r", "HPCRUN_RESULTS_DIR": "/r/results",
        "HPCRUN_ROLE": "train", "HPCRUN_SHARD_INDEX": "0", "HPCRUN_SHARD_COUNT": "1", "HPCRUN_REPLICA_INDEX": "2",
        "HPCRUN_REPLICA_COUNT": "3", "HPCRUN_ATTEMPT": "1", "HPCRUN_TASK_NAME": "train_64", "TYGER_RUN_ID": "abc",
        "SFLOW_REPLICA_INDEX": "2", "SFLOW_WORKSPACE_DIR": "/work", "SFLOW_OUTPUT_DIR": "/r",
        "SFLOW_WORKFLOW_OUTPUT_DIR": "/r/results/tasks", "SFLOW_TASK_OUTPUT_DIR": "/r/results/tasks/train_64",
        "SFLOW_TASK_RESULT_FILE": "/r/results/tasks/train_64/result.json",
        "SFLOW_WORKFLOW_RESULT_FILE": "/r/results/tasks/results.json",
        "SFLOW_TASK_ASSIGNED_NODE_NAMES": "n2,n3", "SFLOW_TASK_ASSIGNED_NODE_IPS": "10.0.0.2,10.0.0.3",
        "SFLOW_BACKEND_JOB_ID": "12", "SFLOW_BACKEND_NODELIST": "n1,n2,n3", "SFLOW_BACKEND_NUM_NODES": "3",
        "SFLOW_TASK_NODE_NAME": "n3", "SFLOW_TASK_NODE_INDEX": "1", "SFLOW_TASK_PROCESS_ID": "1",
        "SFLOW_TASK_LOCAL_PROCESS_ID": "0", "SFLOW_TASK_NUM_PROCESSES": "2",
    }  # fmt: skip
    assert environ.passed_on(found, None) == {}


def test_a_shard_as_a_replica(tmp_path: Path) -> None:
    """A shard of a sweep has its own values on top of the task's variables, and is told which replica it is."""
    made = plan({"experiment": {**SWEPT, "script": ["echo ${{ BATCH_SIZE }}"]}}, variables=TWO)
    who = environ.Who(
        run_id="abc", run_dir="/r", results=str(tmp_path), name="demo", shard=2, shards=4, sharded=True, attempt=0
    )  # fmt: skip
    command, env, own = as_replica(made, who, "n1")
    assert command == ("bash", "-c", "echo 32", "demo")
    assert env == {"OTHER": "x", "LEARNING_RATE": "0.01", "BATCH_SIZE": "32"}
    folder = tmp_path / "tasks" / "experiment_0_01_32"
    assert folder.is_dir()
    assert own == {
        "HPCRUN_ROLE": "experiment", "HPCRUN_TASK_NAME": "experiment_0_01_32", "HPCRUN_REPLICA_INDEX": "2",
        "HPCRUN_REPLICA_COUNT": "4", "SFLOW_TASK_OUTPUT_DIR": str(folder),
        "SFLOW_TASK_RESULT_FILE": f"{folder}/result.json", "SFLOW_WORKFLOW_OUTPUT_DIR": f"{tmp_path}/tasks",
        "SFLOW_WORKFLOW_RESULT_FILE": f"{tmp_path}/tasks/results.json",
        "SFLOW_TASK_ASSIGNED_NODE_IPS": "n1",
    }  # fmt: skip


def test_values_at() -> None:
    """Of the product of the domains the last one is fastest, and names are nv-sflow's."""
    variables = (("LR", ("0.1", "1e-3")), ("B", ("a b", "c")))
    found = [sweep.values_at(variables, index) for index in range(4)]
    assert [list(one.values()) for one in found] == [["0.1", "a b"], ["0.1", "c"], ["1e-3", "a b"], ["1e-3", "c"]]
    assert [sweep.replica_name("t", one.values()) for one in found] == [
        "t_0_1_a_b",
        "t_0_1_c",
        "t_1e_3_a_b",
        "t_1e_3_c",
    ]
