"""compile_plan: arrays, throttles and sbatch's options, by equality."""

from __future__ import annotations

import dataclasses
import subprocess
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import ASKED, local, plan, settings

from hpcrun import retry
from hpcrun.cluster import Limits
from hpcrun.config import NodePool
from hpcrun.errors import SpecError
from hpcrun.plan import Batch, Plan

LOCAL = dataclasses.replace(ASKED, cluster="local")


def batches(
    shards: int | None, max_array: int, max_parallel: int | None
) -> list[tuple[int, int, int | None, int | None]]:
    """(first, count, throttle, after) of each batch."""
    found = plan(shards=shards, max_parallel=max_parallel, limits=Limits(max_array=max_array, accounting=True)).batches
    assert [batch.index for batch in found] == list(range(len(found)))
    return [(batch.first, batch.count, batch.throttle, batch.after) for batch in found]


@pytest.mark.parametrize(
    ("shards", "max_array", "max_parallel", "expected"),
    [
        (None, 1001, None, [(0, 1, None, None)]),
        (1, 1001, None, [(0, 1, None, None)]),
        (1, 1001, 5, [(0, 1, None, None)]),
        (8, 1001, None, [(0, 8, None, None)]),
        (8, 1001, 2, [(0, 8, 2, None)]),
        (8, 1001, 8, [(0, 8, None, None)]),
        (8, 1001, 99, [(0, 8, None, None)]),
        (1001, 1001, None, [(0, 1001, None, None)]),
        (1002, 1001, None, [(0, 1001, None, None), (1001, 1, None, None)]),
        (10, 4, None, [(0, 4, None, None), (4, 4, None, None), (8, 2, None, None)]),
        (10, 4, 1, [(0, 4, 1, None), (4, 4, 1, 0), (8, 2, 1, 1)]),
        (10, 4, 3, [(0, 4, 3, None), (4, 4, 3, 0), (8, 2, None, 1)]),
        (10, 4, 9, [(0, 4, None, None), (4, 4, None, None), (8, 2, None, 0)]),
        (10, 4, 7, [(0, 4, None, None), (4, 4, None, 0), (8, 2, None, 1)]),
        (3, 1, 2, [(0, 1, None, None), (1, 1, None, None), (2, 1, None, 0)]),
    ],
)
def test_batches(
    shards: int | None,
    max_array: int,
    max_parallel: int | None,
    expected: list[tuple[int, int, int | None, int | None]],
) -> None:
    """Arrays as large as the cluster takes them, in lanes that keep max_parallel with nobody watching."""
    assert batches(shards, max_array, max_parallel) == expected


@given(shards=st.integers(1, 300), max_array=st.integers(1, 50), max_parallel=st.none() | st.integers(1, 400))
def test_every_index_once(shards: int, max_array: int, max_parallel: int | None) -> None:
    """Whatever the limits, every index is in exactly one batch, in order, and no batch is above the limit."""
    found = batches(shards, max_array, max_parallel)
    assert [index for first, count, _, _ in found for index in range(first, first + count)] == list(range(shards))
    assert all(count <= max_array for _, count, _, _ in found)


@given(st.data())
def test_never_more_at_once(data: st.DataObject) -> None:
    """However long each shard takes, dependencies and throttles alone keep max_parallel, and all shards run."""
    shards, max_array, bound = (data.draw(st.integers(1, top)) for top in (40, 9, 45))
    found = plan(shards=shards, max_parallel=bound, limits=Limits(max_array=max_array, accounting=True)).batches
    waiting = {batch.index: batch.count for batch in found}
    running = dict.fromkeys(waiting, 0)
    while any(waiting.values()) or any(running.values()):
        for batch in found:
            if batch.after is None or not (waiting[batch.after] or running[batch.after]):
                room = (batch.throttle or batch.count) - running[batch.index]
                starting = min(room, waiting[batch.index])
                waiting[batch.index] -= starting
                running[batch.index] += starting
        assert 0 < sum(running.values()) <= bound
        running[data.draw(st.sampled_from([index for index, count in running.items() if count]))] -= 1


def directives(made: Plan) -> dict[str, str | None]:
    assert len(dict(made.components[0])) == len(made.components[0])
    return dict(made.components[0])


ALWAYS = {"job-name": "train", "open-mode": "append", "comment": "hpcrun:abc", "export": "ALL", "requeue": None}


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({}, {}),
        ({"cpus": 2, "memory": "8G"}, {"cpus-per-task": "2", "mem-per-cpu": "4096M"}),
        ({"cpus": 3, "memory": 100}, {"cpus-per-task": "3", "mem-per-cpu": "34M"}),
        ({"memory": "1G"}, {"mem-per-cpu": "1024M"}),
        ({"machine": "large"}, {"cpus-per-task": "2", "mem-per-cpu": "2048M"}),
        ({"machine": "large", "cpus": 4}, {"cpus-per-task": "4", "mem-per-cpu": "1024M"}),
        ({"gpus": 2}, {"gpus": "2"}),
        ({"gpus": "a100:2"}, {"gpus": "a100:2"}),
        ({"gpus": 0}, {}),
        ({"timeout": 90}, {"time": "3"}),  # 90 s, 10 s of grace, a minute to write the record
        ({"timeout": 110}, {"time": "3"}),
        ({"timeout": 111}, {"time": "4"}),
        ({"node_pool": "gpu"}, {"partition": "g", "qos": "high"}),
        ({"node_pool": "gpu", "sbatch": {"qos": "low"}}, {"partition": "g", "qos": "low"}),
        ({"sbatch": {"comment": "mine"}}, {"comment": "mine hpcrun:abc"}),
        ({"sbatch": {"dependency": "afterok:1"}}, {}),
        ({"sbatch": {"exclusive": True, "time": "1:00"}}, {"exclusive": None, "time": "1:00"}),
        ({"name": "a\nb"}, {"job-name": "a?b"}),
        ({"name": "x" * 300}, {"job-name": "x" * 200}),
    ],
)
def test_directives(fields: dict[str, Any], more: dict[str, str | None]) -> None:
    """What sbatch is told: memory a CPU, time with a margin, the pool's words, and the user's own last."""
    config = settings(node_pools={"gpu": NodePool(partition="g", qos="high")})
    assert directives(plan(fields, config=config)) == {**ALWAYS, **more}


def test_no_requeue() -> None:
    """Who says no-requeue is not told to requeue."""
    wanted = {name: value for name, value in ALWAYS.items() if name != "requeue"}
    assert directives(plan(sbatch={"no-requeue": True})) == {**wanted, "no-requeue": None}


def test_dependency() -> None:
    """The user's dependency is kept for every batch; alternatives cannot be combined with lanes."""
    assert plan(sbatch={"dependency": "afterok:1?afterok:2"}).dependency == "afterok:1?afterok:2"
    with pytest.raises(SpecError, match=r"sbatch.dependency: found alternatives"):
        plan(shards=9, max_parallel=1, sbatch={"dependency": "afterok:1?afterok:2"}, limits=Limits(4, True))


@pytest.mark.parametrize(
    ("text", "names", "settings_"),
    [
        (None, None, {}),
        ("ALL", None, {}),
        ("NONE", (), {}),
        ("NIL", (), {}),
        ("A,B", ("A", "B"), {}),
        ("ALL,A=1", None, {"A": "1"}),
        ("A,B=x=y", ("A",), {"B": "x=y"}),
        ("B='a,b',C", ("C",), {"B": "a,b"}),
        ("B=", (), {"B": ""}),
    ],
)
def test_export(text: str | None, names: tuple[str, ...] | None, settings_: dict[str, str]) -> None:
    """--export is read as sbatch reads it, and never reaches sbatch other than as ALL."""
    made = plan(export=text)
    assert (made.export, made.job.env, directives(made)["export"]) == (names, settings_, "ALL")


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/opt/bin/sim"], "sim"), (["python", "src/train.py", "--x"], "train"), (["bash", "-c", "x"], "bash"),
        (["python"], "python"), (["python3", "-m", "x"], "python3"), (["./a.sh"], "a.sh"),
    ],
)  # fmt: skip
def test_default_name(command: list[str], name: str) -> None:
    """A run without a name is called after its program, or after the script that an interpreter runs."""
    assert plan(command=command).name == name


def test_script() -> None:
    """A script is bash's, called by the run's name, and its $(…) is bash's own."""
    made = plan(script="echo $(date)", name="n")
    assert (made.job.command, made.job.expand) == (("bash", "-c", "echo $(date)", "n"), False)


def test_role() -> None:
    """Command and arguments in a row, the spec's variables over --export's, the directory from where one stands."""
    role = plan(args=["x"], env={"A": "2"}, export="A=1,B=1", working_dir="../w").job
    assert (role.command, role.env, role.cwd) == (("train", "--fast", "x"), {"A": "2", "B": "1"}, "/w")
    assert role.expand


def test_typed_command() -> None:
    """What was typed on a command line has been through a shell and is not expanded again."""
    assert not plan(asked=dataclasses.replace(ASKED, typed=True)).job.expand


@pytest.mark.parametrize(
    ("fields", "throttle"),
    [
        ({}, 8),
        ({"cpus": 3}, 2),
        ({"memory": "5G"}, 3),
        ({"gpus": 1}, 2),
        ({"max_parallel": 5}, 5),
        ({"max_parallel": 50}, 8),
    ],
)
def test_local_throttle(fields: dict[str, Any], throttle: int) -> None:
    """This machine runs as many shards at once as it has CPUs, memory and GPUs for, and as max_parallel allows."""
    made = plan(fields, shards=100, limits=local(), asked=LOCAL)
    assert made.batches == (Batch(index=0, first=0, count=100, array=True, throttle=throttle, pack=1, after=None),)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"cpus": 9}, "cpus: found 9 a shard, and this machine has 8; lower it"),
        ({"memory": "17G"}, "memory: found 17408 MiB a shard, and this machine has 16384 MiB; lower it"),
        ({"gpus": 3}, "gpus: found 3 a shard, and this machine has 2; lower it"),
    ],
)
def test_local_machine_is_too_small(fields: dict[str, Any], said: str) -> None:
    """A shard that this machine cannot hold is refused with the arithmetic."""
    with pytest.raises(SpecError) as caught:
        plan(fields, limits=local(), asked=LOCAL)
    assert str(caught.value) == said


def test_local_prologue() -> None:
    """Without a batch script the prologue runs before the program, whose words are not touched."""
    fields = {"command": ["printf", "[%s]", "a b", ""]}
    made = plan(fields, prologue="set -- x; echo before", limits=local(), asked=LOCAL)
    done = subprocess.run(made.job.command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "before\n[a b][]"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "one program: one batch job"),
        ({"shards": 4}, "4 independent shards: one job array"),
        (
            {"shards": 1002},
            "1002 independent shards: 2 job arrays, for this cluster takes arrays of up to 1001 elements",
        ),
    ],
)
def test_reason(fields: dict[str, Any], reason: str) -> None:
    """A plan says why it has its shape."""
    assert plan(fields).reason == reason


def test_limits_of_a_run() -> None:
    """Budgets, back-off and limits of the whole run are decided once; what is not said is the default."""
    made = plan(shards=4)
    assert made.budgets == {"failed": 0, "timed_out": 0, "preempted": 10, "node_failed": 10, "launch_failed": 10}
    assert (made.backoff, made.retry, made.max_failed, made.deadline) == (0.0, "requeue", None, None)
    made = plan(
        shards=4, retries={"failed": 3, "node_failed": 0}, backoff="10s", retry="in_place", max_failed_indexes=2,
        run_timeout="1h",
    )  # fmt: skip
    assert made.budgets == {"failed": 3, "timed_out": 0, "preempted": 10, "node_failed": 0, "launch_failed": 10}
    assert (made.backoff, made.retry, made.max_failed, made.deadline) == (10.0, "in_place", 2, ASKED.created + 3600)
    assert plan(retries=2).budgets == {**retry.BUDGETS, "failed": 2}


def test_who_says_no_requeue_is_tried_again_in_place() -> None:
    """Slurm is not asked to start the job again where its user does not want it to."""
    assert plan(shards=4, retries=1, sbatch={"no-requeue": True}).retry == "in_place"


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        ({"shards": 6, "shards_per_element": 2}, [(0, 6, 2, 3)]),
        ({"shards": 7, "shards_per_element": 3}, [(0, 7, 3, 3)]),
        ({"shards": 7, "shards_per_element": 10}, [(0, 7, 10, 1)]),
        ({"shards": 6}, [(0, 6, 1, 6)]),
    ],
)
def test_shards_per_element(fields: dict[str, Any], sizes: list[tuple[int, ...]]) -> None:
    """Each element of the array runs so many shards, the last one what is left."""
    made = plan(fields)
    assert [(batch.first, batch.count, batch.pack, batch.elements) for batch in made.batches] == sizes
    elements = [batch.shards_of(task) for batch in made.batches for task in range(batch.elements)]
    assert [shard for element in elements for shard in element] == list(range(fields["shards"]))
    assert all(
        batch.task_of(shard) == task
        for batch in made.batches for task in range(batch.elements) for shard in batch.shards_of(task)
    )  # fmt: skip


def test_packed_elements_over_several_arrays() -> None:
    """No shard is left out or twice in where the arrays of a packed run are split."""
    made = plan(shards=23, shards_per_element=2, limits=Limits(max_array=4, accounting=True))
    assert [(batch.first, batch.elements) for batch in made.batches] == [(0, 4), (8, 4), (16, 4)]
    shards = [shard for batch in made.batches for task in range(batch.elements) for shard in batch.shards_of(task)]
    assert shards == list(range(23))


def test_here_no_shards_are_packed() -> None:
    """On this machine nothing is queued: each shard is started by itself."""
    (batch,) = plan(shards=6, shards_per_element=2, limits=local(), asked=LOCAL).batches
    assert batch.pack == 1
