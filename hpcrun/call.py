"""The program of a run that calls a function, on a node, in each attempt of each shard.

It takes the calls of its shard from the run's payload, makes those that no earlier attempt has made with success, one
after the other, and leaves what each has returned or raised. It ends with code 1 where a call has raised.
"""

from __future__ import annotations

import os
import sys
import types

from hpcrun import checkpoints, pickling, returned
from hpcrun.errors import HpcrunError, UsageError
from hpcrun.payload import Payload, named, pickled
from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

COMMAND = "import sys; sys.path[:] = filter(None, sys.path); import hpcrun.call; hpcrun.call.main({})"
"""What the interpreter is given: the folder it is in is none of its own, or whoever writes there has code run."""


def main(anew: bool) -> None:
    """Make the calls of the shard that this process is told to be, and end the process.

    With `anew` calls are repeated that earlier attempts have made with success.
    """
    try:
        run, shard, attempt = _who()
    except KeyError as error:
        print(f"hpcrun: found no {error.args[0]} in the environment; hpcrun starts this on nodes", file=sys.stderr)
        sys.exit(2)
    calls = _Calls(run, shard, attempt, anew=anew)
    try:
        code = calls.make()
    finally:
        calls.close()
    sys.exit(code)


def apply(call: bytes) -> Any:
    """Make the call that is pickled in `call`: function, positional and keyword arguments."""
    function, args, kwargs = pickling.loads(call)
    return function(*args, **kwargs)


def _who() -> tuple[RunDir, int, int]:
    here = os.environ
    return RunDir(here["HPCRUN_RUN_DIR"]), int(here["HPCRUN_SHARD_INDEX"]), int(here["HPCRUN_ATTEMPT"])


class _Calls:
    """The calls of one attempt of a shard."""

    def __init__(self, run: RunDir, shard: int, attempt: int, *, anew: bool) -> None:
        self._run, self._shard, self._attempt = run, shard, attempt
        self._done = set() if anew else {call for earlier in range(attempt) for call in _values(run, shard, earlier)}
        self._out = returned.Writer(run.returned(shard, attempt))
        self._process = os.getpid()
        if attempt:
            self._out.add(returned.KEPT, 0, pickling.dumps(sorted(self._done)))

    def close(self) -> None:
        """Have all of it on the disk, as far as it is this process's own."""
        checkpoints.flush()
        if os.getpid() == self._process:
            self._out.close()

    def make(self) -> int:
        """Make them; the exit code."""
        try:
            function, first, calls = self._loaded()
        except Exception as error:  # whatever the modules that it takes do when they are imported
            self._failed(returned.ALL, 0, error, last=True)
            return 1
        code = 0
        for number, (args, kwargs) in enumerate(calls, first):
            if number not in self._done:
                code |= self._call(function, args, kwargs, number, last=number == first + len(calls) - 1)
        return code

    def _loaded(self) -> tuple[Callable[..., Any], int, list[Any]]:
        with Payload(self._run.payload) as payload:
            who = payload.who()
            if tuple(sys.version_info[:2]) != who["python"]:
                theirs, ours = (".".join(map(str, version)) for version in (who["python"], sys.version_info[:2]))
                raise UsageError(
                    f"the function was submitted by Python {theirs}, and {sys.executable} on {os.uname().nodename} is "
                    f"Python {ours}; functions can be called by the version alone that has pickled them: give "
                    "`python=` when you submit, or submit with that one"
                )
            before, after = who["path"]
            sys.path[:] = list(dict.fromkeys([*before, *sys.path, *after]))
            function = pickling.loads(who["function"])
            if payload.chunks > 1:
                return function, *payload.arguments(self._shard)
            return function, self._shard, payload.arguments(0)[1]

    def _call(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], number: int, *, last: bool
    ) -> int:
        """Make one call, the `last` one or not, and leave what comes of it; 1 where that is an error."""
        try:
            value = function(*args, **kwargs)
            if isinstance(value, types.CoroutineType):
                import asyncio  # as long to load as all the rest

                value = asyncio.run(value)
            self._leave_if_forked(0)
            body = pickled(value, f"what {named(function)} has returned, a {type(value).__name__}")
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            code = _exit_code(error)
            self._leave_if_forked(code)
            self._failed(returned.ERROR, number, error, last=last)
            if isinstance(error, SystemExit):  # by a wish of the function, or of one of its hooks
                sys.exit(code or 1)  # it has not returned
            return 1
        finally:
            checkpoints.forget()
        self._out.add(returned.VALUE, number, body, last=last)
        return 0

    def _leave_if_forked(self, code: int) -> None:
        """End a process that the function has forked, and that has come back here: it is not the one that was asked."""
        if os.getpid() != self._process:
            checkpoints.flush()
            os._exit(code)

    def _failed(self, kind: int, number: int, error: BaseException, *, last: bool) -> None:
        """Leave an error; its traceback goes into the shard's log too, without the lines of this module."""
        import traceback  # what loads this is in no hurry any more

        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
            trace = trace.tb_next
        text = "".join(traceback.format_exception(type(error), error, trace))
        checkpoints.flush()
        os.write(2, text.encode("utf-8", "replace"))
        body = returned.error_body(error, text, os.uname().nodename, self._attempt)
        self._out.add(kind, number, body, last=last)


def _exit_code(error: BaseException) -> int:
    """What a process ends with that `error` ends."""
    if not isinstance(error, SystemExit):
        return 1
    return error.code if isinstance(error.code, int) else int(error.code is not None)


def _values(run: RunDir, shard: int, attempt: int) -> list[int]:
    """The calls that an attempt has made with success."""
    found = []
    try:
        for kind, call, _ in returned.Reader(run.returned(shard, attempt)).frames():
            if kind == returned.VALUE:
                found.append(call)
    except HpcrunError:  # damaged: what is behind is made again
        pass
    return found
