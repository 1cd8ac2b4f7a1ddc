"""Specs: spellings, defaults, and what the values become."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

from typing import Any

import pytest

from hpcrun import spec
from hpcrun.codespec import Codespec
from hpcrun.errors import SpecError


def of(**values: Any) -> spec.RunSpec:
    return spec.from_source(spec.raw({"command": ["a"], **values}))


def test_defaults() -> None:
    """A spec that says nothing asks for nothing."""
    assert of().model_dump(exclude_defaults=True) == {"command": ["a"]}


@pytest.mark.parametrize(
    ("key", "value", "field", "becomes"),
    [
        ("parallelism", 4, "shards", 4),
        ("completions", 4, "shards", 4),
        ("totalShards", 4, "shards", 4),
        ("total-shards", 4, "shards", 4),
        ("maxParallel", 2, "max_parallel", 2),
        ("timeoutSeconds", 90, "timeout", 90.0),
        ("timeout", "1h30m", "timeout", 5400.0),
        ("workingDir", "/w", "working_dir", "/w"),
        ("cwd", "/w", "working_dir", "/w"),
        ("pool", "gpu", "node_pool", "gpu"),
        ("mem", "8G", "memory", 8192),
        ("memory", 512, "memory", 512),
        ("cpusPerTask", 2, "cpus", 2),
        ("gpus", 2, "gpus", "2"),
        ("gpus", "a100:2", "gpus", "a100:2"),
        ("slurm", {"qos": "high"}, "sbatch", {"qos": "high"}),
        ("args", [1, 2.5, "x"], "args", ["1", "2.5", "x"]),
        ("env", {"A": 1, "B": 2.5, "C": ""}, "env", {"A": "1", "B": "2.5", "C": ""}),
        ("name", 42, "name", "42"),
        ("retries", 3, "retries", {"failed": 3}),
        ("retries", 0, "retries", {"failed": 0}),
        ("retries", 50, "retries", {"failed": 50}),
        ("retries", {"timed_out": 1, "preempted": 0}, "retries", {"timed_out": 1, "preempted": 0}),
        ("retries", {}, "retries", {}),
        ("backoffLimitPerIndex", 3, "retries", {"failed": 3}),
        ("backoff-limit-per-index", 3, "retries", {"failed": 3}),
        ("maxFailedIndexes", 0, "max_failed_indexes", 0),
        ("activeDeadlineSeconds", 90, "run_timeout", 90.0),
        ("runTimeout", "1h", "run_timeout", 3600.0),
        ("backoff", "10s", "backoff", 10.0),
        ("backoff", 0, "backoff", 0.0),
        ("retry", "in_place", "retry", "in_place"),
        ("retry", "requeue", "retry", "requeue"),
    ],
)
def test_spelling(key: str, value: object, field: str, becomes: object) -> None:
    """Every spelling of a field gives the same spec."""
    assert getattr(of(**{key: value}), field) == becomes


def test_script_lines() -> None:
    """A script is text, or a list of its lines."""
    text = spec.from_source(spec.raw({"script": "a\nb"}))
    assert text == spec.from_source(spec.raw({"script": ["a", "b"]}))


def test_sbatch_options() -> None:
    """True is a bare flag, false is none, a list is joined; underscores and dashes are the same."""
    given = {
        "hold": True,
        "requeue": False,
        "mail_type": ["END", "FAIL"],
        "--exclusive": "user",
        "nice": None,
        "priority": 3,
    }
    assert of(sbatch=given).sbatch == {
        "hold": None, "mail-type": "END,FAIL", "exclusive": "user", "nice": None, "priority": "3"
    }  # fmt: skip


def test_retries_of_a_gang() -> None:
    """They count attempts of the whole gang, and a limit for each index is not meant for it."""
    assert of(shards=3, gang=True, retries=2).retries == {"failed": 2}
    with pytest.raises(SpecError) as caught:
        of(shards=3, gang=True, backoffLimitPerIndex=2)
    assert caught.value.field == "backoffLimitPerIndex"
    with pytest.raises(SpecError, match="max_failed_indexes: found it beside `gang: true`"):
        of(shards=3, gang=True, max_failed_indexes=1)
    assert of(shards=3, gang=True, run_timeout=60, backoff=5).run_timeout == 60


@pytest.mark.parametrize("fields", [{}, {"gang": True}, {"worker": {"command": ["b"]}}])
def test_one_shard_an_element_is_what_there_is_anyway(fields: dict[str, Any]) -> None:
    """So it may be said of every run of shards."""
    assert of(shards=3, shards_per_element=1, **fields).shards_per_element == 1


@pytest.mark.parametrize(
    "harmless",
    [
        {"completionMode": "Indexed"},
        {"gangScheduling": False},
        {"backoffLimitPerIndex": 0},
        {"results": "shared"},
        {"completionMode": "NonIndexed", "retries": 3, "shards": 2, "gang": True},
    ],
)
def test_what_holds_anyway(harmless: dict[str, Any]) -> None:
    """A field of Sylphx's or Kubernetes' that asks for what hpcrun does anyway is taken."""
    assert of(**harmless).command == ["a"]


def test_values_in_no_file() -> None:
    """A spec from Python names the field alone, and carries the facts."""
    with pytest.raises(SpecError) as caught:
        of(env={"A": [1]})
    assert str(caught.value) == "env.A: found [1], wanted text (put it in quotes)"
    assert (caught.value.file, caught.value.line, caught.value.field) == ("", None, "env.A")


@pytest.mark.parametrize("size", [131069, 131070])
def test_largest_variable(size: int) -> None:
    """Linux gives a program 128 KiB a variable, name, = and the final NUL included."""
    if size == 131069:
        assert len(of(env={"A": "x" * size}).env["A"]) == size
    else:
        with pytest.raises(SpecError, match="128 KiB"):
            of(env={"A": "x" * size})


def test_bytes_count_not_letters() -> None:
    """The limit of a variable is in bytes; two of them make an é."""
    with pytest.raises(SpecError, match="128 KiB"):
        of(env={"A": "é" * 70000})


WORKER = {"command": ["serve"]}


@pytest.mark.parametrize(
    ("key", "value", "field", "becomes"),
    [
        ("gang", True, "gang", True),
        ("gangScheduling", True, "gang", True),
        ("gang-scheduling", True, "gang", True),
        ("failFast", False, "fail_fast", False),
        ("fail_fast", False, "fail_fast", False),
        ("startTimeout", "2m", "start_timeout", 120.0),
        ("start-timeout", 30, "start_timeout", 30.0),
        ("topology", "flat", "topology", "flat"),
        ("ntasks", 4, "tasks", 4),
        ("maxParallel", 9, "max_parallel", 9),
        ("replicas", 1, "replicas", None),
        ("replicas", None, "replicas", None),
        ("nodePool", "gpu", "node_pool", "gpu"),
    ],
)
def test_spelling_beside_workers(key: str, value: object, field: str, becomes: object) -> None:
    """So do those of runs whose processes start together."""
    assert getattr(of(worker=WORKER, shards=4, **{key: value}), field) == becomes


@pytest.mark.parametrize(
    "given",
    [
        {"command": ["serve"], "cpus": 2, "endpoints": {"http": 80}, "replicas": 3, "node_pool": "gpu"},
        {"command": ["serve"], "cpusPerTask": 2, "endpoints": {"http": 80}, "replicas": 3, "nodePool": "gpu"},
        {"codespec": {"command": ["serve"], "cpus": 2, "endpoints": {"http": 80}}, "replicas": 3, "pool": "gpu"},
        {"codespec": {"kind": "worker", "Command": ["serve"], "cpus-per-task": 2, "endpoints": {"http": 80}},
         "Replicas": 3, "node-pool": "gpu"},
    ],
)  # fmt: skip
def test_worker_spellings(given: dict[str, Any]) -> None:
    """The fields of a worker's codespec stand under `codespec` or right under `worker`, which is the same."""
    worker = of(worker=given).worker
    assert worker is not None
    assert (worker.replicas, worker.node_pool, worker.machine) == (3, "gpu", None)
    assert isinstance(worker.codespec, Codespec)
    assert worker.codespec.model_dump(exclude_defaults=True) == {
        "kind": "worker", "command": ["serve"], "cpus": 2, "endpoints": {"http": 80}
    }  # fmt: skip


def test_worker_by_name() -> None:
    """A worker's codespec may be a name, with a version or without, and there is one worker by default."""
    worker = of(worker={"codespec": "serve/versions/3"}).worker
    assert worker is not None
    assert (worker.codespec, worker.replicas, worker.node_pool, worker.machine) == ("serve/versions/3", 1, None, None)


def without_command(**values: Any) -> spec.RunSpec:
    return spec.from_source(spec.raw(values))


@pytest.mark.parametrize(
    "given",
    [
        {"job": {"codespec": "train", "nodePool": "gpu", "machine": "large"}},
        {"job": {"codespec": "train", "pool": "gpu", "machine": "large", "replicas": 1}},
        {"codespec": "train", "node_pool": "gpu", "machine": "large"},
        {"kind": "run", "codespec": "train", "job": {"node-pool": "gpu", "machine": "large"}},
        {"kind": "job", "codespec": "train", "job": {"nodePool": "gpu"}, "machine": "large"},
    ],
)
def test_job_spellings(given: dict[str, Any]) -> None:
    """Tyger's `job:` is another way to write the run's own fields."""
    found = without_command(**given)
    assert (found.codespec, found.node_pool, found.machine) == ("train", "gpu", "large")


def test_job_inline() -> None:
    """The job's codespec may be inline, in any spelling, under `job` or at the top; its place tells its kind."""
    program = {"Command": ["a"], "workingDir": "/w", "resources": {"Limits": {"CPU": 2}}}
    found = without_command(job={"codespec": program})
    assert found == without_command(codespec={**program, "kind": "job"})
    assert isinstance(found.codespec, Codespec)
    assert (found.codespec.kind, found.codespec.working_dir, found.codespec.demand()[0]) == ("job", "/w", 2)


def test_tygers_run() -> None:
    """A run as Tyger's documentation writes it: job and workers by code target, resources in Kubernetes' words."""
    found = without_command(
        job={"codespec": "train", "nodePool": "cpu"},
        worker={
            "codespec": {
                "kind": "worker", "command": ["serve"], "endpoints": {"http": 8080}, "maxReplicas": 4,
                "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "gpu": 1},
            },
            "nodePool": "gpu", "replicas": 4,
        },
        timeoutSeconds=60,
    )  # fmt: skip
    assert (found.codespec, found.node_pool, found.timeout) == ("train", "cpu", 60.0)
    assert found.worker is not None
    assert isinstance(found.worker.codespec, Codespec)
    assert found.worker.codespec.demand() == (1, 1024, "1")


# What is said of a spec that stands in no file.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"worker": None, "gang": True}, "gang: found a gang of one program, wanted `shards` (or workers, which start together)"),
    ({"worker": WORKER, "gang": "yes please"}, "gang: found 'yes please', wanted true or false"),
    ({"shards": 3, "failFast": 3}, "fail_fast: found 3, wanted true or false"),
    ({"topology": "flat", "shards": 3}, "topology: found flat without workers, wanted `worker`, or no topology"),
    ({"worker": WORKER, "topology": "Flat"}, "topology: found 'Flat', wanted 'auto', 'flat' or 'het'"),
    ({"worker": []}, "worker: found [], wanted a mapping of names to values"),
    ({"worker": {}}, "worker: found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there (--worker-codespec)"),
    ({"worker": {"replicas": 2}}, "worker: found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there (--worker-codespec)"),
    ({"worker": "serve"}, "worker: found 'serve', wanted a mapping such as {codespec: serve, replicas: 2}"),
    ({"worker": {"codespec": 3}}, "worker.codespec: found 3, wanted the name of a codespec (in quotes), or a mapping with `command`"),
    ({"worker": {"codespec": {}}}, "worker.codespec: found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ({"worker": {"codespec": []}}, "worker.codespec: found [], wanted the name of a codespec (in quotes), or a mapping with `command`"),
    ({"worker": {**WORKER, "replicas": True}}, "worker.replicas: found true, wanted a whole number"),
    ({"worker": {**WORKER, "replicas": 1.5}}, "worker.replicas: found 1.5, wanted a whole number"),
    ({"worker": {**WORKER, "replicas": "2"}}, "worker.replicas: found '2', wanted a whole number"),
    ({"worker": {**WORKER, "machine": 3}}, "worker.machine: found 3, wanted text (put it in quotes)"),
    ({"worker": {**WORKER, "pool": "a", "node_pool": "b"}}, "worker.node_pool: found `node_pool` beside `pool`, which says the same; wanted one of them"),
    ({"worker": {**WORKER, "nodes": 2}}, "worker.codespec.nodes: found a worker of several processes, wanted replicas"),
    ({"worker": {**WORKER, "shards": 2}}, "worker.shards: found an unknown key. Did you mean `args`?"),
    ({"worker": {**WORKER, "sockets": []}}, "worker.sockets: found a field of Tyger's service that has no meaning on a cluster; wanted a codespec without it (docs/scope.md)"),
    ({"worker": {**WORKER, "script": "x"}}, "worker.codespec.script: found `script` beside `command`, wanted one of them"),
    ({"worker": {"codespec": {**WORKER, "restart": "sometimes"}}}, "worker.codespec.restart: found 'sometimes', wanted 'never' or 'always'"),
    ({"worker": {"codespec": {**WORKER, "env": {"TYGER_X": "1"}}}}, "worker.codespec.env.TYGER_X: found TYGER_X, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ({"worker": {"codespec": {**WORKER, "replicas": 2}}}, "worker.codespec.replicas: found an unknown key. Did you mean `max_replicas`?"),
    ({"worker": {"codespec": "Serve"}}, "worker.codespec: found 'Serve', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ({"readiness": {"exec": ["a"]}}, "readiness: found a field of workers on the job, wanted it under `worker`"),
    ({"job": {"command": ["b"]}}, "job.command: found an unknown key. Wanted one of: codespec, machine, node_pool, replicas"),
    ({"job": []}, "job: found [], wanted a mapping with `codespec`"),
    ({"job": {"replicas": 2}}, "replicas: found 2, wanted 1: for copies of the job write `shards` and `gang: true`"),
    ({"job": {"machine": "a"}, "machine": "b"}, "job.machine: found `job.machine` beside `machine`, which says the same; wanted one of them"),
    ({"kind": "Job"}, "kind: found 'Job', wanted 'job'; workers are described under `worker`"),
    ({"shards": 5, "gang": True, "max_parallel": 4}, "max_parallel: found 4 beside `gang: true`, which starts all 5 shards at once; wanted one of them"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "said"), REFUSED)
def test_refused(fields: dict[str, Any], said: str) -> None:
    """What is wrong with job or workers is said with the field and with what would do."""
    with pytest.raises(SpecError) as caught:
        of(**fields)
    assert str(caught.value) == said
