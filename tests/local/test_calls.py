"""Functions as runs, from scripts as their users write them."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from machine import Machine
from waiting import until

import hpcrun
from hpcrun import RunFolderError, UsageError, returned
from hpcrun.calls import Results


def said(machine: Machine, script: str, *args: str) -> Any:
    """What a user's script prints as its last line, as JSON; `hpcrun` and `json` are imported there."""
    path = machine.write("script.py", f"import hpcrun, json, os, pathlib, signal, sys, time\n{script}")
    done = machine.command(sys.executable, path, *args)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return json.loads(done.stdout.splitlines()[-1])


def main_in_lab(machine: Machine, script: str) -> str:
    """What a script in the folder lab prints, called from the folder around it."""
    machine.write("lab/main.py", script)
    done = machine.command(sys.executable, "lab/main.py")
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


THREE_FAIL = """
class Odd(Exception):
    def __init__(self, item, why):
        super().__init__(f"{item}: {why}")
        self.item = item

def work(item):
    print("at", item)
    if item in (3, 77, 199):
        raise Odd(item, "no such thing")
    return item * item
"""


def test_three_of_two_hundred_raise(machine: Machine) -> None:
    """Exceptions come back as what they are, in the places of these three; all else is there, in order."""
    script = f"""{THREE_FAIL}
found, odd = [], {{}}
results = hpcrun.map(work, range(200), shards=10)
for number in range(len(results)):
    try:
        found.append(next(results))
    except Odd as error:
        odd[error.item] = str(error.__cause__)
print(json.dumps([found, odd]))
"""
    found, odd = said(machine, script)
    assert found == [item * item for item in range(200) if item not in (3, 77, 199)]
    assert list(odd) == ["3", "77", "199"]
    assert "call 77, in attempt 0 of shard 3 on " in odd["77"]
    assert 'raise Odd(item, "no such thing")' in odd["77"]
    assert "hpcrun/call.py" not in odd["77"], "the user's own lines"
    assert "  at 77" in odd["77"], "the end of the log"


def test_a_deep_traceback_is_told_once(machine: Machine) -> None:
    """The end of the log is what the call has printed, however long the traceback is that stands behind it there."""
    script = """
def down(depth):
    return up(depth - 1)
def up(depth):
    if not depth:
        raise ValueError("bottom")
    return down(depth)
def work(item):
    print("begun")
    up(item)
try:
    list(hpcrun.map(work, [30]))
except ValueError as error:
    print(json.dumps(str(error.__cause__)))
"""
    traceback, log = said(machine, script).split("the end of its log:")
    assert traceback.count("ValueError: bottom") == 1
    assert log == "\n  begun"


def test_another_process_reads_the_results(machine: Machine) -> None:
    """Who submits may go; any process that sees the run folder has results, exceptions and all."""
    run_id = said(machine, f"{THREE_FAIL}\nprint(json.dumps(hpcrun.map(work, range(2, 5)).run.id))")
    found = machine.open(run_id).results(return_exceptions=True)
    assert (found[0], found[2]) == (4, 16)
    assert str(found[1]) == "3: no such thing"
    assert machine.open(run_id).status().state == "partial"
    assert f"is read by hpcrun.Run.open({run_id!r}).results()" in machine.hpcrun("results").stderr.decode()


def test_only_what_has_not_returned_is_tried_again(machine: Machine) -> None:
    """A shard with a call that raised has another attempt, in which the calls that have returned are not repeated."""
    script = """
def work(item):
    with open(f"did.{item}", "a") as file:
        file.write("x")
    if item == 2 and hpcrun.current().attempt == 0:
        raise OSError("the disk was asleep")
    return item, hpcrun.current().attempt
print(json.dumps(list(hpcrun.map(work, range(5), chunksize=5, retries=1))))
"""
    assert said(machine, script) == [[0, 0], [1, 0], [2, 1], [3, 0], [4, 0]]
    assert [len(Path(machine.cwd, f"did.{item}").read_text()) for item in range(5)] == [1, 1, 2, 1, 1]


def test_retry_by_hand(machine: Machine) -> None:
    """What is tried again is the same run; its results are whole afterwards."""
    script = """
def work(item):
    if item == 1 and not os.path.exists("mended"):
        raise ValueError(item)
    return item
results = hpcrun.map(work, [0, 1, 2])
results.run.wait()
try:
    list(results)
except ValueError:
    open("mended", "w").close()
again = results.run.retry()
print(json.dumps([again.results(), again.id == results.run.id, again.shards()[1].attempts, again.shards()[2].attempts]))
"""
    assert said(machine, script) == [[0, 1, 2], True, 2, 1]


def test_as_they_come(machine: Machine) -> None:
    """A result is there while others of its shard and of the run are still awaited."""
    script = """
def work(item):
    while item and not os.path.exists(f"go.{item}"):
        time.sleep(0.02)
    return item
order = []
for number, value in hpcrun.map(work, [0, 1, 2], chunksize=3).as_completed():
    order.append(value)
    open(f"go.{value + 1}", "w").close()
print(json.dumps(order))
"""
    assert said(machine, script) == [0, 1, 2]


def test_an_end_is_told_while_others_go_on(machine: Machine) -> None:
    """Also one that no exception tells of: here the second call would run out of time as the first one did."""
    script = """
def work(item):
    while not os.path.exists("go"):
        time.sleep(0.02)
    return item
results = hpcrun.map(work, [0, 1], timeout=3, max_parallel=1, return_exceptions=True)
first = next(results)
open("go", "w").close()
print(json.dumps([first.cause, next(results)]))
"""
    assert said(machine, script) == ["timed_out", 1]


def test_generators_are_taken_by_chunks(machine: Machine) -> None:
    """Items may be made while they are written, and there may be more of them than anybody would hold in memory."""
    script = """
def items():
    for number in range(20_000):
        yield number
def work(one, two):
    return one + two
results = hpcrun.map(work, items(), iter(range(10**9)), chunksize=4_000)
print(json.dumps([len(results), results.run.plan.shards, sum(results), len(os.listdir(results.run.dir.path))]))
"""
    calls, shards, total, entries = said(machine, script)
    assert (calls, shards, total) == (20_000, 5, 2 * sum(range(20_000)))
    assert entries < 20, "one payload, however many items"


def test_every_shard_calls_the_function(machine: Machine) -> None:
    """submit: arguments, closures, lambdas, partial, coroutines; where a shard is, and what with it is called for."""
    script = """
import functools
base = 10
def share(data, *, scale):
    return [scale * base * one for one in hpcrun.shard(data)]
async def later(x):
    return x + 1
class Model:
    def fit(self, x):
        return x * hpcrun.current().count
print(json.dumps([
    hpcrun.submit(share, range(5), kwargs={"scale": 2}, shards=2).results(),
    hpcrun.submit(lambda: base).results(),
    hpcrun.submit(functools.partial(pow, 2), 5).results(),
    hpcrun.submit(later, 1).results(),
    hpcrun.submit(Model().fit, 4, shards=3).results(),
]))
"""
    assert said(machine, script) == [[[0, 40, 80], [20, 60]], [10], [32], [2], [12, 12, 12]]


def test_modules_beside_the_script(machine: Machine) -> None:
    """What a script imports from its own folder is found on the node, wherever the script was called from."""
    (machine.cwd / "lab").mkdir()
    machine.write("lab/tools.py", "class Finding:\n    def __init__(self, x):\n        self.x = x\n")
    said_by_main = main_in_lab(
        machine, "import hpcrun, tools\ndef work(x): return tools.Finding(x)\n"
        "found = list(hpcrun.map(work, [1, 2]))\nprint([one.x for one in found], type(found[0]) is tools.Finding)",
    )  # fmt: skip
    assert said_by_main == "[1, 2] True\n"


def test_an_executor(machine: Machine) -> None:
    """Futures hold values and exceptions; calls made in one breath are one run; map streams in order."""
    script = """
with hpcrun.Executor(max_parallel=2) as executor:
    futures = [executor.submit(pow, 2, n) for n in range(4)] + [executor.submit(int, "x")]
    values = [future.result() for future in futures[:4]]
    error = type(futures[4].exception()).__name__
    mapped = list(executor.map(lambda a, b: a * b, [1, 2, 3], [4, 5, 6]))
    runs = len(executor.runs)
try:
    executor.submit(pow, 1, 1)
except RuntimeError as refused:
    print(json.dumps([values, error, mapped, runs, str(refused)]))
"""
    refused = "cannot schedule new futures after shutdown"
    assert said(machine, script) == [[1, 2, 4, 8], "ValueError", [4, 10, 18], 2, refused]


def test_an_executor_gives_up(machine: Machine) -> None:
    """Shut down with `cancel_futures`, it cancels its runs, and every future has an end."""
    script = """
executor = hpcrun.Executor()
future = executor.submit(time.sleep, 600)
while not executor.runs or executor.runs[0].status().state != "running":
    time.sleep(0.05)
executor.shutdown(cancel_futures=True)
print(json.dumps([type(future.exception()).__name__, future.exception().cause]))
"""
    assert said(machine, script) == ["CallFailed", "cancelled"]


def test_from_coroutines(machine: Machine) -> None:
    """The same, awaited: other tasks go on meanwhile."""
    script = """
import asyncio, hpcrun.aio
async def main():
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)
    ticking = asyncio.create_task(tick())
    values = [value async for value in await hpcrun.aio.map(abs, [-1, -2, -3])]
    run = await hpcrun.aio.submit(["sh", "-c", "echo hello"])
    state = (await run.wait()).state
    pairs = {n: v async for n, v in (await hpcrun.aio.map(abs, [-4, "x"])).as_completed()}
    try:
        await (await hpcrun.aio.submit(time.sleep, 600)).wait(timeout=0.5)
    except TimeoutError:
        await (await hpcrun.aio.open("last")).cancel()
    ticking.cancel()
    return [values, state, await run.logs(), pairs[0], type(pairs[1]).__name__, ticks > 10]
print(json.dumps(asyncio.run(main())))
"""
    assert said(machine, script) == [[1, 2, 3], "succeeded", "hello\n", 4, "TypeError", True]


@pytest.mark.parametrize(
    ("body", "name", "text"),
    [
        ("os.kill(os.getpid(), 11)", "CallFailed", "(failed, killed by signal 11)"),
        ("print('so far'); os._exit(7)", "CallFailed", "(failed, exit code 7)\n\nthe end of its log:\n  so far"),
        ("sys.exit(3)", "CallFailed", "raised SystemExit: 3"),
        ("return (x for x in [])", "UsageError", "found what work has returned, a generator, which cannot be pickled"),
        ("raise ValueError(x for x in [])", "CallFailed", "raised ValueError: <generator object"),
        ("sys.exit(0)", "CallFailed", "raised SystemExit: 0"),
        ("sys.stdout = None; raise ValueError('still told')", "ValueError", "still told"),
        ("next(iter([]))", "RuntimeError", "a call has raised StopIteration"),
        ("import no_such_module", "ModuleNotFoundError", "No module named 'no_such_module'"),
        ("time.sleep(600)", "CallFailed", "(timed_out"),
    ],
)
def test_a_call_without_a_result(machine: Machine, body: str, name: str, text: str) -> None:
    """Whatever ends it, who asks for the result is told how, in one exception."""
    script = f"""
def work():
    {body}
try:
    hpcrun.submit(work, timeout=2).results()
except BaseException as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    found = said(machine, script)
    assert found[0] == name
    assert text in found[1]


def test_a_chunk_that_dies_in_the_middle(machine: Machine) -> None:
    """What the shard's other calls had returned before is there; only the rest is not."""
    script = """
def work(item):
    if item == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return item
found = hpcrun.map(work, range(4), chunksize=4, return_exceptions=True)
print(json.dumps([one if isinstance(one, int) else one.call for one in found]))
"""
    assert said(machine, script) == [0, 1, 2, 3]  # the last two are failures that name their call
    assert [type(one).__name__ for one in machine.open("last").results(return_exceptions=True)] == [
        "int", "int", "CallFailed", "CallFailed",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("call", "text"),
    [
        ("hpcrun.submit(work, command=['x'])", "command: found it beside a function"),
        (
            "hpcrun.submit(work, shards=2, tasks=4)",
            "tasks: found it beside a function, wanted `shards` and `gang=True`",
        ),
        ("hpcrun.submit(['true'], 1)", "found arguments for a function"),
        ("hpcrun.submit(work, open(__file__, 'rb'))", "found arguments of call 0, which cannot be pickled"),
        ("hpcrun.submit(work, ntasks=2)", "tasks: found it beside a function"),
        ("hpcrun.map(work, (open(p) for p in ['/no/such']))", "No such file or directory: '/no/such'"),
        ("hpcrun.map(work, [])", "found no items to call the function for"),
        ("hpcrun.map(work)", "found a map over nothing"),
        ("hpcrun.map(work, [1], chunksize=0)", "found chunksize=0, wanted a number from 1"),
        ("hpcrun.map(work, [1], chunksize='3')", "found chunksize='3', wanted a number from 1"),
        ("hpcrun.map(work, [1], shards=2.0)", "found shards=2.0, wanted a number from 1"),
        ("hpcrun.map(work, [1], kwargs={'scale': 2})", "wanted functools.partial(function, name=value)"),
        (
            "hpcrun.map(work, [1], scale=2)",
            "scale: found an unknown key. An argument of the function is given by functo",
        ),
        ("hpcrun.map(['echo'], [1])", "found ['echo'] (list), wanted a function"),
        ("hpcrun.submit(work(1)[0])", "found 1 (int), wanted a function, a command as a list"),
        ("hpcrun.submit(None)", "found None (NoneType), wanted a function"),
        ("hpcrun.submit('echo hello')", "a command is a list: hpcrun.submit(['echo', 'hello'])"),
        ("hpcrun.submit('no.yaml')", "no.yaml: cannot read the spec: No such file or directory"),
        ("hpcrun.submit(pathlib.Path('no.yaml'))", "no.yaml: cannot read the spec: No such file or directory"),
        ("hpcrun.submit(work, scale=2)", "An argument of the function is given by kwargs={'scale': …}"),
        ("hpcrun.submit(work, kwargs=[1])", "found kwargs=[1] (list), wanted the function's arguments by name"),
        ("hpcrun.map(work, [1], chunksize=1, shards=1)", "found chunksize and shards"),
        ("hpcrun.map(work, range(10**6), chunksize=1)", "found more than 100,000 shards of chunksize=1, of which each"),
        ("hpcrun.map(work, [1], chards=1)", "chards: found an unknown key. Did you mean `shards`?"),
        ("hpcrun.submit(['true']).results()", "executes a command, which returns no values"),
        ("hpcrun.Executor(shards=3)", "found shards for an executor"),
        ("hpcrun.Executor(max_workers=3)", "found max_workers, wanted max_parallel"),
        ("hpcrun.Executor(cpu=3)", "cpu: found an unknown key. Did you mean `cpus`?"),
        ("hpcrun.Executor().submit(3)", "found 3 (int), wanted a function"),
        ("hpcrun.Executor().submit(iter([]).__next__)", ""),
    ],
)
def test_bad_calls(machine: Machine, call: str, text: str) -> None:
    """One clear error, and nothing is submitted."""
    script = f"def work(*x): return x\ntry:\n    {call}\n"
    script += "except (hpcrun.UsageError, OSError) as error:\n    print(json.dumps(str(error)))\n"
    if not text:
        script += "else:\n    print(json.dumps(''))\n"
    assert text in said(machine, script)
    assert (
        "results()" in call
        or not os.path.isdir(machine.home / "runs")
        or not os.listdir(machine.home / "runs")
        or not text
    )


def test_bad_words(run: hpcrun.Run) -> None:
    """What a run is asked for by a number is no text."""
    with pytest.raises(UsageError, match=r"found 0, wanted the shards to try again: 'failed', an index set"):
        run.retry(0)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"found \['1'\], wanted the shards to try again"):
        run.retry(["1"])  # type: ignore[list-item]
    with pytest.raises(UsageError, match="found shard '1', wanted 0 to 2"):
        run.logs("1")  # type: ignore[arg-type]
    with pytest.raises(RunFolderError, match=r"wanted that of a run; Run\.open\('\w+'\) finds a run by its id"):
        hpcrun.Run(run.id)


@pytest.fixture
def run(machine: Machine) -> hpcrun.Run:
    """A run that has returned 0, 1, 2."""
    run_id = said(machine, "r = hpcrun.map(abs, [0, 1, 2])\nlist(r)\nprint(json.dumps(r.run.id))")
    return machine.open(run_id)


def test_what_is_left_of_earlier_attempts(machine: Machine) -> None:
    """A gang's shards, and those whose results are committed, make all their calls again; others keep their values."""
    script = """
def meet(x):
    here = hpcrun.current()
    flag = pathlib.Path(f"met.{here.attempt}.{here.index}")
    flag.touch()
    if here.attempt == 0 and here.index == 1:
        raise OSError("one has failed")
    while here.attempt and not pathlib.Path(f"met.{here.attempt}.{1 - here.index}").exists():
        time.sleep(0.02)
    return here.attempt
def leave(x):
    here = hpcrun.current()
    pathlib.Path(here.results_dir, f"model.{x}").touch()
    if x == 1 and here.attempt == 0:
        raise OSError("one has failed")
    return here.attempt
gang = hpcrun.map(meet, [0, 1], shards=2, gang=True, retries=1)
left = hpcrun.map(leave, [0, 1], chunksize=2, results="committed", retries=1)
found = [list(gang), list(left)]
print(json.dumps([*found, sorted(os.listdir(left.run.dir.committed(0)))]))
"""
    assert said(machine, script) == [[1, 1], [1, 1], [".attempt", "model.0", "model.1"]]


def test_an_end_that_is_not_told_hides_behind_no_older_one(machine: Machine) -> None:
    """What the last attempt came to is what counts; an exception of an earlier one is mentioned."""
    script = """
def work():
    if hpcrun.current().attempt == 0:
        raise ValueError("network was down")
    os.kill(os.getpid(), signal.SIGKILL)
print(json.dumps(str(hpcrun.submit(work, retries=1).results(return_exceptions=True)[0])))
"""
    text = said(machine, script)
    assert "(failed, killed by signal 9); attempt 0 had raised ValueError: network was down" in text


def test_a_node_from_the_dead_changes_no_value(machine: Machine) -> None:
    """What an attempt writes after the next one has begun counts for nobody."""
    script = """
def work():
    if hpcrun.current().attempt == 0:
        raise ValueError
    return "attempt 1"
print(json.dumps(hpcrun.submit(work, retries=1).id))
"""
    run = machine.open(said(machine, script))
    assert run.results() == ["attempt 1"]
    late = returned.Writer(run.dir.returned(0, 0))
    late.add(returned.VALUE, 0, pickle.dumps("attempt 0"))
    late.close()
    assert run.results() == ["attempt 1"]


def test_odd_exceptions(machine: Machine) -> None:
    """Whatever their classes do: they come back as what they are, with the words they had."""
    script = """
import dataclasses
@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    item: int
class Worded(Exception):
    def __init__(self, item, why="none"):
        super().__init__(f"{item}: {why}")
def work(item):
    raise Frozen(1) if item else Worded(5, "boom")
found = list(hpcrun.map(work, [0, 1], chunksize=2, return_exceptions=True))
print(json.dumps([type(one).__name__ for one in found] + [str(found[0]), found[1].item, isinstance(found[0], Worded)]))
"""
    assert said(machine, script) == ["Worded", "Frozen", "5: boom", 1, True]


def test_exceptions_that_hold_others(machine: Machine) -> None:
    """As those of urllib do, whose arguments equal nothing but themselves."""
    script = """
import urllib.error
def work(item):
    raise [urllib.error.URLError(ConnectionRefusedError(111, "no")), RuntimeError("x", ValueError("y"))][item]
found = list(hpcrun.map(work, [0, 1], chunksize=2, return_exceptions=True))
print(json.dumps([repr(one) for one in found] + [type(found[0].reason).__name__]))
"""
    assert said(machine, script) == [
        "URLError(ConnectionRefusedError(111, 'no'))", "RuntimeError('x', ValueError('y'))", "ConnectionRefusedError",
    ]  # fmt: skip


def test_a_call_that_ends_its_process(machine: Machine) -> None:
    """Its code is the shard's, and the log says once what it was."""
    script = """
run = hpcrun.submit(lambda: sys.exit(3))
run.wait()
print(json.dumps([run.shards()[0].exit_code, run.logs()]))
"""
    code, log = said(machine, script)
    assert code == 3
    assert log.count("Traceback") == 1


def test_classes_of_the_script_stay_what_they_are(machine: Machine) -> None:
    """A shard works with copies of them; what comes back is of the class that is here, which has not changed."""
    script = """
rate = 1
class Model:
    price = 10 * rate
    def cost(self):
        return rate * self.price
found = list(hpcrun.map(lambda x: Model(), [1, 2]))
rate, Model.price = 3, 100
again = hpcrun.Run.open("last").results()
print(json.dumps([Model().cost(), Model.price, type(found[0]) is Model, isinstance(again[1], Model), again[0].cost()]))
"""
    assert said(machine, script) == [300, 100, True, True, 300]


def test_what_loads_cloudpickle(machine: Machine) -> None:
    """A plain function of the script and the data that it returns do without, and what else there is goes by it."""
    script = """
class Point:
    def __init__(self, x):
        self.x = x
offset = 10
def shifted(x):
    return offset + x
def plain(x):
    return [shifted(x), json.dumps({"x": x}), "cloudpickle" in sys.modules]
def given(point):
    return [point.x, __name__]
print(json.dumps([
    list(hpcrun.map(plain, [1])), list(hpcrun.map(given, [Point(2)])), list(hpcrun.map(lambda x: x, [Point(3)]))[0].x,
    [one.x for one in list(hpcrun.map(lambda x: {"a": (x,)}, [Point(4)]))[0]["a"]],
    list(hpcrun.map(lambda x: plain, [5]))[0](6), list(hpcrun.map((lambda y: lambda x: x + y)(7), [1]))[0],
]))
"""
    assert said(machine, script) == [[[11, '{"x": 1}', False]], [[2, "__main__"]], 3, [4], [16, '{"x": 6}', True], 8]


def test_classes_of_the_script_are_read_elsewhere(machine: Machine) -> None:
    """Their instances bring them along: no other process has them under the name that they have in the script."""
    script = """
class Point:
    x = 3
def points(kind, many):
    return [kind() for _ in range(many)]
run = hpcrun.map(points, [Point], [2]).run
run.wait()
print(json.dumps(run.id))
"""
    [found] = machine.open(said(machine, script)).results()
    assert [type(one).__name__ for one in found] == ["Point", "Point"]
    assert [one.x for one in found] == [3, 3]


def test_a_function_that_forks(machine: Machine) -> None:
    """A child that comes back from it leaves nothing, and makes no further calls."""
    script = """
def work(x):
    child = os.fork()
    if not child:
        if x == 0:
            sys.exit(0)
        if x == 1:
            raise ValueError("in a child")
        return "child"
    os.waitpid(child, 0)
    pathlib.Path(f"did.{x}").open("a").write("x")
    return x
print(json.dumps([list(hpcrun.map(work, range(3), chunksize=3)), [len(open(f"did.{x}").read()) for x in range(3)]]))
"""
    assert said(machine, script) == [[0, 1, 2], [1, 1, 1]]


def test_modules_are_those_of_the_script(machine: Machine) -> None:
    """What lies in the folder that a run is submitted from is not imported, unless the script would."""
    (machine.cwd / "lab").mkdir()
    machine.write("lab/helper.py", "where = 'beside the script'\n")
    machine.write("lab/iniconfig.py", "where = 'beside the script, not the installed one'\n")
    machine.write("helper.py", "where = 'in the current folder'\n")
    machine.write("_blake2.py", "raise SystemExit('somebody else is at work here')\n")
    said_by_main = main_in_lab(
        machine, "import hpcrun\ndef work(name): return __import__(name).where\n"
        "print(*hpcrun.map(work, ['helper', 'iniconfig'], chunksize=2), sep='; ')",
    )  # fmt: skip
    assert said_by_main == "beside the script; beside the script, not the installed one\n"


def test_hooks_of_one_call_are_not_those_of_the_next(machine: Machine) -> None:
    """What a call has registered to be saved is over with it; a warning without a hook harms nobody."""
    script = """
def work(x):
    if x < 2:
        hpcrun.checkpoint(lambda: pathlib.Path(f"saved.{x}").touch())
    if x:
        signal.raise_signal(signal.SIGUSR2)
    return x
print(json.dumps([list(hpcrun.map(work, range(3), chunksize=3)), sorted(map(str, pathlib.Path().glob("saved.*")))]))
"""
    assert said(machine, script) == [[0, 1, 2], ["saved.1"]]


def test_an_interrupt_is_no_end(machine: Machine) -> None:
    """Who presses Ctrl-C while waiting may go on waiting, and gets everything."""
    script = """
results = hpcrun.map(lambda x: time.sleep(2) or x, [1, 2], max_parallel=2)
signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
signal.setitimer(signal.ITIMER_REAL, 0.7)
try:
    next(results)
except KeyboardInterrupt:
    print(json.dumps(list(results)))
"""
    assert said(machine, script) == [1, 2]


def test_a_program_that_ends_has_submitted(machine: Machine) -> None:
    """What an executor was given is carried out, also where nobody waits for it."""
    machine.write("main.py", "import hpcrun\nhpcrun.Executor().submit(pow, 2, 5)\n")
    machine.command(sys.executable, "main.py")
    assert machine.open("last").results() == [32]


def test_a_task_that_gives_up_loses_nothing(machine: Machine) -> None:
    """Cancelled while it waits, in an event loop that ends at once; whoever waits next has every result."""
    script = """
import asyncio, hpcrun.aio
def work(x):
    while x and not os.path.exists("go"):
        time.sleep(0.02)
    return x
async def main():
    results = await hpcrun.aio.map(work, [0, 1, 2])
    found = [await anext(results)]
    for _ in range(3):
        try:
            found.append(await asyncio.wait_for(anext(results), 0.3))
        except asyncio.TimeoutError:
            pass
    open("go", "w").close()
    return found + [value async for value in results]
print(json.dumps(asyncio.run(main())))
"""
    assert said(machine, script) == [0, 1, 2]


def test_settings_of_the_site_count(machine: Machine) -> None:
    """A timeout that hpcrun.toml gives to every run is one for functions."""
    with open(machine.cwd / "hpcrun.toml", "a") as file:
        file.write('[defaults]\ntimeout = "30s"\n')
    assert said(machine, "print(json.dumps(hpcrun.submit(abs, -1).results()))") == [1]


def test_a_folder_that_is_gone(run: hpcrun.Run) -> None:
    """Who asks for results that somebody has deleted is told so."""
    shutil.rmtree(run.dir.path)
    with pytest.raises(RunFolderError, match="the run folder is gone"):
        run.results()


def test_what_belongs_to_others_is_not_read(run: hpcrun.Run) -> None:
    """To unpickle is to run: a file that others may write, or have written, is refused by name."""
    for path in (run.dir.returned(1, 0), run.dir.payload):
        os.chmod(path, 0o622)
        with pytest.raises(RunFolderError, match=r"others may write to it \(mode 0622\), wanted 0600"):
            run.results()
        os.chmod(path, 0o600)
    os.chown(run.dir.payload, 12345, -1)
    with pytest.raises(RunFolderError, match=r"it belongs to the user 12345, wanted one of your own"):
        run.results()
    os.chown(run.dir.payload, os.geteuid(), -1)
    assert run.results() == [0, 1, 2]


def test_damage_is_noticed(run: hpcrun.Run) -> None:
    """A byte that has changed is told by file and place, and nothing of it is unpickled."""
    for path in (run.dir.returned(1, 0), run.dir.payload):
        whole = Path(path).read_bytes()
        Path(path).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        with pytest.raises(RunFolderError, match=path):
            run.results()
        Path(path).write_bytes(whole)
    Path(run.dir.payload).write_bytes(whole[:20])
    with pytest.raises(RunFolderError, match="it is too short"):
        run.results()


def test_a_damaged_payload_is_not_called(machine: Machine) -> None:
    """A node checks what it is to call before it does."""
    script = """
results = hpcrun.map(abs, [-1, -2], max_parallel=1, prologue="until [ -e go ]; do sleep 0.05; done")
print(json.dumps(results.run.id))
"""
    run = machine.open(said(machine, script))
    whole = Path(run.dir.payload).read_bytes()
    Path(run.dir.payload).write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
    machine.write("go", "")
    until(lambda: run.status().done, what="the end of the run")
    with pytest.raises(RunFolderError, match="bytes at 0 have changed"):
        run.results()


def test_an_unknown_class_is_told(machine: Machine) -> None:
    """Values whose class this process has not are told as what they raise here."""
    machine.write("theirs.py", "class Finding: pass\n")
    run_id = said(machine, "import theirs\nprint(json.dumps(hpcrun.map(lambda x: theirs.Finding(), [1]).run.id))")
    with pytest.raises(ModuleNotFoundError, match="theirs"):
        machine.open(run_id).results()


def test_time_is_up(machine: Machine) -> None:
    """Who waits for results only so long is told, and may go on waiting."""
    run_id = said(machine, "print(json.dumps(hpcrun.map(time.sleep, [600]).run.id))")
    results = Results(machine.open(run_id), timeout=0.5)
    with pytest.raises(TimeoutError, match="has not returned everything"):
        next(results)
    machine.open(run_id).cancel()


def test_bad_size() -> None:
    """A wrong argument is told before anything is looked for."""
    with pytest.raises(UsageError, match="found shards=0"):
        hpcrun.map(abs, [1], shards=0)
