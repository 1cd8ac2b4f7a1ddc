"""What goes to another process without cloudpickle, and that it is there what it was here."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
from pathlib import Path

import cloudpickle

from hpcrun import pickling

SCRIPT = '''
import collections, enum, functools, json, logging.handlers, os, sys, typing, xml.etree.ElementTree
from hpcrun import pickling

scale = 3

def even(n, *, by=1):
    """Whether it is."""
    return n == 0 or odd(n - by)

def odd(n: int = 1) -> bool:
    return n != 0 and even(n - 1)

def deep(x):
    def inner():
        return [scale * one for one in (x, x)]
    return json.dumps([inner(), xml.etree.ElementTree.Element("a").tag, os.path.join("a", "b"), __name__])

def count():
    global scale
    scale += 1
    return scale

def many():
    yield from range(scale)

async def later():
    return scale

def closed(x):
    return lambda: x

class Point(typing.NamedTuple):
    x: int

class Colour(enum.Enum):
    RED = 1

class Odd(Exception):
    pass

class Held:
    def method(self):
        return 1

Text = typing.TypeVar("Text")
Name = typing.NewType("Name", str)
table = {"even": even}
tagged = lambda: 1
tagged.tag = 1
held = Held()
space = {}
exec("def nowhere(): return 1", space)
nowhere = space["nowhere"]

def uses_class(x):
    return Point(x)

def uses_held():
    return held.method()

def hooked(hook=even):
    return hook(2)

cached = functools.lru_cache(odd)
'''
"""What a user's script may hold."""


def run(folder: Path, code: str) -> object:
    """What a process prints, as JSON, in which the names of SCRIPT are those of ``__main__``."""
    (folder / "script.py").write_text(code)
    done = subprocess.run([sys.executable, "script.py"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


PLAIN = (
    "odd", "even", "deep", "count", "many", "later", "lambda x: x * scale", "table", "hooked",
    "functools.partial(even, by=2)", "[1, (2.5, None), {'a': {b'c'}}]", "json.dumps", "os", "logging.handlers",
    "print", "'abc'.upper", "os.PathLike", "collections.OrderedDict(a=1)", "[odd, even, odd]", "ValueError('no')",
)  # fmt: skip
BEYOND = (
    "Point", "Point(1)", "[Point(1)]", "Colour.RED", "Odd('no')", "Held()", "held.method", "closed(1)", "tagged",
    "Text", "Name", "nowhere", "uses_class", "uses_held", "cached", "sys.modules['__main__']", "{1: 2}.keys()",
    "{'a': (even, Colour)}", "list[Point]", "functools.partial(uses_class, 1)", "memoryview(b'a')", "open(__file__)",
)  # fmt: skip


def test_what_takes_cloudpickle(tmp_path: Path) -> None:
    """Nothing of a script goes by its name; what is not data or a plain function is left to cloudpickle."""
    code = f"{SCRIPT}\nprint(json.dumps([pickling.plain(eval(one)) is None for one in {PLAIN + BEYOND}]))"
    found = run(tmp_path, code)
    assert isinstance(found, list)
    assert dict(zip(PLAIN + BEYOND, found, strict=True)) == dict.fromkeys(PLAIN, False) | dict.fromkeys(BEYOND, True)


CALLS = {
    "deep": "(2,)",
    "odd": "()",
    "even": "(4,)",
    "count": "()",
    "hooked": "()",
    "lambda x: x * scale": "(5,)",
    "functools.partial(even, by=2)": "(4,)",
    "lambda: [count(), scale]": "()",
    "lambda *a, k=scale, **b: [a, b, k]": "(1,)",
    "lambda: list(many())": "()",
    "lambda: [even.__doc__, even.__qualname__, even.__kwdefaults__, even.__module__]": "()",
    "lambda: even.__globals__['__file__']": "()",
    "lambda: [str(odd.__annotations__), odd.__defaults__, odd.__name__, [one() for one in table.values() if 0]]": "()",
}
"""Functions of the script, and the arguments to call them with."""


def test_functions_are_what_they_were(tmp_path: Path) -> None:
    """In a process without the script they return what those return that cloudpickle sends, and load no cloudpickle."""
    made = f"""{SCRIPT}
import cloudpickle
for number, send in enumerate([pickling.plain, cloudpickle.dumps]):
    sent = [(send(eval(function)), eval(args)) for function, args in {CALLS}.items()]
    open(f"sent.{{number}}", "wb").write(pickling.dumps(sent))
print("null")
"""
    called = """
import json, sys
from hpcrun import pickling
found = [pickling.loads(data)(*args) for data, args in pickling.loads(open("sent.NUMBER", "rb").read())]
print(json.dumps([found, "cloudpickle" in sys.modules]))
"""
    run(tmp_path, made)
    own, theirs = (run(tmp_path, called.replace("NUMBER", str(number))) for number in (0, 1))
    assert isinstance(own, list)
    assert isinstance(theirs, list)
    assert own[0] == theirs[0]
    assert (own[1], theirs[1]) == (False, True)


def test_functions_share_what_they_change(tmp_path: Path) -> None:
    """Those that were of one module are so again."""
    code = f"{SCRIPT}\nchange, read = pickling.loads(pickling.plain([count, lambda: scale]))\n"
    assert run(tmp_path, f"{code}change()\nprint(json.dumps([read(), scale]))") == [4, 3]


def test_data_of_installed_modules() -> None:
    """They go by the names of their classes."""
    value = {"when": datetime.date(2026, 1, 2), "where": Path("a")}
    made = pickling.plain(value)
    assert made is not None
    assert pickling.loads(made) == value


def test_modules_that_somebody_wants_by_value() -> None:
    """What was registered with cloudpickle is left to it."""
    cloudpickle.register_pickle_by_value(datetime)
    try:
        assert pickling.plain(1) is None
    finally:
        cloudpickle.unregister_pickle_by_value(datetime)
    assert pickling.plain(1) is not None
