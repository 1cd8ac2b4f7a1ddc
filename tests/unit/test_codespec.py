"""Codespecs: fields and their spellings, Kubernetes' quantities, endpoints, mounts, probes, and what is refused."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun import codespec, quantity, specfile
from hpcrun.codespec import Codespec
from hpcrun.errors import SpecError
from hpcrun.fields import Source


def of(**values: Any) -> Codespec:
    """The job codespec with these fields, spelled as they are."""
    given_ = values if "script" in values else {"command": ["a"], **values}
    return codespec.checked(codespec.spelled(Source(given_, {})))


def worker(**values: Any) -> Codespec:
    return of(kind="worker", **values)


def said(text: str) -> str:
    """What is said about the codespec in the file c.yaml, behind its name."""
    with pytest.raises(SpecError) as caught:
        codespec.checked(codespec.spelled(specfile.parse(text, "c.yaml")))
    assert caught.value.file == "c.yaml"
    return str(caught.value).removeprefix("c.yaml:")


def test_defaults() -> None:
    """A codespec that says nothing but its program asks for nothing, and is a job's."""
    made = of()
    assert made.model_dump(exclude_defaults=True) == {"command": ["a"]}
    assert (made.kind, made.demand(), made.restart) == ("job", (None, None, None), "never")


@pytest.mark.parametrize(
    ("key", "value", "field", "becomes"),
    [
        ("workingDir", "/w", "working_dir", "/w"),
        ("working-directory", "/w", "working_dir", "/w"),
        ("cwd", "/w", "working_dir", "/w"),
        ("chdir", "/w", "working_dir", "/w"),
        ("mem", "8G", "memory", 8192),
        ("cpusPerTask", 2, "cpus", 2),
        ("ntasks", 4, "tasks", 4),
        ("volumeMounts", ["/d"], "mounts", [("/d", "/d", False)]),
        ("maxReplicas", 3, "max_replicas", 3),
        ("args", [1, 2.5, "x"], "args", ["1", "2.5", "x"]),
        ("env", {"A": 1}, "env", {"A": "1"}),
        ("gpus", 2, "gpus", "2"),
        ("gpus", "a100:2", "gpus", "a100:2"),
    ],
)
def test_spelling(key: str, value: object, field: str, becomes: object) -> None:
    """Every spelling of a field gives the same codespec."""
    assert getattr(of(**{key: value}), field) == becomes


def test_nested_spelling() -> None:
    """So do the fields inside of resources and readiness, in Kubernetes' camelCase."""
    made = worker(
        resources={"Requests": {"CPU": 2}, "limits": {"Memory": "1Gi"}, "GPU": 1},
        readiness={"httpGet": {"URL": "http://x"}, "successThreshold": 2, "each-check-timeout": "3s"},
    )
    assert (made.demand(), made.resources.requests.cpu) == ((2, 1024, "1"), 2)
    assert made.readiness is not None
    assert (made.readiness.success_threshold, made.readiness.each_check_timeout) == (2, 3.0)


def test_what_the_service_adds() -> None:
    """Name, version and creation time, which Tyger's answers have, are no part of a codespec."""
    assert of(name="x", version=3, createdAt="2026-01-01T00:00:00Z") == of()


def test_script_lines() -> None:
    """A script is text, or a list of its lines."""
    assert of(script=["a", "b"]) == of(script="a\nb")


def test_demand() -> None:
    """hpcrun's own fields win over resources, a limit over a request."""
    resources = {"requests": {"cpu": "500m", "memory": "1G"}, "limits": {"cpu": 4}, "gpu": 2}
    assert of(resources=resources).demand() == (4, 954, "2")
    assert of(resources=resources, cpus=8, memory="2G", gpus="a100:1").demand() == (8, 2048, "a100:1")
    assert of(resources={"gpu": 0}).demand() == (None, None, "0")


@pytest.mark.parametrize(
    ("text", "mib"),
    [
        ("1Gi", 1024), ("1024Mi", 1024), ("1G", 954), ("512M", 489), (1, 1), (2**20, 1), (2**20 + 1, 2), ("1e9", 954),
        ("1E3", 1), ("1.5Gi", 1536), ("1Ki", 1), ("1025Ki", 2), ("1Ti", 2**20), ("1E", math.ceil(10**18 / 2**20)),
        ("1000k", 1), ("1048577000m", 2), (" 1Gi ", 1024),
    ],
)  # fmt: skip
def test_memory(text: str | int, mib: int) -> None:
    """Kubernetes' units: powers of 1000, with i of 1024, and bytes without one; parts of a MiB are rounded up."""
    assert quantity.kubernetes_memory(text) == mib


@pytest.mark.parametrize(
    ("text", "cpus"), [("2", 2), (2, 2), (1.5, 2), ("500m", 1), ("1001m", 2), ("2000m", 2), ("0.1", 1), ("1e1", 10)]
)
def test_cpus(text: str | float, cpus: int) -> None:
    """Slurm allots whole CPUs, so parts are rounded up."""
    assert quantity.kubernetes_cpus(text) == cpus


@pytest.mark.parametrize(("text", "count"), [("2", 2), (0, 0), ("2000m", 2), ("1k", 1000), ("1e1", 10)])
def test_count(text: str | int, count: int) -> None:
    """GPUs are whole, in whatever notation."""
    assert quantity.kubernetes_count(text) == count


@pytest.mark.parametrize("text", ["", "G", "1Zi", "-1", "1 Gi", "1ki", "1gi", "1Gi1", "e3", "1e", "NaN", ".5", True])
def test_no_quantity(text: str | bool) -> None:
    """What is no quantity is refused with what was found; units have one case, for m and M are not the same."""
    for read in (quantity.kubernetes_memory, quantity.kubernetes_cpus, quantity.kubernetes_count):
        with pytest.raises(ValueError, match=r"found .*, wanted"):
            read(text)


@given(st.integers(1, 10**9), st.sampled_from(["Ki", "Mi", "Gi", "Ti"]))
def test_units_agree(amount: int, unit: str) -> None:
    """The same amount in two units is the same memory."""
    small = {"Ki": "", "Mi": "Ki", "Gi": "Mi", "Ti": "Gi"}[unit]
    assert quantity.kubernetes_memory(f"{amount}{unit}") == quantity.kubernetes_memory(f"{amount * 1024}{small}")


@given(st.text() | st.integers() | st.floats() | st.booleans() | st.none() | st.lists(st.text()))
def test_any_value(value: object) -> None:
    """Whatever stands where an amount should, the answer is a codespec or a SpecError with the field."""
    fields = set()
    for where in ({"limits": {"memory": value}}, {"requests": {"cpu": value}}, {"gpu": value}, {"shm": value}):
        try:
            of(resources=where)
        except SpecError as error:
            fields.add(error.field)
    assert fields <= {"resources.limits.memory", "resources.requests.cpu", "resources.gpu", "resources.shm"}


def test_endpoints() -> None:
    """Names of ports; auto is a free one for each replica."""
    assert worker(endpoints={"rpc": 80, "metrics-v2": "auto"}).endpoints == {"rpc": 80, "metrics-v2": 0}


@pytest.mark.parametrize(
    ("entry", "becomes"),
    [
        ("/d", ("/d", "/d", False)),
        ("/d:/e", ("/d", "/e", False)),
        ("/d:/e:ro", ("/d", "/e", True)),
        ("/d:/e:rw", ("/d", "/e", False)),
        ("/d::ro", ("/d", "/d", True)),
        ({"source": "/d"}, ("/d", "/d", False)),
        ({"source": "/d", "target": "/e", "readOnly": True}, ("/d", "/e", True)),
        ({"source": "/d", "mountPath": "/e", "read_only": False}, ("/d", "/e", False)),
        ({"volumeId": "/d", "mountPath": "/e"}, ("/d", "/e", False)),
        ({"volume_id": "/d"}, ("/d", "/d", False)),
    ],
)
def test_mounts(entry: object, becomes: tuple[str, str, bool]) -> None:
    """A folder as text or as a mapping."""
    assert of(mounts=[entry]).mounts == [becomes]


@pytest.mark.parametrize(
    "bad",
    ["d", "/d:e", "/d:/e:rx", "/d:/e:ro:x", "/a,b", "", 3, None, [], {}, {"target": "/e"}, {"source": "/d", "x": 1},
     {"volumeId": "vol_1", "mountPath": "/e"}, {"volumeId": 3}, {"source": "/d", "volumeId": "/e"}, {"source": "/d", "readOnly": "yes"}, "/d\n:/e"],
)  # fmt: skip
def test_no_mount(bad: object) -> None:
    """What a runtime could take for something else is refused."""
    with pytest.raises(SpecError, match=r"^mounts: found .*, wanted"):
        of(mounts=[bad])


@pytest.mark.parametrize(
    ("readiness", "check"),
    [
        ({"tcpPort": {"port": 80}}, ("tcp_port", {"port": "80", "host": "127.0.0.1"})),
        ({"tcpPort": {"port": "$(RPC_PORT)", "host": "h"}}, ("tcp_port", {"port": "$(RPC_PORT)", "host": "h"})),
        (
            {"httpGet": {"url": "http://x", "headers": {"A": 1}}},
            ("http_get", {"url": "http://x", "headers": {"A": "1"}}),
        ),
        ({"exec": {"command": ["test", "-e", "x"]}}, ("exec", {"command": ["test", "-e", "x"]})),
        ({"exec": ["test", "-e", "x"]}, ("exec", {"command": ["test", "-e", "x"]})),
    ],
)
def test_probe(readiness: object, check: tuple[str, dict[str, Any]]) -> None:
    """One check of each kind; a list is the command of exec."""
    made = worker(readiness=readiness).readiness
    assert made is not None
    assert getattr(made, check[0]).model_dump() == check[1]
    assert (made.delay, made.interval, made.each_check_timeout, made.timeout, made.success_threshold) == (
        0,
        None,
        5,
        None,
        1,
    )


@pytest.mark.parametrize(
    ("watch", "line", "found"),
    [
        ({"regexPattern": "rea.y"}, "is ready now", True),
        ({"regexPattern": "^ready$"}, "is ready now", False),
        ({"matchPattern": "a.b"}, "xa.bx", True),
        ({"matchPattern": "a.b"}, "axb", False),
        ({"matchPattern": "re:a.b"}, "axb", True),
        ({"matchPattern": "regex:a.b"}, "axb", True),
    ],
)
def test_log_watch(watch: dict[str, str], line: str, found: bool) -> None:
    """A pattern is searched for anywhere in a line; match_pattern is a plain text unless it begins with re:."""
    made = worker(readiness={"logWatch": watch}).readiness
    assert made is not None
    assert made.log_watch is not None
    assert bool(re.search(made.log_watch.pattern, line)) is found


def test_probe_times() -> None:
    """Durations as everywhere; a delay may be none."""
    made = worker(readiness={"exec": ["x"], "delay": 0, "interval": "1m", "timeout": "1h"}).readiness
    assert made is not None
    assert (made.delay, made.interval, made.timeout) == (0.0, 60.0, 3600.0)


CLOUD = (
    "found a field of Tyger's service that has no meaning on a cluster; wanted a codespec without it (docs/scope.md)"
)
PROBE = "readiness: wanted exactly one of tcp_port, http_get, http_post, log_watch and exec"
WORKER = "kind: worker\ncommand: [a]\n"
REFUSED = [
    ("kind: job\n", "1: found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("image: x\nargs: [a]\n", "1: found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("command: [a]\nscript: b\n", "2: script: found `script` beside `command`, wanted one of them"),
    ("script: b\nargs: [a]\n", "2: args: found `args` beside `script`, wanted them in the script, or a `command`"),
    ("kind: Worker\ncommand: [a]\n", "1: kind: found 'Worker', wanted 'job' or 'worker'"),
    ("command: [a]\nshards: 3\n", "2: shards: found an unknown key."),
    ("command: [a]\nworkingDirr: x\n", "2: workingDirr: found an unknown key. Did you mean `working_dir`?"),
    ("command: [a]\nmem: 1G\nmemory: 1G\n", "3: memory: found `memory` beside `mem`, which says the same; wanted one of them"),
    ("command: [a]\nbuffers: {inputs: [x]}\n", f"2: buffers: {CLOUD}"),
    ("command: [a]\nidentity: me\n", f"2: identity: {CLOUD}"),
    ("command: [a]\nendpoints: {x: 1}\n", "2: endpoints: found endpoints on a job; job codespecs cannot have endpoints, workers can"),
    ("command: [a]\nreadiness: {exec: [b]}\n", "2: readiness: found readiness on a job; job codespecs cannot have readiness, workers can"),
    ("command: [a]\nrestart: always\n", "2: restart: found always on a job, wanted it on a worker: runs end when their job ends"),
    (WORKER + "tasks: 2\n", "3: tasks: found a worker of several processes, wanted replicas"),
    (WORKER + "nodes: 2\n", "3: nodes: found a worker of several processes, wanted replicas"),
    (WORKER + "nodes: 2\ntasks: 1\n", "3: nodes: found a worker of several processes, wanted replicas"),
    ("command: [a]\nnodes: 4\ntasks: 3\n", "3: tasks: found 3 tasks on 4 nodes, wanted a task a node at least"),
    ("command: [a]\nmpi: \"a\\nb\"\n", "2: mpi: found a control character in 'a\\nb', wanted a single line"),
    (WORKER + "endpoints:\n  x: 0\n", "4: endpoints.x: found 0, wanted a port from 1 to 65535, or auto"),
    (WORKER + "endpoints:\n  x: 65536\n", "4: endpoints.x: found 65536, wanted a port from 1 to 65535, or auto"),
    (WORKER + "endpoints:\n  x: '80'\n", "4: endpoints.x: found '80', wanted a port from 1 to 65535, or auto"),
    (WORKER + "endpoints:\n  x: true\n", "4: endpoints.x: found true, wanted a port from 1 to 65535, or auto"),
    (WORKER + "endpoints:\n  x:\n", "4: endpoints.x: found nothing, wanted a port from 1 to 65535, or auto"),
    (WORKER + "endpoints:\n  9x: 1\n", "4: endpoints.9x: found the endpoint '9x', wanted letters, digits and dashes, a letter first"),
    (WORKER + "endpoints:\n  a-b: 1\n  a_B: 2\n", "5: endpoints.a_B: found `a_B` beside `a-b`: both are A_B in upper case; rename one"),
    (WORKER + "endpoints: [x]\n", "3: endpoints: found ['x'], wanted a mapping of names to values"),
    (WORKER + "readiness: {}\n", f"3: {PROBE}"),
    (WORKER + "readiness: {exec: [a], tcpPort: {port: 1}}\n", f"3: {PROBE}"),
    (WORKER + "readiness:\n  tcpPort: {prt: 1}\n", "4: readiness.tcpPort.prt: found an unknown key. Did you mean `port`?"),
    (WORKER + "readiness:\n  exec: {cmd: [a]}\n", "4: readiness.exec.cmd: found an unknown key. Did you mean `command`?"),
    (WORKER + "readiness:\n  tcpPort: {}\n", "4: readiness.tcpPort.port: is missing"),
    (WORKER + "readiness:\n  exec: a b\n", "4: readiness.exec: found 'a b', wanted a mapping of names to values"),
    (WORKER + "readiness:\n  logWatch: {}\n", "4: readiness.logWatch: wanted one of regex_pattern and match_pattern"),
    (WORKER + "readiness:\n  logWatch: {regexPattern: '('}\n", "4: readiness.logWatch: found '(', which is no regular expression: missing ), unterminated subpattern at position 0"),
    (WORKER + "readiness:\n  exec: [a]\n  interval: 0\n", "5: readiness.interval: found 0, wanted a duration above zero"),
    ("command: [a]\nresources: {requests: {cpus: 1}}\n", "2: resources.requests.cpus: found an unknown key. Did you mean `cpu`?"),
    ("command: [a]\nresources: {memory: 1Gi}\n", "2: resources.memory: found an unknown key. Wanted one of: gpu, limits, requests, shm"),
    ("command: [a]\nresources: {gpu: 0.5}\n", "2: resources.gpu: found 0.5, wanted a whole number"),
    ("command: [a]\nmax_replicas: 0\n", "2: max_replicas: found 0, wanted 1 or more"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), REFUSED)
def test_refused(text: str, problem: str) -> None:
    """What is wrong is said with the line and the field as its author spelled it."""
    assert said(text).startswith(problem)


def test_kind_of_the_place() -> None:
    """Where a codespec stands tells its kind when it does not say; what it says has to agree."""
    given_ = Source({"command": ["a"], "endpoints": {"x": 1}}, {})
    assert codespec.checked(given_, "worker").kind == "worker"
    with pytest.raises(SpecError, match=r"^kind: found a codespec of kind job, wanted one of kind worker here$"):
        codespec.checked(Source({"kind": "job", "command": ["a"]}, {}), "worker")


@pytest.mark.parametrize(
    ("text", "found"),
    [("a", ("a", None)), ("a.b_c-1/versions/12", ("a.b_c-1", 12)), ("versions", ("versions", None))],
)
def test_reference(text: str, found: tuple[str, int | None]) -> None:
    """A name, or a name and its version."""
    assert codespec.reference(text) == found


@pytest.mark.parametrize(
    "text", ["", "A", "a/", "a/versions", "a/versions/", "a/versions/0", "a/versions/01", "a/versions/1/2", "a/b",
             "a@1", "/a", "a/versions/²", "a\n", "a/versions/" + "9" * 10],
)  # fmt: skip
def test_no_reference(text: str) -> None:
    """Anything else is refused with what a reference looks like."""
    with pytest.raises(ValueError, match=r"^found .*, wanted the name of a codespec .* or NAME/versions/NUMBER$"):
        codespec.reference(text)
