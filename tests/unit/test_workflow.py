"""Specs of workflows: their spellings, and what goes beside them."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpcrun import registry, spec, specfile
from hpcrun.errors import SpecError
from hpcrun.expansion import Expanded, expanded, title
from hpcrun.fields import Source

TASKS = {"workflow": {"tasks": {"t": {"script": "x"}}}}


def of(**values: Any) -> spec.RunSpec:
    return spec.from_source(spec.raw({**TASKS, **values}))


def task(**fields: Any) -> Expanded:
    [found] = expanded(spec.from_source(spec.raw({"workflow": {"tasks": {"t": {"script": "x", **fields}}}})))
    return found


def refused(text: str) -> str:
    with pytest.raises(SpecError) as caught:
        spec.from_source(specfile.parse(text, "f.yaml"))
    return str(caught.value)


def test_lists_and_mappings() -> None:
    """Variables, backends and tasks are lists of mappings with a name, or mappings by name."""
    listed = {
        "variables": [{"name": "A", "value": 1}],
        "backends": [{"name": "c", "nodes": 2}],
        "workflow": {"tasks": [{"name": "t", "script": ["x"]}]},
    }
    named = {
        "variables": {"A": {"value": 1}},
        "backends": {"c": {"nodes": 2}},
        "workflow": {"tasks": {"t": {"script": ["x"]}}},
    }
    assert spec.from_source(spec.raw(listed)) == spec.from_source(spec.raw(named))
    assert of(variables={"A": 1}) == of(variables=[{"name": "A", "value": 1}])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"dependsOn": [], "failFast": True}, {"depends_on": [], "fail_fast": True}),
        ({"cwd": "/w"}, {"working_dir": "/w"}),
        ({"depends-on": []}, {}),
        ({"retries": 2}, {"retries": {"count": 2}}),
        ({"replicas": 1}, {"replicas": {"count": 1}}),
        ({"resources": {"gpus": 2, "nodes": 1}}, {"resources": {"gpus": {"count": 2}, "nodes": {"count": 1}}}),
        ({"resources": {"memory": "2G"}}, {"resources": {"memory": 2048}}),
        ({"probes": {"readiness": {"tcpPort": {"port": 1}}}}, {"probes": {"readiness": [{"tcp_port": {"port": "1"}}]}}),
        (
            {"probes": {"failure": {"exec": ["a"], "eachCheckTimeout": 2}}},
            {"probes": {"failure": [{"exec": {"command": ["a"]}, "each_check_timeout": "2s"}]}},
        ),
        ({"timeout": "1m"}, {"timeout": 60}),
        ({"operator": "srun"}, {"operator": "srun"}),
    ],
)
def test_spellings(one: dict[str, Any], other: dict[str, Any]) -> None:
    """The spellings of other fields hold for tasks, and short forms for what has one field that matters."""
    assert task(**one).task == task(**other).task


def test_defaults() -> None:
    """A task that says nothing shares its node, is tried once, and is never ready before its end."""
    found = task().task
    assert (found.resources.cpus, found.retries.count, found.timeout, found.fail_fast) == (None, 0, None, None)
    assert (found.probes.readiness, found.probes.failure, found.replicas) == (None, None, None)


def test_defaults_of_probes() -> None:
    """nv-sflow's defaults hold for probes, but for the interval."""
    [probe] = task(probes={"readiness": {"http_post": {"url": "http://x", "body": "b"}}}).task.probes.readiness or []
    assert (probe.delay, probe.timeout, probe.each_check_timeout, probe.interval) == (0, 1200, 30, None)
    assert (probe.success_threshold, probe.failure_threshold) == (1, 3)


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("integer", "8", 8),
        ("float", 1, 1.0),
        ("boolean", "on", True),
        ("boolean", "no", False),
        ("string", 8, "8"),
        ("list", "[1, 2]", [1, 2]),
        ("dict", {"a": 1}, {"a": 1}),
        (None, "on", "on"),
        (None, 8, 8),
    ],
)
def test_types(kind: str | None, given: object, value: object) -> None:
    """A value becomes what its type says, and stays what it is in YAML where there is none."""
    tasks = {"t": {"script": f"${{{{ 'same' if V == {value!r} else V }}}}"}}
    variables = {"V": {"value": given, **({"type": kind} if kind else {})}}
    [found] = expanded(spec.from_source(spec.raw({"variables": variables, "workflow": {"tasks": tasks}})))
    assert found.task.script == "same"
    assert found.env == {"V": str(value)}


def test_sections_of_the_workflow() -> None:
    """Variables and timeout of the workflow are those of the run."""
    found = spec.from_source(
        spec.raw({"variables": {"A": 1}, "workflow": {**TASKS["workflow"], "variables": {"B": 2}, "timeout": "2h"}})
    )
    assert (list(found.variables), found.timeout) == (["A", "B"], 7200.0)


def test_expressions_beside_the_workflow() -> None:
    """What stands beside the tasks may use variables, too."""
    workflow = {**TASKS["workflow"], "timeout": "${{ MINUTES }}m", "failFast": "${{ MINUTES > 10 }}"}
    found = spec.from_source(
        spec.raw(
            {
                "variables": {"MINUTES": 5},
                "workflow": workflow,
                "nodes": "${{ MINUTES - 3 }}",
                "name": "n${{ MINUTES }}",
            }
        )
    )
    assert found.workflow is not None
    assert (found.timeout, found.workflow.fail_fast, found.nodes, found.name) == (300.0, False, 2, "n5")


def test_backend() -> None:
    """What a backend says are options of sbatch, where the run does not say otherwise."""
    backend = {
        "account": "physics", "partition": "${{ P }}", "time": "01:00:00", "nodes": "${{ N }}", "gpus_per_node": 4,
        "include_nodes": ["n1", "n2"], "exclude_nodes": "n3", "extra_args": ["--exclusive", "--qos", "high", "--comment=x"],
    }  # fmt: skip
    found = of(variables={"P": "gpu", "N": 2}, backends={"c": backend}, sbatch={"account": "own"})
    assert found.nodes == 2
    assert found.backends["c"].gpus_per_node == 4
    assert found.sbatch == {
        "account": "own", "partition": "gpu", "time": "01:00:00", "nodelist": "n1,n2", "exclude": "n3",
        "exclusive": None, "qos": "high", "comment": "x",
    }  # fmt: skip
    assert of(backends={"c": {"nodes": 2}}, nodes=3).nodes == 3
    assert of(backends={"c": {"partition": "x"}}, node_pool="gpu").sbatch == {}


def test_title() -> None:
    """The run is called as it says, as its job is to be, or as its workflow."""
    workflow = {**TASKS["workflow"], "name": "w-${{ A }}"}
    given: dict[str, Any] = {"variables": {"A": 1}, "workflow": workflow}
    assert title(of(**given)) == "w-1"
    assert title(of(**given, backends={"c": {"job_name": "j"}})) == "j"
    assert title(of(**given, backends={"c": {"job_name": "j"}}, name="n")) == "n"
    assert title(of()) is None


def test_settings_that_tasks_say_themselves() -> None:
    """Defaults of the site for programs do not stand in the way of a workflow."""
    defaults = spec.spelled(spec.raw({"memory": "2G", "cpus": 2, "timeout": "1h"}))
    assert spec.from_source(spec.beneath(spec.raw(TASKS), defaults)).timeout == 3600.0
    assert spec.from_source(spec.beneath(spec.raw({"command": ["a"]}), defaults)).cpus == 2


def test_codespecs_are_pinned(tmp_path: Path) -> None:
    """A task names a version of a codespec, as a job does."""
    registry.create(str(tmp_path), "train", spec.raw({"command": ["train"]}))
    source = spec.spelled(spec.raw({"workflow": {"tasks": [{"name": "a.b", "codespec": "train"}]}}))
    pinned, named = registry.pinned(source, str(tmp_path))
    [found] = expanded(spec.from_source(pinned))
    assert found.task.codespec == "train/versions/1"
    assert list(named) == ["train/versions/1"]


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("workflow.tasks.a.b.script[1]", ("workflow", "tasks", "a.b", "script", 1)),
        ("workflow.tasks.a.script", ("workflow", "tasks", "a", "script")),
        ("workflow.tasks.x[0].q.r", ("workflow", "tasks", "x[0]", "q", "r")),
        ("env.A", ("env", "A")),
        ("", ()),
    ],
)
def test_fields_back_to_paths(field: str, path: tuple[str | int, ...]) -> None:
    """What a message calls a field is found again, whatever characters are in names of tasks."""
    tasks = {"a": {}, "a.b": {"script": ["x", "y"]}, "x[0]": {"q": 1}}
    assert Source({"workflow": {"tasks": tasks}}, {}).path(field) == path


T = "workflow: {tasks: {t: {script: x}}}"
REFUSED = [
    (f"{T}\ncommand: [a]", "2: command: found `command` beside `workflow`, wanted it in a task"),
    (f"{T}\nshards: 2", "2: shards: found `shards` beside `workflow`, wanted `replicas` of a task"),
    (f"{T}\ncpus: 2", "2: cpus: found `cpus` beside `workflow`, wanted it in the `resources` of a task"),
    (f"{T}\nfailFast: false", "2: failFast: found `fail_fast` beside `workflow`, wanted `workflow.fail_fast`"),
    (f"{T}\ngang: true", "2: gang: found `gang` beside `workflow`, wanted replicas of the policy parallel, which start together"),
    (f"{T}\nworker: {{command: [a], replicas: 2}}", "2: worker: found `worker` beside `workflow`, wanted tasks with readiness probes, and others that depend on them"),
    (f"{T}\ntopology: het", "2: topology: found het without workers, wanted `worker`, or no topology"),
    ("variables: {A: 1}\ncommand: [a]", "1: variables: found `variables` without `workflow`, wanted both of them"),
    (f"{T}\nversion: 0.2", "2: version: found '0.2', wanted '0.1'"),
    (f"{T}\nartifacts: []", "2: artifacts: found a field of nv-sflow's that hpcrun does not have; wanted the files where the nodes see them, and their paths as variables"),
    (f"{T}\nbackends: {{a: {{}}, b: {{}}}}", "2: backends: found a and b, wanted one: a workflow has one allocation"),
    (f"{T}\nnodes: ${{{{ N }}}}", "2: nodes: found '${{ N }}': there is no 'N'."),
    (f"{T}\nbackends: {{a: {{type: docker}}}}", "2: backends.a.type: found 'docker', wanted 'slurm' or 'local'"),
    (f"{T}\nbackends: {{a: {{partition: '${{{{ P }}}}'}}}}", "2: backends.a.partition: found '${{ P }}': there is no 'P'."),
    (f"{T}\nbackends: {{a: {{extra_args: [-p x]}}}}", "2: backends.a.extra_args: found '-p x', wanted options such as --OPTION=VALUE"),
    (f"{T}\nbackends: {{a: {{extra_args: [--partion=x]}}}}", "2: backends.a.extra_args: found --partion, which sbatch does not have. Did you mean `partition`?"),
    (f"{T}\nvariables: {{SFLOW_A: 1}}", "2: variables.SFLOW_A: found SFLOW_A, which hpcrun sets itself; wanted a name without a reserved prefix"),
    (f"{T}\nvariables: [A]", "2: variables[0]: found 'A', wanted a mapping with `name`"),
    (f"{T}\nvariables: 3", "2: variables: found 3, wanted a mapping by name, or a list of mappings with `name`"),
    (f"{T}\nvariables: [{{name: A, value: 1}}, {{name: A, value: 2}}]", "2: variables[1].name: found 'A' a second time, wanted names that differ"),
    ("variables: {A: 1}\nworkflow: {variables: {A: 2}, tasks: {t: {script: x}}}", "2: workflow.variables.A: found it beside `variables.A`, wanted one of them"),
    ("timeout: 1h\nworkflow: {timeout: 2h, tasks: {t: {script: x}}}", "2: workflow.timeout: found it beside `timeout`, which says the same; wanted one of them"),
    ("workflow: {tasks: {}}", "1: workflow.tasks: found {}, wanted 1 or more of them"),
    ("workflow: {name: x}", "1: workflow.tasks: is missing"),
    ("workflow: [a]", "1: workflow: found ['a'], wanted a mapping with `tasks`"),
    ("workflow: {task: {}}", "1: workflow.task: found an unknown key. Did you mean `tasks`?"),
    ("workflow: {tasks: {t: x}}", "1: workflow.tasks.t: found 'x', wanted a mapping"),
    ("workflow: {tasks: [{script: x}]}", "1: workflow.tasks[0]: found {'script': 'x'}, wanted a mapping with `name`"),
    ("workflow: {tasks: {t: {script: x, probes: {readiness: {tcp_prt: {}}}}}}", "1: workflow.tasks.t.probes.readiness.tcp_prt: found an unknown key. Did you mean `tcp_port`?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused(text: str, said: str) -> None:
    """What does not go with a workflow, or is no workflow, is refused with file, line and field."""
    assert refused(text) == f"f.yaml:{said}"
