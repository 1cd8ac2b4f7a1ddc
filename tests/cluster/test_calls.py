"""Functions as runs on the cluster, from scripts of the ordinary user."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from containers import User

Said = Callable[..., Any]
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


@pytest.fixture
def said(user: User, python: str) -> Said:
    """What a user's script prints as its last line, as JSON."""

    def run(script: str, timeout: float = 300) -> Any:
        path = user.write("script.py", f"import hpcrun, json, os, pathlib, signal, sys, time\n{script}")
        done = user.sh('exec "$1" "$2"', python, path, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_three_of_two_hundred_raise(said: Said) -> None:
    """Exceptions come back as exceptions of these three only, with the node's traceback."""
    script = """
def work(item):
    if item in (3, 77, 199):
        raise ValueError(item)
    return item * item
found = hpcrun.map(work, range(200), shards=20, return_exceptions=True)
odd = {}
for number, one in enumerate(found):
    if isinstance(one, ValueError):
        odd[number] = [one.args[0], str(one.__cause__)]
    else:
        assert one == number * number
print(json.dumps(odd))
"""
    odd = said(script)
    assert {number: item for number, (item, _) in odd.items()} == {"3": 3, "77": 77, "199": 199}
    assert "call 77, in attempt 0 of shard 7 on c" in odd["77"][1]


def test_ten_thousand_items_in_a_hundred_elements(said: Said) -> None:
    """Results stream in while elements are still in the queue; there are few files, and one payload."""
    script = """
def work(item):
    return item, os.uname().nodename
results = hpcrun.map(work, range(10_000), shards=100, max_parallel=16)
first = next(results)
done = results.run.status().done
rest = list(results)
files = sum(len(names) for _, _, names in os.walk(results.run.dir.path))
print(json.dumps([done, [first[0], *(item for item, _ in rest)] == list(range(10_000)),
                  len({node for _, node in rest}), files]))
"""
    done, whole, nodes, files = said(script)
    assert not done
    assert whole
    assert nodes > 1
    assert files < 2 * 100 + 20


def test_a_shard_that_is_ended_is_told_at_once(said: Said) -> None:
    """What somebody ends with scancel is no result any more, while the other shards still run."""
    script = """
import subprocess
def work(item):
    while item != 1 and not os.path.exists("go"):
        time.sleep(0.05)
    while item == 1:
        time.sleep(0.05)
    return item
results = hpcrun.map(work, range(3), return_exceptions=True)
first, shards = [], []
while not all(shard.state == "running" for shard in shards) or not shards:
    time.sleep(0.2)
    shards = results.run.shards()
subprocess.run(["scancel", shards[1].job], check=True)
for number, value in results.as_completed():
    first.append([number, getattr(value, "cause", value)])
    open("go", "w").close()
print(json.dumps(first))
"""
    found = said(script, timeout=120)
    assert found[0] == [1, "cancelled"]
    assert sorted(found) == [[0, 0], [1, "cancelled"], [2, 2]]


def test_who_submits_may_go(said: Said, user: User) -> None:
    """Another process on another day has the results, by the run's id."""
    run_id = said("print(json.dumps(hpcrun.submit(pow, 3, 4, shards=2).id))")
    assert said(f"print(json.dumps(hpcrun.Run.open({run_id!r}).results()))") == [81, 81]
    assert user.status(run_id)["status"] == "succeeded"


def test_a_gang_of_a_function(said: Said) -> None:
    """Shards that start together know each other, and which of them is the head."""
    script = """
def work():
    me = hpcrun.current()
    return me.index, me.count, len(me.nodes), me.is_head, hpcrun.shard(list(range(10)))
print(json.dumps(hpcrun.submit(work, shards=4, gang=True).results()))
"""
    assert said(script) == [
        [0, 4, 4, True, [0, 4, 8]], [1, 4, 4, False, [1, 5, 9]], [2, 4, 4, False, [2, 6]], [3, 4, 4, False, [3, 7]],
    ]  # fmt: skip


def test_a_checkpoint_before_the_end(said: Said) -> None:
    """A function whose time runs out is warned, saves, and its next attempt goes on from there."""
    script = """
def work():
    saved = pathlib.Path("saved")
    step = int(saved.read_text()) if saved.exists() else 0
    @hpcrun.checkpoint
    def save():
        saved.write_text(str(step))
    while step < 1_000 and not (hpcrun.current().attempt and step):
        step += 1
        time.sleep(0.05)
    return step > 20, hpcrun.current().attempt
print(json.dumps(hpcrun.submit(work, timeout=6, signal="USR2@4", retries={"timed_out": 1}).results()))
"""
    assert said(script) == [[True, 1]]


def test_the_cells_of_the_example(user: User, python: str) -> None:
    """examples/functions as it stands: each cell checks what it has got."""
    script = user.write("functions.py", (EXAMPLES / "functions" / "functions.py").read_text(encoding="utf-8"))
    done = user.sh('exec "$1" "$2"', python, script, timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7


def test_a_node_without_it(said: Said) -> None:
    """Where the interpreter is not on the nodes, who asks for results is told so."""
    script = """
try:
    hpcrun.map(abs, [1], python="/no/such/python").run.results()
except hpcrun.CallFailed as error:
    print(json.dumps(str(error)))
"""
    assert "/no/such/python" in said(script)
