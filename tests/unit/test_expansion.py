"""Workflows: from the tasks of a spec to the tasks that run."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

from collections.abc import Sequence

import page
import pytest

from hpcrun import later, spec, specfile
from hpcrun.codespec import Codespec
from hpcrun.errors import SpecError
from hpcrun.expansion import Expanded, Place, Texts, expanded, texts, title
from hpcrun.fields import Source


def source(text: str, *settings: str) -> Source:
    found = spec.spelled(specfile.parse(text, "f.yaml"))
    return found.under(spec.spelled(specfile.from_settings(settings)))


def of(text: str, *settings: str) -> tuple[Expanded, ...]:
    return expanded(spec.from_source(source(text, *settings)))


def refused(text: str, *settings: str) -> str:
    """What is said about a spec that is refused, as a command says it."""
    with pytest.raises(SpecError) as caught:
        _prepared(text, *settings)
    return str(caught.value)


def _prepared(text: str, *settings: str) -> None:
    found = source(text, *settings)
    asked = spec.from_source(found)
    try:
        placed_of(asked)
    except SpecError as error:
        raise found.error(found.path(error.field), error.problem) from error


def placed_of(asked: spec.RunSpec, nodes: int = 2, named: dict[str, Codespec] | None = None) -> dict[str, Texts]:
    """The texts of each task, all of which are on the second node, with its GPUs 2 and 3."""
    found = expanded(asked)
    places = {one.name: Place((1,), (2, 3)) for one in found}
    return dict(texts(asked, found, places, named or {}, nodes=nodes, gpus_per_node=8))


def placed(text: str, *settings: str) -> dict[str, Texts]:
    return placed_of(spec.from_source(source(text, *settings)))


def names(found: Sequence[Expanded]) -> list[str]:
    return [one.name for one in found]


def needs(found: Sequence[Expanded]) -> dict[str, tuple[str, ...]]:
    return {one.name: one.needs for one in found}


# The page on replicas.


@pytest.mark.parametrize("block", page.BLOCKS.values(), ids=list(page.BLOCKS))
def test_page(block: page.Block) -> None:
    """Every workflow of the page becomes the tasks that it names, in their order."""
    settings = [word for word in block.options if word != "--set"]
    assert tuple(one.name for one in of(block.text, *settings)) == block.tasks


def test_replicas_by_count() -> None:
    """Replicas that are only counted know their number and wait for nothing."""
    text = page.BLOCKS["copies"].text
    found = of(text)
    assert [(one.replica, one.replicas, one.of) for one in found] == [(index, 4, "worker") for index in range(4)]
    assert {one.needs for one in found} == {()}
    assert title(spec.from_source(source(text))) == "demo"
    assert placed(text)["worker_2"].program.script == 'echo "I am replica $SFLOW_REPLICA_INDEX"'


def test_sequential_replicas() -> None:
    """Replicas one after the other are a chain."""
    assert needs(of(page.BLOCKS["iterations"].text)) == {
        "benchmark_0": (),
        "benchmark_1": ("benchmark_0",),
        "benchmark_2": ("benchmark_1",),
    }


def test_sweep() -> None:
    """Each replica of a sweep has its own value in its environment, and a chain has them one after the other."""
    found = of(page.BLOCKS["a sweep"].text)
    assert [one.env["BATCH_SIZE"] for one in found] == ["16", "32", "64", "128"]
    assert found[0].variables == {"BATCH_SIZE": "16"}
    assert found[3].needs == ("train_64",)


def test_product() -> None:
    """Several variables make the Cartesian product, the last one fastest; points become underscores in names only."""
    found = of(page.BLOCKS["two variables"].text)
    values = [tuple(one.variables.values()) for one in found]
    assert values == [("0.001", "32"), ("0.001", "64"), ("0.01", "32"), ("0.01", "64")]
    assert [one.replica for one in found] == [0, 1, 2, 3]


def test_count_and_variables() -> None:
    """A count beside variables has to be what their domains make."""
    text = page.BLOCKS["count and variables"].text.replace("count: 4", "count: 2")
    assert refused(text) == (
        "f.yaml:8: workflow.tasks.bench.replicas.count: found 2 beside `variables`, whose domains make 4 replicas; wanted 4, or no `count`"
    )


def test_gpus() -> None:
    """The GPUs of the backend's nodes are known; a colon in a line of a script does not make it a mapping."""
    text = page.GPUS.format(nodes=1, gpus=8, where="--partition=gpu")
    asked = spec.from_source(source(text))
    assert asked.backends["cluster"].gpus_per_node == 8
    assert [one.task.resources.gpus.count for one in expanded(asked)] == [2, 2, 2, 2]
    first, _ = (placed(text)["worker_0"].program.script or "").splitlines()
    assert first == 'echo "My GPUs: $SFLOW_TASK_NODE_NAME $CUDA_VISIBLE_DEVICES"'


def test_disaggregated() -> None:
    """Counts may be expressions; each replica wants its own GPU."""
    found = of(page.DISAGGREGATED)
    servers = ["prefill_server_0", "prefill_server_1", "decode_server_0", "decode_server_1"]
    assert names(found) == [*servers, "client"]
    assert [one.task.resources.gpus.count for one in found] == [1, 1, 1, 1, None]
    assert found[4].needs == tuple(servers)


def test_benchmark() -> None:
    """The first of a chain waits for the server, and whoever comes after it for its last."""
    text = page.BENCHMARKED.format(port=8000, late=0)
    after = "\n    - {name: report, depends_on: [benchmark], script: [done]}\n"
    assert needs(of(text + after)) == {
        "server": (),
        "benchmark_16": ("server",),
        "benchmark_32": ("benchmark_16",),
        "benchmark_64": ("benchmark_32",),
        "benchmark_128": ("benchmark_64",),
        "report": ("benchmark_128",),
    }
    [probe] = placed(text)["server"].readiness
    assert probe.tcp_port is not None
    assert probe.tcp_port.port == "8000"


def test_set_a_variable() -> None:
    """--set gives a variable its value, and every task has it in its environment."""
    found = of(page.BLOCKS["a count from a variable"].text, "NUM_WORKERS=8")
    assert len(found) == 8
    assert found[0].env == {"NUM_WORKERS": "8"}


def test_set_a_domain() -> None:
    """--set with a list replaces the domain, and its first becomes the value."""
    text = page.BLOCKS["a sweep"].text
    found = of(text, "BATCH_SIZE=[8,24]")
    assert names(found) == ["train_8", "train_24"]
    assert refused(text, "BATCH_SIZE=9") == ("--set BATCH_SIZE: found 9, which is not in its domain [16, 32, 64, 128]")


# Order and dependencies.


def graph(*tasks: str, variables: str = "{}") -> str:
    lines = "".join(f"    {task}\n" for task in tasks)
    return f"variables: {variables}\nworkflow:\n  tasks:\n{lines}"


def test_parallel_upstream() -> None:
    """Parallel replicas each wait for all that their task depends on, and who depends on it for all of them."""
    found = of(
        graph(
            "a: {replicas: {count: 2}, script: [x]}",
            "b: {replicas: {count: 2}, depends_on: [a], script: [x]}",
            "c: {depends_on: [b], script: [x]}",
        )
    )
    assert needs(found)["b_1"] == ("a_0", "a_1")
    assert needs(found)["c"] == ("b_0", "b_1")


def test_order() -> None:
    """Upstream comes first, otherwise the order of the spec holds."""
    found = of(
        graph(
            "late: {depends_on: [early], script: [x]}",
            "other: {script: [x]}",
            "early: {script: [x]}",
            "last: {script: [x]}",
        )
    )
    assert names(found) == ["other", "early", "late", "last"]


def test_required_by() -> None:
    """required_by is depends_on the other way round; who is not there, or is the task itself, does not matter."""
    found = of(graph("a: {required_by: [b, a, nobody], script: [x]}", "b: {depends_on: [a], script: [x]}"))
    assert needs(found) == {"a": (), "b": ("a",)}


def test_one_replica() -> None:
    """A count of one is a replica with a number."""
    assert names(of(graph("a: {replicas: {count: 1}, script: [x]}"))) == ["a_0"]


def test_names() -> None:
    """Names and dependencies may be expressions; spaces, dashes and points of values become underscores."""
    found = of(
        graph(
            '"srv_${{ MODE }}": {replicas: {variables: [TAG]}, script: [x]}',
            'b: {depends_on: ["srv_${{ MODE }}"], script: [x]}',
            variables="{MODE: fast, TAG: {value: -1, domain: [-1, a b-c.d]}}",
        )
    )
    assert names(found) == ["srv_fast__1", "srv_fast_a_b_c_d", "b"]
    assert found[1].variables == {"TAG": "a b-c.d"}
    assert found[2].needs == ("srv_fast__1", "srv_fast_a_b_c_d")


# Expressions.


def test_each_replica_its_own() -> None:
    """Texts and resources of a replica are evaluated with its own values, which keep their types."""
    text = graph(
        't: {replicas: {variables: [TP]}, resources: {gpus: {count: "${{ TP * 2 }}"}}, script: ["serve ${{ variables.TP + 1 }}"]}',
        variables="{TP: {value: 1, domain: [1, 2]}}",
    )
    assert [one.task.resources.gpus.count for one in of(text)] == [2, 4]
    assert [made.program.script for made in placed(text).values()] == ["serve 2", "serve 3"]


def test_nodes_and_tasks() -> None:
    """Scripts, environments and probes can ask for nodes and GPUs of tasks; names and addresses are filled in later."""
    text = """\
variables:
  HEAD: ${{ backends.cluster.nodes[0].ip_address }}
  URL: http://${{ HEAD }}:80
backends: {cluster: {}}
workflow:
  name: w
  tasks:
    server:
      script: serve
      probes: {readiness: {httpGet: {url: "${{ URL }}/health"}}}
    client:
      replicas: {count: 2}
      env: {PEER: "${{ task.client[1].nodes[0].name }}"}
      script:
        - ask ${{ task.server.nodes | map(attribute='name') | join(',') }} ${{ task.server.gpus | join(',') }} ${{ task.client_0.nodes[0].index }}
        - echo ${{ workflow.name }} ${{ backends.cluster.nodes | length }} ${#list[@]} {% raw
"""
    made = placed(text)
    head, own = later.mark(0, "ip_address"), later.mark(1, "name")
    assert made["client_0"].program.script == f"ask {own} 2,3 0\necho w 2 ${{#list[@]}} {{% raw"
    assert made["client_0"].program.env == {"HEAD": head, "URL": f"http://{head}:80", "PEER": own}
    [probe] = made["server"].readiness
    assert probe.http_get is not None
    assert probe.http_get.url == f"http://{head}:80/health"


def test_name_of_the_workflow() -> None:
    """The name may use variables, variables may use the name, and both at once go round in a circle."""
    text = "variables: {{A: 1, LABEL: '${{{{ workflow.name }}}}-x'}}\nworkflow: {{name: '{}', tasks: {{t: {{script: x}}}}}}"
    assert of(text.format("w${{ A }}"))[0].env["LABEL"] == "w1-x"
    assert refused(text.format("w${{ LABEL }}")) == (
        "f.yaml:1: variables.LABEL.value: found variables that need each other: LABEL needs LABEL"
    )


def test_environment() -> None:
    """Variables win over the run's environment, and the task's own over both."""
    text = """\
env: {A: run, B: run, C: run, SUM: "${{ X + 1 }}"}
variables: {B: variable, C: variable, X: 2, BARE: on, TRUTH: true}
workflow:
  tasks:
    t: {env: {C: task, D: "${{ TRUTH }}"}, script: x}
"""
    assert placed(text)["t"].program.env == {
        "A": "run", "B": "variable", "C": "task", "D": "True", "SUM": "3", "X": "2", "BARE": "on", "TRUTH": "True",
    }  # fmt: skip


def test_codespecs() -> None:
    """What a task says wins over its codespec, named or inline."""
    text = """\
working_dir: /run
variables: {N: 3}
workflow:
  tasks:
    named: {codespec: train/versions/2, env: {B: task}, resources: {cpus: 2}}
    inline: {codespec: {command: [train, "${{ N }}"], working_dir: /own, cpus: 4}}
    plain: {command: [a, b], args: ["${{ N }}"]}
"""
    registered = {"train/versions/2": Codespec(command=["train", "${{ N }}"], env={"A": "code", "B": "code"}, cpus=1)}
    made = placed_of(spec.from_source(source(text)), named=registered)
    named, inline, plain = (made[name].program for name in ("named", "inline", "plain"))
    assert (named.command, named.env, named.cpus) == (["train", "${{ N }}"], {"A": "code", "B": "task", "N": "3"}, 2)
    assert (inline.command, inline.working_dir, inline.cpus) == (["train", "3"], "/own", 4)
    assert (plain.command, plain.args, plain.working_dir) == (["a", "b"], ["3"], "/run")


def test_set_e() -> None:
    """A task's fail_fast: true is `set -e` in front of its script."""
    assert placed(graph("t: {fail_fast: true, script: [a, b]}"))["t"].program.script == "set -e\na\nb"


def test_watched_log() -> None:
    """A probe may watch the log of another task, of which it then names the replica."""
    watching = "probes: {{failure: {{log_watch: {{match_pattern: x, logger: {}}}}}}}"
    text = graph("a: {replicas: {count: 1}, script: [x]}", f"b: {{{watching.format('a')}, script: [x]}}")
    [probe] = placed(text)["b"].failure
    assert probe.log_watch is not None
    assert probe.log_watch.logger == "a_0"
    assert refused(text.replace("count: 1", "count: 2")) == (
        "f.yaml:5: workflow.tasks.b.probes.failure[0].log_watch.logger: found the task 'a', which has 2 replicas; wanted one: a_0, a_1"
    )


# Errors.

LINES = [
    ("{variables: [LRR], count: 1}", "variables[0]: found the variable 'LRR', which there is not. Did you mean `LR`?"),
    ("{variables: [NONE]}", "variables[0]: found the variable 'NONE', which has no domain; wanted variables.NONE.domain"),
    ("{variables: [LR, LR]}", "variables[1]: found the variable 'LR' a second time, wanted it once"),
    ("{variables: [LR, BS], count: 3}", "count: found 3 beside `variables`, whose domains make 2 × 2 = 4 replicas; wanted 4, or no `count`"),
    ("{count: 0}", "count: found 0, wanted 1 or more"),
    ("{count: true}", "count: found true, wanted a number"),
    ("{count: many}", "count: found 'many', wanted a whole number"),
    ("{count: \"${{ FLAG }}\"}", "count: found true, wanted a number"),
    ("{count: \"${{ BS - 32 }}\"}", "count: found 0, wanted 1 or more"),
    ("{count: \"${{ MANY }}\"}", "count: found '${{ MANY }}': there is no 'MANY'."),
    ("{count: \"${{ backends.c.nodes | length }}\"}", "count: found `backends.c`, which is known when tasks have their nodes; wanted it in a script, an environment or a probe, or in a variable that only these use"),
    ("{policy: sometimes}", "policy: found 'sometimes', wanted 'parallel' or 'sequential'"),
    ("{every: 2}", "every: found an unknown key. Wanted one of: count, policy, variables"),
]  # fmt: skip


@pytest.mark.parametrize(("replicas", "said"), LINES)
def test_bad_replicas(replicas: str, said: str) -> None:
    """What is wrong with replicas is told with file, line and field."""
    variables = "{LR: {value: 1, domain: [1, 2]}, BS: {value: 32, domain: [32, 64]}, NONE: 1, FLAG: true}"
    text = graph(f"t: {{replicas: {replicas}, script: [x]}}", variables=variables)
    assert refused(text) == f"f.yaml:4: workflow.tasks.t.replicas.{said}"


VARIABLES = [
    ("{value: 9, domain: [1, 2, 3]}", "value: found 9, which is not in its domain [1, 2, 3]"),
    ("{value: x, type: integer}", "value: found 'x', wanted a value of type integer"),
    ("{value: maybe, type: boolean}", "value: found 'maybe', wanted a value of type boolean"),
    ("{value: '[1', type: list}", "value: found '[1', wanted a value of type list"),
    ("{value: 1, type: number}", "type: found 'number', wanted 'string', 'integer', 'float', 'boolean', 'list' or 'dict'"),
    ("{domain: [1]}", "value: is missing"),
    ("{value: 1, domain: []}", "domain: found [], wanted 1 or more of them"),
    ("{value: }", 'value: found nothing, wanted a value; an empty text is written ""'),
    ('"${{ Y }}"', "value: found variables that need each other: X needs Y needs X"),
    ('"${{ 1 / 0 }}"', "value: found '${{ 1 / 0 }}': division by zero"),
    ('"${{ variables.Z }}"', "value: found '${{ variables.Z }}': there is no variable 'Z'. Wanted one of: X, Y"),
    ('"${{ \'\'.__class__ }}"', "value: found \"${{ ''.__class__ }}\": access to attribute '__class__' of 'str' object is unsafe, and not allowed"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "said"), VARIABLES)
def test_bad_variable(value: str, said: str) -> None:
    """What is wrong with a variable is told with file, line and field."""
    text = f"variables:\n  X: {value}\n  Y: '${{{{ X }}}}'\nworkflow: {{tasks: {{t: {{script: x}}}}}}\n"
    assert refused(text) == f"f.yaml:2: variables.X.{said}"


TASKS = [
    ("{script: ['echo ${{ variables.SEDE }}']}", "script[0]: found '${{ variables.SEDE }}': there is no variable 'SEDE'. Did you mean `SEED`?"),
    ("{script: ['${{ Q }}']}", "script[0]: found '${{ Q }}': there is no 'Q'."),
    ("{script: ['${{ SEED.__init__ }}']}", "script[0]: found '${{ SEED.__init__ }}': access to attribute '__init__' of 'int' object is unsafe, and not allowed"),
    ("{script: ['${{ SEED']}", "script[0]: found '${{ SEED': it is no expression: unexpected end of template, expected 'end of print statement'."),
    ("{script: ['${{ task.u.nodes }}']}", "script[0]: found '${{ task.u.nodes }}': there is no task 'u'. Wanted one of: t, r_0, r_1, r"),
    ("{script: ['${{ task.t.host }}']}", "script[0]: found '${{ task.t.host }}': there is no fact of a task 'host'. Wanted one of: nodes, gpus"),
    ("{script: ['${{ task.r.nodes }}']}", "script[0]: found '${{ task.r.nodes }}': it is a list of 2; wanted one of them, [0] to [1], and then `nodes`"),
    ("{script: ['${{ task.t.nodes[1].name }}']}", "script[0]: found '${{ task.t.nodes[1].name }}': it is a list of 1, without [1]"),
    ("{script: ['${{ task.t.nodes[0].name | upper }}']}", "script[0]: found '${{ task.t.nodes[0].name | upper }}': the name or address of a node, which is known in the allocation only, can be put into text, joined and concatenated (~, +), and nothing else"),
    ("{script: ['${{ task.t.nodes }}']}", "script[0]: found '${{ task.t.nodes }}': wanted one fact of a node of it, such as `.name`"),
    ("{script: x, depends_on: [q]}", "depends_on[0]: found the task 'q', which there is not. Wanted one of: r, t"),
    ("{script: x, command: [a]}", "command: found `command` beside `script`, wanted one of them"),
    ("{command: []}", "command: found an empty list, wanted a program and its arguments"),
    ("{codespec: {kind: worker, command: [a]}}", "codespec.kind: found a codespec of kind worker, wanted one of kind job here"),
    ("{script: [x, {a: {b: c}}]}", "script[1]: found {'a': {'b': 'c'}}, wanted a line of text (put it in quotes)"),
    ("{script: x, operator: docker_run}", "operator: found 'docker_run', wanted 'bash' or 'srun'"),
    ("{script: x, backend: gpu}", "backend: found the backend 'gpu'; there is none"),
    ("{script: x, outputs: []}", "outputs: found a field of nv-sflow's that hpcrun does not have; wanted a script that writes into $SFLOW_TASK_OUTPUT_DIR what is to be kept"),
    ("{script: x, cpus: 2}", "cpus: found an amount beside `resources`, wanted it in there"),
    ("{script: x, dependson: [r]}", "dependson: found an unknown key. Did you mean `depends_on`?"),
    ("{script: x, resources: {gpus: {release_after: task_ready}}}", "resources.gpus.release_after: found a field of nv-sflow's that hpcrun does not have: a task with readiness probes keeps what it has until the workflow ends, any other until it has ended; wanted a resource without it"),
    ("{script: x, resources: {nodes: {count: 3, indices: [0, 1]}}}", "resources.nodes.count: found 3 beside 2 indices, wanted one of them"),
    ("{script: x, retries: {interval: 3}}", "retries.count: is missing"),
    ("{script: x, retries: -1}", "retries.count: found -1, wanted 0 or more"),
    ("{script: x, timeout: soon}", "timeout: found 'soon', wanted a duration such as 90s, 15m, 1h30m or 01:30:00"),
    ("{script: x, fail_fast: 'yes'}", "fail_fast: found 'yes', wanted true or false"),
    ("{script: x, env: {SLURM_X: 1}}", "env.SLURM_X: found SLURM_X, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ("{script: x, probes: {readiness: {tcp_port: {port: x}}}}", "probes.readiness[0].tcp_port.port: found 'x', wanted a port from 1 to 65535, or $(NAME) for one of a variable"),
    ("{script: x, probes: {failure: {tcp_port: {port: '${{ 8 * 10000 }}'}}}}", "probes.failure[0].tcp_port.port: found '80000', wanted a port from 1 to 65535, or $(NAME) for one of a variable"),
    ("{script: x, probes: {readiness: {httpGet: {url: 'localhost:80'}}}}", "probes.readiness.httpGet.url: found 'localhost:80', wanted a URL that begins with http:// or https://"),
    ("{script: x, probes: {readiness: []}}", "probes.readiness: found [], wanted 1 or more of them"),
    ("{script: x, probes: {readiness: {tcp_port: {port: 1}, exec: [a]}}}", "probes.readiness[0]: wanted exactly one of tcp_port, http_get, http_post, log_watch and exec"),
]  # fmt: skip


@pytest.mark.parametrize(("task", "said"), TASKS)
def test_bad_task(task: str, said: str) -> None:
    """What is wrong with a task is told with file, line and field."""
    text = graph(f"t: {task}", "r: {replicas: {count: 2}, script: [x]}", variables="{SEED: 1}")
    assert refused(text) == f"f.yaml:4: workflow.tasks.t.{said}"


def test_no_program() -> None:
    """A task has to execute something."""
    assert refused(graph("t: {resources: {cpus: 1}}")) == (
        "f.yaml:4: workflow.tasks.t: found no program, wanted `script`, `command` or `codespec`"
    )


def test_cycle() -> None:
    """Tasks that wait for each other are named edge by edge."""
    text = graph(
        "a: {depends_on: [c], script: [x]}", "b: {depends_on: [a], script: [x]}", "c: {script: [x]}",
        "d: {depends_on: [b], required_by: [c], script: [x]}",
    )  # fmt: skip
    assert refused(text) == (
        "f.yaml:4: workflow.tasks.a.depends_on: found tasks that wait for each other: a depends on c, c depends on d, d depends on b, b depends on a; wanted one of these dependencies gone"
    )
    assert refused(graph("a: {depends_on: [a], script: [x]}")) == (
        "f.yaml:4: workflow.tasks.a.depends_on: found tasks that wait for each other: a depends on a; wanted one of these dependencies gone"
    )


NAMES = [
    (["0.1", "0-1"], "found the replica 't_0_1' (V=0-1) a second time, t with V=0.1 has that name; wanted values or tasks of which no two have the same name (`.`, `-` and spaces of values become `_`)"),
    (["a/b"], "found the replica 't_a/b' (V=a/b), wanted a name of letters, digits, _, - and . only: files are called by it"),
    (["x" * 200], "found a name of 202 characters, wanted 200 at most"),
    (["ü"], "found the replica 't_ü' (V=ü), wanted a name of letters, digits, _, - and . only: files are called by it"),
]  # fmt: skip


@pytest.mark.parametrize(("domain", "said"), NAMES)
def test_bad_names(domain: list[str], said: str) -> None:
    """No task is lost to a name that two have, and no name leads out of a folder."""
    text = graph(
        "t: {replicas: {variables: [V]}, script: [x]}", variables=f"{{V: {{value: {domain[0]!r}, domain: {domain}}}}}"
    )
    assert refused(text) == f"f.yaml:4: workflow.tasks.t: {said}"


def test_a_task_and_a_replica_of_one_name() -> None:
    """A task may not be called what a replica of another one is."""
    assert refused(graph("a_0: {script: [x]}", "a: {replicas: {count: 2}, script: [x]}")) == (
        "f.yaml:5: workflow.tasks.a: found 'a_0' a second time, task a_0 has that name; wanted values or tasks of which no two have the same name (`.`, `-` and spaces of values become `_`)"
    )


def test_line_of_a_script() -> None:
    """The line of a script that has a bad expression is told."""
    text = "workflow:\n  tasks:\n    - name: t\n      script:\n        - fine\n        - echo ${{ Q }}\n"
    assert refused(text) == "f.yaml:6: workflow.tasks.t.script[1]: found '${{ Q }}': there is no 'Q'."
