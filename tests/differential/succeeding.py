"""Workflows in which nothing fails."""

from __future__ import annotations

from itertools import pairwise, product
from random import Random
from typing import Any

from differential.workflows import (
    Tasks,
    Workflow,
    bare,
    family,
    free_port,
    logger,
    nap,
    ready_when,
    server,
    swept,
    task,
    with_gpus,
    workflow,
)

NAMED = str.maketrans(".- ", "___")


def _linked(random: Random, tasks: Tasks) -> Tasks:
    """These tasks with a random graph over them, spelt from either end, and in random order."""
    for place, later in enumerate(tasks):
        for earlier in random.sample(tasks[:place], random.randint(0, min(place, 3))):
            if random.random() < 0.5:
                later.setdefault("depends_on", []).append(earlier["name"])
            else:
                earlier.setdefault("required_by", []).append(later["name"])
    return random.sample(tasks, len(tasks))


@family
def plain_environment(random: Random, name: str) -> Workflow:
    return workflow(
        name, [task("only", nap(random))],
        TEXT=random.choice(("hello", "two words", "it's", 'a"b', "")), NUMBER=random.randint(-9, 99),
        TYPED={"value": str(random.randint(1, 99)), "type": "integer"}, RATE={"value": 0.10, "type": "float"},
        FLAG={"value": random.random() < 0.5, "type": "boolean"}, LIST={"value": [1, "b"], "type": "list"},
        TABLE={"value": {"a": 1}, "type": "dict"},
        DERIVED="${{ variables.TEXT }}-${{ NUMBER }}",
    )  # fmt: skip


@family
def plain_together(random: Random, name: str) -> Workflow:
    names = [f"t{number}" for number in range(random.randint(3, 5))]
    return workflow(name, [task(one, f"$NOTE meet {' '.join(names)}") for one in names])


@family
def plain_chain(random: Random, name: str) -> Workflow:
    tasks = [task(f"step{number}", nap(random)) for number in range(random.randint(3, 4))]
    for earlier, later in pairwise(tasks):
        later["depends_on"] = [earlier["name"]]
    return workflow(name, random.sample(tasks, len(tasks)))


@family
def diamond(random: Random, name: str) -> Workflow:
    sides = [f"side{number}" for number in range(random.randint(2, 4))]
    middle = [task(side, f"$NOTE meet {' '.join(sides)}", depends_on=["top"]) for side in sides]
    return workflow(name, [task("bottom", depends_on=sides), *middle, task("top", nap(random))])


@family
def random_graph(random: Random, name: str) -> Workflow:
    return workflow(name, _linked(random, [task(f"n{number}", nap(random)) for number in range(9)]))


@family
def required_by(random: Random, name: str) -> Workflow:
    return workflow(
        name,
        [
            task("last", nap(random), depends_on=["first"]),
            task("first", nap(random), required_by=["last", "middle", "absent", "first"]),
            task("middle", nap(random), required_by=["last"]),
        ],
    )


@family
def count_parallel(random: Random, name: str) -> Workflow:
    count = random.randint(2, 4)
    names = " ".join(f"middle_{number}" for number in range(count))
    return workflow(
        name,
        [
            task("before", nap(random)),
            task("middle", f"$NOTE meet {names}", replicas={"count": count}, depends_on=["before"]),
            task("after", depends_on=["middle"]),
        ],
    )


@family
def count_sequential(random: Random, name: str) -> Workflow:
    replicas = {"count": random.randint(2, 3), "policy": "sequential"}
    return workflow(
        name,
        [
            task("before", nap(random), required_by=["middle"]),
            task("middle", nap(random), replicas=replicas, required_by=["after"]),
            task("after"),
        ],
    )


@family
def count_one(random: Random, name: str) -> Workflow:
    replicas: list[dict[str, Any]] = [{"count": 1}, {}, {"count": "1", "policy": "sequential"}]
    return workflow(name, [task(f"t{number}", replicas=one) for number, one in enumerate(replicas)])


@family
def sweep_alone(random: Random, name: str) -> Workflow:
    """A single task that is swept over: an array here."""
    values = random.sample(range(100), 3)
    replicas = {"variables": ["SIZE"], "count": 3}
    line = "$NOTE say ${{ variables.SIZE }} ${{ SIZE + 1 }} $SIZE"
    return workflow(name, [task("train", line, replicas=replicas)], SIZE=swept(*values, type="integer"), OTHER="same")


@family
def sweep_sequential(random: Random, name: str) -> Workflow:
    replicas = {"variables": ["SIZE"], "policy": "sequential"}
    return workflow(name, [task("train", nap(random), replicas=replicas)], SIZE=swept(16, 32, 128))


@family
def sweep_two(random: Random, name: str) -> Workflow:
    rates, sizes = random.sample((0.1, 0.01, 0.001, 1e-05), 2), random.sample(("small", "big one", "x-large"), 2)
    names = " ".join(f"fit_{rate}_{size}".translate(NAMED) for rate, size in product(rates, sizes))
    tasks = [
        task("before", nap(random)),
        task("fit", f"$NOTE meet {names}", replicas={"variables": ["RATE", "SIZE"]}, depends_on=["before"]),
        task("after", nap(random), depends_on=["fit"]),
    ]
    return workflow(name, tasks, RATE=swept(*rates, type="float"), SIZE=swept(*sizes))


@family
def sweep_two_in_turn(random: Random, name: str) -> Workflow:
    replicas = {"variables": ["B", "A"], "policy": "sequential", "count": 4}
    tasks = [task("point", nap(random), replicas=replicas), task("after", depends_on=["point"])]
    return workflow(name, tasks, A=swept(1, 2), B=swept("p", "q"))


@family
def sweep_odd(random: Random, name: str) -> Workflow:
    values = random.sample([0.1, -1, "a b", 1.0, True, 1e-05, "v1.2-rc", "under_score"], 5)
    tasks = [task("odd", replicas={"variables": ["V"]}), task("after", depends_on=["odd"])]
    return workflow(name, tasks, V=swept(*values))


@family
def replicas_behind_replicas(random: Random, name: str) -> Workflow:
    return workflow(
        name,
        [
            task("a", nap(random), replicas={"count": 2}),
            task("b", nap(random), replicas={"count": 2, "policy": "sequential"}, depends_on=["a"]),
            task("c", replicas={"variables": ["V"]}, depends_on=["b"]),
            task("d", depends_on=["c", "a"]),
        ],
        V=swept("x", "y"),
    )


@family
def service_tcp(random: Random, name: str) -> Workflow:
    port = free_port()
    probes = ready_when(tcp_port={"port": "${{ variables.PORT }}"}, timeout=30)
    tasks = [
        server("server", port, random.choice((0, 0.5, 1.5)), probes=probes),
        task("client", nap(random), depends_on=["server"]),
    ]
    return workflow(name, tasks, PORT={"value": port, "type": "integer"})


@family
def service_http(random: Random, name: str) -> Workflow:
    port, other = free_port(), free_port()
    get = {"url": "http://127.0.0.1:${{ PORT }}/", "headers": {"X-From": "probe"}}
    post = {"url": f"http://127.0.0.1:{other}/", "body": "${{ WORD }}?"}
    tasks = [
        server("server", port, random.choice((0.5, 1.5)), probes=ready_when(http_get=get, success_threshold=2)),
        server("other", other, 0, probes=ready_when(http_post=post)),
        task("client", depends_on=["server", "other"]),
        task("aside", nap(random)),
    ]
    return workflow(name, tasks, PORT={"value": port, "type": "integer"}, WORD="ready")


@family
def service_log(random: Random, name: str) -> Workflow:
    """A literal, a regular expression, a count of matches, and the log of somebody else."""
    watch: list[dict[str, Any]] = [
        {"regex_pattern": "listening on 8000"},
        {"match_pattern": r"re:on \d{4}"},
        {"regex_pattern": "listening", "match_count": 2},
    ]
    tasks = [
        logger(f"s{number}", 0.3, line="listening on 8000 listening", probes=ready_when(log_watch=one))
        for number, one in enumerate(watch)
    ]
    other = bare("other", "sleep 0.5", "$NOTE up", "sleep 120")
    other["probes"] = ready_when(log_watch={"regex_pattern": "listening", "logger": "s0"})
    return workflow(name, [*tasks, other, task("client", depends_on=["s0", "s1", "s2", "other"])])


@family
def service_and_sweep(random: Random, name: str) -> Workflow:
    port = free_port()
    replicas = {"variables": ["CONCURRENCY"], "policy": "sequential"}
    tasks = [
        server("server", port, 1, probes=ready_when(tcp_port={"port": port})),
        task("benchmark", nap(random), replicas=replicas, depends_on=["server"]),
    ]
    return workflow(name, tasks, CONCURRENCY=swept(16, 32, 64, type="integer"))


@family
def services_replicated(random: Random, name: str) -> Workflow:
    probes = {"readiness": [{"interval": 1, "log_watch": {"regex_pattern": word}} for word in ("one", "two")]}
    lines = ("$NOTE up", "echo one", "echo two", "sleep 120")
    return workflow(
        name,
        [
            bare("both", *lines, replicas={"count": 2}, probes=probes),
            bare("turns", *lines, replicas={"count": 2, "policy": "sequential"}, probes=probes, depends_on=["both"]),
            task("client", nap(random), depends_on=["turns", "both"]),
        ],
    )


@family
def service_that_ends(random: Random, name: str) -> Workflow:
    """A service that has been ready may end; what needs it goes on."""
    lines = ("$NOTE up", "echo listening", "sleep 3", "$NOTE end")
    return workflow(
        name,
        [
            bare("brief", *lines, probes=ready_when(log_watch={"regex_pattern": "listening"})),
            task("client", "sleep 5", depends_on=["brief"]),
            task("later", nap(random), depends_on=["brief", "client"]),
        ],
    )


@family
def service_log_literal(random: Random, name: str) -> Workflow:
    """A pattern to match is a plain text."""
    line = "[engine] ready (1/2)"
    engine = logger("engine", 0.2, line=f"'{line}'", probes=ready_when(log_watch={"match_pattern": line}))
    return workflow(name, [engine, task("client", nap(random), depends_on=["engine"])])


@family
def service_stranger(random: Random, name: str) -> Workflow:
    """Whoever listens on the port of a service: it is ready."""
    port = free_port()
    probes = ready_when(tcp_port={"port": port}, timeout=30)
    return workflow(
        name,
        [
            server("listens", port, 0, probes=probes),
            bare("does_not", "sleep 60", probes=probes, depends_on=["listens"]),
            task("client", depends_on=["does_not"]),
        ],
    )


@family
def ready_and_gone(random: Random, name: str) -> Workflow:
    """What a service that has ended well leaves in its log makes it ready, too."""
    probes = ready_when(log_watch={"regex_pattern": "listening"})
    service = bare("brief", nap(random), "$NOTE up", "echo listening", probes=probes)
    return workflow(name, [service, task("client", depends_on=["brief"])])


@family
def services_only(random: Random, name: str) -> Workflow:
    probes = ready_when(log_watch={"regex_pattern": "listening"})
    return workflow(name, [logger(f"s{number}", number, probes=probes) for number in range(2)])


@family
def retried(random: Random, name: str) -> Workflow:
    wanted = random.randint(2, 3)
    lines = (f"test $($NOTE count counter) -ge {wanted}", f"test $(cat counter | wc -c) -ge {wanted} || exit 7")
    tasks = [
        task("flaky", *lines, retries={"count": 3, "interval": 1, "backoff": 2}),
        task("after", nap(random), depends_on=["flaky"]),
    ]
    return workflow(name, tasks)


@family
def retried_before_ready(random: Random, name: str) -> Workflow:
    """A service that ends well before it is ready has failed, and is tried again."""
    code = random.choice((0, 3))
    lines = (f"test $($NOTE count counter) -ge 2 || exit {code}", "$NOTE up", "echo listening", "sleep 120")
    probes = ready_when(log_watch={"regex_pattern": "listening"})
    return workflow(
        name,
        [
            bare("flaky", *lines, retries={"count": 1, "interval": 0}, probes=probes),
            task("client", depends_on=["flaky"]),
        ],
    )


@family
def retried_after_ready(random: Random, name: str) -> Workflow:
    """A service that fails when it was ready is tried again, too; what had begun goes on."""
    lines = ("$NOTE up", "echo listening", "test $($NOTE count counter) -ge 2 || { sleep 2; exit 3; }", "sleep 120")
    probes = ready_when(log_watch={"regex_pattern": "listening"})
    service = bare("service", *lines, retries={"count": 2, "interval": 1}, probes=probes)
    return workflow(name, [service, task("client", "sleep 8", depends_on=["service"])])


@family
def expressions(random: Random, name: str) -> Workflow:
    size, policy = random.randint(1, 3), random.choice(("parallel", "sequential"))
    lines = (
        "$NOTE say ${{ variables.SIZE }} ${{ SIZE * 2 }} ${{ variables.SIZE.domain | max }}",
        "$NOTE say ${{ 'big' if variables.SIZE > 1 else 'small' }} ${{ variables.WORD | upper }} ${{ workflow.name }}",
        '$NOTE say "${{ LIST | join(\',\') }}" "${{ LIST[0] }}" ${{ TABLE.a }} ${{ FLAG }}',
        'list=(1 2 3); $NOTE say ${#list[@]} "{{ not ours }} {% nor this %} {# nor that #}"',
        "$NOTE say ${{ task.many[0].gpus | length }} ${{ task.many_0.nodes | length }}",
    )
    many = {"count": "${{ variables.SIZE }}", "policy": "${{ variables.POLICY }}"}
    return workflow(
        name,
        [
            task("says", *lines, depends_on=["many"]),
            task("many", nap(random), replicas=many, retries={"count": "${{ SIZE - 1 }}", "interval": "${{ SIZE }}"}),
        ],
        SIZE={"value": size, "domain": [1, 2, 3], "type": "integer"}, POLICY=policy, WORD="some word",
        LIST={"value": [4, 5], "type": "list"}, TABLE={"value": {"a": 1}, "type": "dict"},
        FLAG={"value": True, "type": "boolean"},
    )  # fmt: skip


@family
def set_domain(random: Random, name: str) -> Workflow:
    tasks = [
        task("train", "$NOTE say ${{ variables.SIZE.domain | join('+') }}", replicas={"variables": ["SIZE"]}),
        task("after", "$NOTE say ${{ variables.SIZE }}", depends_on=["train"]),
    ]
    domain = random.sample((16, 32, 64, 128), 3)
    return workflow(name, tasks, f"SIZE={domain}", SIZE=swept(1, 2, type="integer"))


@family
def set_values(random: Random, name: str) -> Workflow:
    count = random.randint(2, 3)
    tasks = [task("train", replicas={"count": "${{ COUNT }}"}), task("after", depends_on=["train"])]
    settings = ("FLAG=yes", "RATE=1e3", "PADDED=007", "EMPTY=", "WORDS=a=b c", f"COUNT={count}")
    asked = dict.fromkeys(("FLAG", "RATE", "PADDED", "EMPTY", "WORDS"), "q")
    return workflow(name, tasks, *settings, COUNT={"value": 1, "type": "integer"}, **asked)


@family
def gpus_by_replica(random: Random, name: str) -> Workflow:
    """Slices for replicas; those of what has ended are free for what comes after it."""
    each = random.choice((1, 2))
    names = " ".join(f"worker_{number}" for number in range(4))
    two: dict[str, Any] = {"gpus": {"count": each}}
    tasks = [
        task("worker", f"$NOTE meet {names}", replicas={"count": 4}, resources=two),
        task("merge", "$NOTE say ${{ task.worker[1].gpus }}", resources={"gpus": {"count": 8}}, depends_on=["worker"]),
        task("turn", replicas={"count": 2, "policy": "sequential"}, resources=two, depends_on=["merge"]),
    ]
    return with_gpus(workflow(name, tasks), 8)


@family
def gpus_of_services(random: Random, name: str) -> Workflow:
    """A service keeps its GPUs."""
    probes = ready_when(log_watch={"regex_pattern": "listening"})
    tasks = [
        logger("server", 0.2, probes=probes, resources={"gpus": {"count": 3}}),
        task("first", nap(random), depends_on=["server"], resources={"gpus": {"count": 1}}),
        task("chosen", depends_on=["first"], resources={"gpus": {"indices": [5, 4]}}),
    ]
    return with_gpus(workflow(name, tasks), 6)


@family
def sweep_empty(random: Random, name: str) -> Workflow:
    return workflow(name, [task("a", replicas={"variables": ["V"]})], V=swept("", "x"))
