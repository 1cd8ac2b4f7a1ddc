"""The payload of a run that calls a function: one file, however many calls it is about.

``payload`` in the run folder holds the function, then the arguments of each shard's calls, then a table of where these
are, so that a shard reads what is its own and nothing else:

    function    its pickle, with what the submitting interpreter was
    chunk 0 …   for each shard, the pickle of a list with the arguments of its calls
    table       for each chunk: where it is, how long, the number of its first call, and its digest
    end         where the function and the table are, how many chunks and calls, a digest of all that

Everything is checked against its digest (BLAKE2b, 16 bytes) before it is unpickled, and a file is only opened where it
belongs to the user and nobody else may write to it: to unpickle is to run whatever it says.
"""

from __future__ import annotations

import os
import stat
import struct
import sys

from hpcrun import pickling
from hpcrun.errors import RunFolderError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, BinaryIO

    Call = tuple[tuple[Any, ...], dict[str, Any]]
    """The positional and the keyword arguments of one call."""

try:
    from _blake2 import blake2b  # what hashlib has under this name, without OpenSSL, which takes a shard 4 ms to load
except ImportError:
    from hashlib import blake2b

_DIGEST = 16
_CHUNK = struct.Struct(f"<QQQ{_DIGEST}s")
_END = struct.Struct(f"<8sQQ{_DIGEST}sQQQ{_DIGEST}s{_DIGEST}s")
_PLACE = struct.Struct("<QQ")
_MAGIC = b"hpcrun\0\1"


def digest(data: bytes | memoryview) -> bytes:
    """The digest that data is checked against."""
    return blake2b(data, digest_size=_DIGEST).digest()


def pickled(value: object, what: str) -> bytes:
    """`value` as bytes that another process can make it of, functions and classes of ``__main__`` included.

    Raises UsageError, which names `what` it is, where that cannot be done.
    """
    plain = pickling.plain(value)
    if plain is not None:
        return plain
    import cloudpickle  # 35 ms of CPU, which most shards do without

    try:
        return bytes(cloudpickle.dumps(value))
    except Exception as error:  # whatever the objects' own code raises
        raise UsageError(
            f"found {what}, which cannot be pickled ({type(error).__name__}: {error}); wanted values that can go to "
            "another process: no open files, locks, connections or generators"
        ) from error


def write(path: str, function: object, chunks: Iterable[list[Call]]) -> tuple[int, int]:
    """Write the payload of calls of `function`, of which `chunks` has the arguments; how many chunks and calls it has.

    Chunks are written as they come, so that they may be more than fit into memory. Raises UsageError for what cannot be
    pickled, RunFolderError where the file cannot be written, and whatever making the chunks raises.
    """
    who = {
        "python": tuple(sys.version_info[:2]),
        "path": _own_path(),
        "function": pickled(function, f"the function {named(function)}"),
    }
    table: list[bytes] = []
    calls = 0
    with _Output(path) as file:
        head = pickling.dumps(who)
        file.write(head)
        at = len(head)
        for chunk in chunks:
            data = _chunk(chunk, calls)
            file.write(data)
            table.append(_CHUNK.pack(at, len(data), calls, _of_chunk(len(table), calls, data)))
            at, calls = at + len(data), calls + len(chunk)
        whole = b"".join(table)
        end = _END.pack(_MAGIC, 0, len(head), digest(head), at, len(table), calls, digest(whole), b"\0" * _DIGEST)
        file.write(whole + end[:-_DIGEST] + digest(end))
        file.sync()
    return len(table), calls


class _Output:
    """A new file for this user alone; what cannot be written is a RunFolderError."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._do(
            lambda: os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")
        )

    def __enter__(self) -> _Output:
        return self

    def __exit__(self, *error: object) -> None:
        self._do(self._file.close)

    def write(self, data: bytes) -> None:
        self._do(lambda: self._file.write(data))

    def sync(self) -> None:
        self._do(self._file.flush)
        self._do(lambda: os.fsync(self._file.fileno()))

    def _do(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except OSError as error:
            raise RunFolderError(
                self._path, f"cannot write the payload: {error.strerror}; nothing was submitted"
            ) from error


def _of_chunk(number: int, first: int, data: bytes) -> bytes:
    """The digest of a chunk, which no other place in the table has."""
    return digest(_PLACE.pack(number, first) + data)


def _chunk(calls: list[Call], first: int) -> bytes:
    try:
        return pickled(calls, "arguments")
    except UsageError:
        for number, call in enumerate(calls, first):
            pickled(call, f"arguments of call {number}")
        raise


def _own_path() -> tuple[list[str], list[str]]:
    """Where this process finds modules that are not the interpreter's own, before and after those."""
    import re  # what no shard needs
    import sysconfig

    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    own = {os.path.realpath(sysconfig.get_path(kind)) for kind in kinds}
    own |= {os.path.join(path, "lib-dynload") for path in own}
    before: list[str] = []
    after: list[str] = []
    found = before
    for entry in map(os.path.abspath, sys.path):
        if os.path.realpath(entry) in own or re.fullmatch(r"python\d+\.zip", os.path.basename(entry)):
            found = after
        else:
            found.append(entry)
    return before, after


def named(function: object) -> str:
    """What `function` is called, for people."""
    inner = getattr(function, "func", function)  # of functools.partial
    return str(getattr(inner, "__name__", type(function).__name__))


class Payload:
    """A payload, open for reading; `chunks` shards have `calls` calls among them."""

    def __init__(self, path: str) -> None:
        """Raises RunFolderError where it is not there, is damaged, or is not this user's own."""
        self._path = path
        self._file = opened(path)
        try:
            self._file.seek(-_END.size, os.SEEK_END)
            end = self._file.read(_END.size)
            magic, at, length, head, table, self.chunks, self.calls, whole, own = _END.unpack(end)
        except (OSError, struct.error) as error:
            self._file.close()
            raise self._damaged("it is too short") from error
        if magic != _MAGIC or digest(end[:-_DIGEST] + b"\0" * _DIGEST) != own:
            self._file.close()
            raise self._damaged("its end is not one")
        self._head, self._table, self._whole = (at, length, head), table, whole

    def __enter__(self) -> Payload:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def _damaged(self, why: str) -> RunFolderError:
        return RunFolderError(
            self._path, f"not a payload as it was written: {why}; submit a new run, and see what else writes there"
        )

    def _bytes(self, at: int, length: int) -> bytes:
        self._file.seek(at)
        return self._file.read(length)

    def _read(self, at: int, length: int, wanted: bytes) -> bytes:
        data = self._bytes(at, length)
        if digest(data) != wanted:
            raise self._damaged(f"{length} bytes at {at} have changed")
        return data

    def firsts(self) -> list[int]:
        """The number of the first call of each chunk, and at the end how many calls there are."""
        table = self._read(self._table, self.chunks * _CHUNK.size, self._whole)
        return [*(first for _, _, first, _ in _CHUNK.iter_unpack(table)), self.calls]

    def who(self) -> dict[str, Any]:
        """``python`` and ``path`` of the submitting interpreter, and the pickle of the ``function``."""
        found: dict[str, Any] = pickling.loads(self._read(*self._head))
        return found

    def arguments(self, chunk: int) -> tuple[int, list[Call]]:
        """The calls of one chunk, and the number of the first."""
        try:
            at, length, first, wanted = _CHUNK.unpack(self._bytes(self._table + chunk * _CHUNK.size, _CHUNK.size))
        except struct.error as error:
            raise self._damaged("its table ends early") from error
        data = self._bytes(at, length)
        if _of_chunk(chunk, first, data) != wanted:
            raise self._damaged(f"{length} bytes at {at} have changed")
        found: list[Call] = pickling.loads(data)
        return first, found


def opened(path: str) -> BinaryIO:
    """The file `path`, open for reading, if it is this user's own.

    Raises RunFolderError where it cannot be read, belongs to another, or others may write to it, and FileNotFoundError.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunFolderError(path, f"cannot read it: {error.strerror}") from error
    found = os.fstat(file.fileno())
    problem = ""
    if found.st_uid != os.geteuid():
        problem = f"it belongs to the user {found.st_uid}, wanted one of your own ({os.geteuid()})"
    elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        problem = f"others may write to it (mode {stat.S_IMODE(found.st_mode):04o}), wanted 0600"
    if problem:
        file.close()
        raise RunFolderError(path, f"{problem}: what it holds is not unpickled, as that would run whatever it says")
    return file
