"""Whose output is to be seen: `stdout` and `stderr`, as decorators and as context managers."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import pickle
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hpcrun.errors import UsageError
from hpcrun.here import Current
from hpcrun.output import stderr, stdout

Seen = Callable[[], str]


@pytest.fixture(autouse=True)
def in_shard_3(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shard 3 of 8."""
    be(monkeypatch, 3)


@pytest.fixture
def seen(capsys: pytest.CaptureFixture[str]) -> Seen:
    """What has been seen of standard output since it was asked last, once the stream is pytest's own again."""

    def found() -> str:
        assert not type(sys.stdout).__module__.startswith("hpcrun")
        return capsys.readouterr().out

    return found


def be(monkeypatch: pytest.MonkeyPatch, index: int) -> None:
    monkeypatch.setenv("HPCRUN_SHARD_INDEX", str(index))
    monkeypatch.setenv("HPCRUN_SHARD_COUNT", "8")


@pytest.mark.parametrize(
    ("only", "speaks"),
    [
        ("head", False), (3, True), (0, False), ([0, 3], True), (range(4), True), (frozenset({1}), False), ((), False),
        (lambda here: here.index % 2, True), (lambda here: not here.index % 2, False),
    ],
)  # fmt: skip
def test_who(seen: Seen, only: Any, speaks: bool) -> None:
    """Whoever is named is heard, and nobody else."""

    @stdout(only=only)
    def say() -> str:
        print("here", end="")
        return "done"

    assert say() == "done"
    assert seen() == ("here" if speaks else "")


def test_when_it_is_called(monkeypatch: pytest.MonkeyPatch, seen: Seen) -> None:
    """Who this process is matters when the function is called, not when it was decorated."""
    say = stdout(only="head")(print)
    say("no")
    be(monkeypatch, 0)
    say("yes")
    assert seen() == "yes\n"


def test_one_stream_alone(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard error goes on where standard output is silent, and the other way round."""
    with stdout(only="head"):
        print("out")
        print("err", file=sys.stderr)
    with stderr(only="head"):
        print("out again")
        print("err again", file=sys.stderr)
    assert capsys.readouterr() == ("out again\n", "err\n")


def test_as_a_block(seen: Seen) -> None:
    """A block is silent to its end, also one inside of another, and one that ends in an exception."""
    quiet = stdout(only="head")
    with contextlib.suppress(ValueError), quiet:
        with quiet, stdout(only=3):
            print("inner")
        print("outer")
        raise ValueError
    print("after")
    assert seen() == "after\n"


def test_a_generator_is_silent_itself(seen: Seen) -> None:
    """Only the generator's own code is silent; it takes values, exceptions and its end as it did before."""

    @stdout(only="head")
    def steps() -> Iterator[Any]:
        print("began")
        try:
            got = yield 1
            print("has", got)
            try:
                yield got
            except KeyError as error:
                yield error.args[0]
        finally:
            print("ended")
        return "result"

    found: Any = steps()
    print("first", next(found))
    print("second", found.send("a"))
    print("third", found.throw(KeyError("b")))
    with pytest.raises(StopIteration, match="result"):
        next(found)
    found = steps()
    next(found)
    found.close()
    assert seen() == "first 1\nsecond a\nthird b\n"


def test_asynchronous_functions(seen: Seen) -> None:
    """A coroutine is silent until it has ended, an asynchronous generator in its own code."""

    @stdout(only="head")
    async def work() -> int:
        print("silent")
        await asyncio.sleep(0)
        print("silent")
        return 7

    @stdout(only="head")
    async def steps() -> AsyncIterator[int]:
        print("silent")
        try:
            yield 1
            print("silent")
            yield 2
        except KeyError:
            print("silent")
            yield 3
        finally:
            print("silent")

    async def all_of_it() -> None:
        print(await work())
        print([item async for item in steps()])
        found: Any = steps()
        print(await anext(found), await found.athrow(KeyError))
        await found.aclose()

    asyncio.run(all_of_it())
    assert seen() == "7\n[1, 2]\n1 3\n"


def test_threads_that_overlap(seen: Seen) -> None:
    """The stream is back when the last one has left, in whatever order they came and go."""
    inside, leave = threading.Event(), threading.Event()

    @stdout(only="head")
    def first() -> None:
        inside.set()
        assert leave.wait(60)

    thread = threading.Thread(target=first)
    with stdout(only="head"):
        thread.start()
        assert inside.wait(60)
    print("the other is still in there")
    leave.set()
    thread.join()
    print("after")
    assert seen() == "after\n"


def test_what_keeps_the_stream(seen: Seen) -> None:
    """A logger that was set up in silence speaks afterwards."""
    log = logging.getLogger("test_output")
    with stdout(only="head"):
        handler = logging.StreamHandler(sys.stdout)
        log.addHandler(handler)
        log.warning("silent")
        sys.stdout.writelines(["silent"])
    log.warning("heard")
    log.removeHandler(handler)
    assert seen() == "heard\n"


def test_bytes_are_silent_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program writes to the buffer below the stream is held back as well."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="utf-8", write_through=True))
    with stdout(only="head"):
        sys.stdout.buffer.write(b"silent")
        assert sys.stdout.encoding == "utf-8"
    sys.stdout.buffer.write(b"heard")
    sys.stdout.flush()
    assert raw.getvalue() == b"heard"


def test_a_stream_that_the_function_has_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets another stream meanwhile keeps it."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    other = io.StringIO()
    with stdout(only="head"):
        sys.stdout = other
    assert sys.stdout is other


def test_the_decorated_function_keeps_its_face() -> None:
    """Name, signature and kind are those of the function; what silences it survives pickling."""

    @stdout(only="head")
    def steps(first: int) -> Iterator[int]:
        """Its docstring."""
        yield first

    import inspect

    assert (steps.__name__, steps.__doc__) == ("steps", "Its docstring.")
    assert inspect.isgeneratorfunction(steps)
    assert str(inspect.signature(steps)) == "(first: 'int') -> 'Iterator[int]'"
    with pickle.loads(pickle.dumps(stdout(only=[1, 2]))):
        print("silent")


def head_or_last(here: Current) -> bool:
    return here.index in (0, here.count - 1)


@pytest.mark.parametrize("only", ["haed", -1, True, 1.0, None, [0, -1], ["head"], "0"])
def test_who_is_that(only: Any) -> None:
    """What names nobody is refused where the function is decorated."""
    with pytest.raises(UsageError) as caught:
        stdout(only=only)
    assert str(caught.value).startswith(f'stdout(only=…): found {only!r}, wanted "head"')


def test_no_function() -> None:
    """A decorator decorates functions."""
    with pytest.raises(UsageError, match=r"^@stderr\(only=…\): found 3, wanted a function to decorate$"):
        stderr(only=head_or_last)(3)  # type: ignore[type-var]
