"""What becomes of signals in a program that has registered hooks; with a runtime that sends them: tests/local."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from typing import Any

import pytest

from hpcrun.checkpoints import checkpoint
from hpcrun.errors import UsageError

PREAMBLE = """
import os, signal, sys, threading
from hpcrun.checkpoints import checkpoint
from hpcrun.errors import UsageError
from signal import SIGTERM, SIGUSR1, SIGUSR2

def get(*numbers):
    for number in numbers:
        os.kill(os.getpid(), number)

"""


def program(code: str) -> tuple[int, list[str], str]:
    """A program inside of a run, to its end: its exit code, the words on its standard output, standard error."""
    environ = {**os.environ, "HPCRUN_RUN_ID": "abc", "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-c", PREAMBLE + code]
    done = subprocess.run(
        command, env=environ, capture_output=True, text=True, timeout=60, check=False, cwd=os.environ["HOME"]
    )
    return done.returncode, done.stdout.split(), done.stderr


def test_warned() -> None:
    """Either warning calls every hook once, in order, and the program goes on."""
    code = """
checkpoint(lambda: print("model"))
@checkpoint
def save():
    print("data")
checkpoint(save)
get(SIGUSR2)
print("on")
get(SIGUSR1)
print("end")
"""
    assert program(code) == (0, ["model", "data", "on", "model", "data", "end"], "")


def test_told_to_end() -> None:
    """SIGTERM calls the hooks and then ends the program as ever, with nothing of what they printed lost."""
    assert program("checkpoint(lambda: print('saved')); get(SIGTERM); print('on')") == (-signal.SIGTERM, ["saved"], "")


def test_one_that_fails() -> None:
    """A hook that fails says so; the others are called, and the program goes on."""
    code = "checkpoint(lambda: 1 / 0); checkpoint(lambda: print('saved')); get(SIGUSR2); print('on')"
    status, words, errors = program(code)
    assert (status, words) == (0, ["saved", "on"])
    assert errors.startswith("Traceback")
    assert errors.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("number", ["SIGUSR2", "SIGTERM"])
def test_one_that_leaves(number: str) -> None:
    """A hook may end the program, as from its main thread; those after it are called before."""
    code = f"""
checkpoint(lambda: sys.exit(9))
checkpoint(lambda: print("saved"))
try:
    get({number})
    print("on")
finally:
    print("tidy")
"""
    assert program(code) == (9, ["saved", "tidy"], "")


def test_hooks_are_not_interrupted() -> None:
    """Signals that come while hooks run call them no second time; SIGTERM takes effect after the last one."""
    code = """
def save():
    print("begin")
    get(SIGUSR2, SIGUSR1, SIGTERM, SIGTERM)
    print("end")
checkpoint(save)
checkpoint(lambda: print("other"))
get(SIGUSR2)
print("on")
"""
    assert program(code) == (-signal.SIGTERM, ["begin", "end", "other"], "")


def test_who_was_there_before() -> None:
    """A handler of the program's own gets its signal after the hooks, and decides; what was ignored has no effect."""
    code = """
signal.signal(SIGUSR2, lambda number, frame: print("own", number == SIGUSR2))
signal.signal(SIGTERM, signal.SIG_IGN)
checkpoint(lambda: print("saved"))
get(SIGUSR2, SIGTERM)
print("on")
"""
    assert program(code) == (0, ["saved", "own", "True", "saved", "on"], "")


def test_forked_processes() -> None:
    """What a program forks does not write its checkpoints, and ends by SIGTERM; it may have a hook of its own."""
    code = """
checkpoint(lambda: print("saved", flush=True))
for own in (False, True):
    child = os.fork()
    if not child:
        if own:
            checkpoint(lambda: print("child", flush=True))
        get(SIGTERM)
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
get(SIGTERM)
"""
    assert program(code) == (-signal.SIGTERM, ["15", "child", "15", "saved"], "")


def test_threads() -> None:
    """The first hook has to come from the main thread; then every thread may register one, and the main one calls."""
    code = """
def register():
    try:
        checkpoint(lambda: print("saved", threading.current_thread() is threading.main_thread()))
    except UsageError as error:
        print("refused", file=sys.stdout)
        print(error, file=sys.stderr)

def in_thread():
    thread = threading.Thread(target=register, name="trainer")
    thread.start()
    thread.join()

in_thread()
get(signal.SIGCONT)
checkpoint(lambda: print("main"))
in_thread()
get(SIGUSR2)
"""
    status, words, errors = program(code)
    assert (status, words) == (0, ["refused", "main", "saved", "True"])
    assert errors.startswith("checkpoint(): found the first call in thread 'trainer', wanted it in the main thread")


def test_outside() -> None:
    """Outside of a run the hook is left as it is, and so are signals."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)]
    hook = functools.partial(print, "saved")
    assert checkpoint(hook) is hook
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)] == before


async def asynchronous() -> None:
    """Nobody would await it."""


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        (3, "found 3, wanted a plain function"), (asynchronous, "found asynchronous, wanted a plain function"),
        (lambda path: None, "(path), wanted a function that can be called with nothing (missing a required argument"),
    ],
)  # fmt: skip
def test_no_hook(hook: Any, said: str) -> None:
    """What could not be called at the warning is refused at once."""
    with pytest.raises(UsageError) as caught:
        checkpoint(hook)
    assert said in str(caught.value)
