"""What the calls of an attempt have returned or raised: a file of frames, each written as soon as its call has ended.

``returned/A/BBB/S`` is written by attempt A of shard S alone, and read while it grows. A frame is a head (what it is,
the number of the call, its length and digest) and a pickle. One that is cut short (its writer died in it) is not there.
"""

from __future__ import annotations

import functools
import io
import os
import struct

from hpcrun import pickling
from hpcrun.errors import RunFolderError
from hpcrun.payload import digest, opened

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator
    from typing import Any

_PLACE = struct.Struct("<4sIQQ")
_HEAD = struct.Struct("<4sIQQ16s")
_MAGIC = b"hpr\1"
VALUE, ERROR, ALL, KEPT = 0, 1, 2, 3
"""What a frame holds: a value, an error, an error of every call that has no frame of its own, or, at the beginning, the
calls of which the values of earlier attempts still count, as a list."""
_SYNC_AFTER = 1.0
"""Seconds after which what is new is on the disk, for a crash to spare and for other nodes to see."""
_SMALL = 1 << 16
"""Bytes of a pickle that is kept when it is read; larger ones are read again when they are wanted."""


class Writer:
    """The file `path` of one attempt, for its frames; the folder is made where it is not there."""

    def __init__(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._timer: threading.Timer | None = None
        self._problem: OSError | None = None

    def add(self, kind: int, call: int, body: bytes, *, last: bool = False) -> None:
        """Write one frame; after the `last` one the file is ended at once. Raises OSError."""
        place = _PLACE.pack(_MAGIC, kind, call, len(body))
        head = place + digest(place + digest(body))
        done = os.writev(self._file, (head, body))
        if done < len(head) + len(body):
            rest = memoryview(head + body)[done:]
            while rest:
                rest = rest[os.write(self._file, rest) :]
        if self._problem is not None:
            raise self._problem
        if self._timer is None and not last:
            import threading  # what a shard with one call does without

            self._timer = threading.Timer(_SYNC_AFTER, self._sync)
            self._timer.daemon = True
            self._timer.start()

    def _sync(self) -> None:
        self._timer = None  # what comes from now on is another one's
        try:
            os.fsync(self._file)
        except OSError as error:  # which the system tells once
            self._problem = error

    def close(self) -> None:
        """End the file, all of which is on the disk then; nothing where that was done before. Raises OSError."""
        if self._file < 0:
            return
        timer = self._timer
        if timer is not None:
            timer.cancel()
            timer.join()
        self._sync()
        os.close(self._file)
        self._file = -1
        if self._problem is not None:
            raise self._problem


class Body:
    """The pickle of a frame, where it stands."""

    __slots__ = ("_at", "_data", "_digest", "_length", "_path")

    def __init__(self, path: str, at: int, data: bytes) -> None:
        self._path, self._at, self._length = path, at, len(data)
        self._data = data if len(data) <= _SMALL else None
        self._digest = b"" if self._data is not None else digest(data)

    def bytes(self) -> bytes:
        """Its bytes, which have been checked. Raises RunFolderError where they cannot be read again."""
        if self._data is not None:
            return self._data
        try:
            with opened(self._path) as file:
                file.seek(self._at)
                data = file.read(self._length)
        except FileNotFoundError as error:
            raise RunFolderError(self._path, "it is gone, and what a call has returned with it") from error
        if digest(data) != self._digest:
            raise RunFolderError(self._path, f"{self._length} bytes at {self._at} have changed since they were read")
        return data


class Reader:
    """The frames of the file `path`, those that are new at each call of `frames`."""

    def __init__(self, path: str) -> None:
        self._path, self._at = path, 0

    def frames(self) -> Iterator[tuple[int, int, Body]]:
        """(kind, call, body) of each frame that has come since; none where the file is not there yet.

        Raises RunFolderError where the file is damaged, or is not this user's own.
        """
        try:
            file = opened(self._path)
        except FileNotFoundError:
            return
        with file:
            file.seek(self._at)
            while len(head := file.read(_HEAD.size)) == _HEAD.size:
                magic, kind, call, length, wanted = _HEAD.unpack(head)
                if magic != _MAGIC:
                    raise self._damaged()
                data = file.read(length)
                if len(data) < length:
                    return
                if digest(head[: _PLACE.size] + digest(data)) != wanted:
                    raise self._damaged()
                body = Body(self._path, self._at + _HEAD.size, data)
                self._at += _HEAD.size + length
                yield kind, call, body

    def _damaged(self) -> RunFolderError:
        return RunFolderError(
            self._path, f"what stands at byte {self._at} is not what a call has left; nothing of it is unpickled. "
            "`hpcrun retry` does not repeat a shard that has succeeded: submit a new run"
        )  # fmt: skip


def error_body(error: BaseException, text: str, node: str, attempt: int) -> bytes:
    """The body of an error's frame: the exception, where it can be pickled and made again, and all of it as text."""
    import cloudpickle

    whole = b""
    # The first way is Python's own; exceptions whose __init__ wants something else than `args` cannot go by it.
    for made_of in (error, (type(error), error.args, error.__dict__)):
        try:
            whole = bytes(cloudpickle.dumps(made_of))
            made = exception_of(whole)
            if type(made) is type(error) and (made_of is not error or _is_alike(made, error)):
                break
        except Exception:  # an exception's class may do anything
            pass
        whole = b""
    facts = {
        "exception": whole, "type": type(error).__name__, "text": text, "node": node, "attempt": attempt,
        "message": _message(error),
    }  # fmt: skip
    return pickling.dumps(facts)


def _is_alike(made: BaseException, error: BaseException) -> bool:
    """Whether an exception that was made anew says what the first one says, and of as many arguments."""
    return len(made.args) == len(error.args) and str(made) == str(error) and repr(made) == repr(error)


def exception_of(data: bytes) -> BaseException:
    """The exception in the facts of an error's frame. Raises whatever its class does, and TypeError for none."""
    found = loads(data)
    if isinstance(found, tuple):
        cls, args, state = found
        found = cls.__new__(cls, *args)
        BaseException.__setattr__(found, "args", args)
        found.__dict__.update(state)
    if not isinstance(found, BaseException):
        raise TypeError(f"found {found!r}, wanted an exception")
    return found


def loads(data: bytes) -> Any:
    """What a pickle made by a shard holds.

    Classes of this process's own ``__main__`` are left as they are: a shard had copies of them, and cloudpickle would
    give the originals the state of these.
    """
    return _Unpickler(io.BytesIO(data)).load()


class _Unpickler(pickling.Unpickler):
    """Of cloudpickle's means of making classes, those that take care of the ones that are here."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._here: list[type] = []

    def find_class(self, module: str, name: str) -> Any:
        """As pickle does it."""
        found = super().find_class(module, name)
        if module.partition(".")[0] == "cloudpickle":
            if name in _SKELETONS:
                return functools.partial(self._skeleton, found, _SKELETONS[name])
            if name == "_class_setstate":
                return functools.partial(self._state, found)
        return found

    def _skeleton(self, make: Callable[..., type], tracker: int, *args: Any) -> type:
        import cloudpickle

        known = getattr(cloudpickle.cloudpickle, "_DYNAMIC_CLASS_TRACKER_BY_ID", {})
        before = known.get(args[tracker])
        if before is not None:
            self._here.append(before)
        return make(*args)

    def _state(self, give: Callable[..., type], cls: type, state: Any) -> type:
        return cls if any(cls is one for one in self._here) else give(cls, state)


_SKELETONS = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}
"""The functions of cloudpickle that find a class or make it anew, and which argument says what class it was."""


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return ""


def error_facts(body: bytes) -> dict[str, Any]:
    """The facts of an error's frame: ``exception`` (a pickle, or empty), ``type message text node attempt``."""
    found: dict[str, Any] = pickling.loads(body)
    return found
