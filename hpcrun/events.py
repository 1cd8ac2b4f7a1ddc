"""The record of a run: one line of JSON an event, appended by the one process that owns the file.

An attempt's record holds its start and, once it has one, its end. The submission's record holds, for each batch, the
intent before sbatch and the job id after it. A line that is cut short (its writer died in it) is not there.
"""

from __future__ import annotations

import os

from hpcrun.jsonline import dumps
from hpcrun.rundir import RunDir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from hpcrun.jsonline import Value

FORMAT = 1
_BLOCK = 1 << 13
_PARSE: list[Callable[[str], tuple[Any, int]]] = []
"""What parses JSON, once that was needed."""


def add(path: str, event: str, facts: Mapping[str, Value], *, durable: bool = False) -> None:
    """Add one event to the file `path`; with `durable` it is on the disk before this returns.

    The file is closed after each event, so that other nodes see it (NFS is consistent from close to open).
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        write(descriptor, event, facts)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(descriptor: int, event: str, facts: Mapping[str, Value]) -> None:
    """Write one event to an open file."""
    raw = line(event, facts).encode("ascii")
    done = os.write(descriptor, raw)
    if done < len(raw):  # a full disk takes part of a line and says so only at the next write
        os.write(descriptor, raw[done:])


def exists(path: str) -> bool:
    """Whether there is a record `path`, be it empty: then its attempt has begun."""
    return os.path.exists(path)


def line(event: str, facts: Mapping[str, Value]) -> str:
    """One event as it stands in a record."""
    return dumps({"format": FORMAT, "event": event, **facts}) + "\n"


def read(path: str) -> list[dict[str, Any]]:
    """The events in the file `path`, in order; none where there is no file."""
    if not _PARSE:
        from json import JSONDecoder  # a first attempt reads nothing, and this is as long as starting Python at all

        _PARSE.append(JSONDecoder().raw_decode)
    parse = _PARSE[0]
    found = []
    for line in _content(path).split(b"\n"):
        try:
            text = line.decode()
            event, end = parse(text) if text else (None, 0)
        except (ValueError, RecursionError):
            continue
        if end == len(text) and isinstance(event, dict) and event.get("format") == FORMAT and _is_sound(event):
            found.append(event)
    return found


def _content(path: str) -> bytes:
    # A run may have 100,000 records, and a file object costs as much as opening and reading a file.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        content = data = os.read(descriptor, _BLOCK)
        while data:
            data = os.read(descriptor, _BLOCK)
            content += data
    except IsADirectoryError:
        return b""
    finally:
        os.close(descriptor)
    return content


_NEEDED = {
    "start": ("at",),
    "ready": ("node",),
    "waiting": ("text",),
    "end": ("at", "exit_code", "signal", "cause"),
    "given_up": ("text",),
    "sending": ("at", "host", "pid", "began"),
    "intent": ("batch",),
    "submitted": ("batch", "job"),
    "refused": ("batch", "reason"),
    "task": ("at", "task", "state"),
}
"""What an event is nothing without."""


_Kind = tuple[tuple[type, ...], float]
_TIME: _Kind = ((float, int), 1e12)
_COUNT: _Kind = ((int,), float(1 << 53))
_TEXT: _Kind = ((str,), 0)
_KINDS: dict[str, _Kind] = {
    **dict.fromkeys(("at", "due"), _TIME),
    **dict.fromkeys(("shard", "attempt", "exit_code", "signal", "round", "restarts", "said"), _COUNT),
    **dict.fromkeys(("batch", "pid", "began", "try"), _COUNT),
    **dict.fromkeys(("node", "job", "text", "detail", "reason", "host", "state", "probe"), _TEXT),
    "cause": ((str, type(None)), 0),
    "gang": ((str, bool, type(None)), 0),
}
"""Which types a field may have, in whatever event it is, and for numbers what they are less than: NaN is not."""


def _is_sound(event: Mapping[str, Any]) -> bool:
    """Whether an event has all that it needs, of the right kind. One that was garbled is as good as not there."""
    name = event.get("event")
    if not isinstance(name, str):
        return False
    for field in _NEEDED.get(name, ()):
        if field not in event:
            return False
    for field, value in event.items():  # of 100,000 records, so nothing is called that need not be
        kind = _KINDS.get(field)
        if kind is not None and (type(value) not in kind[0] or (kind[1] and not -kind[1] < value < kind[1])):
            return False
    return True


def attempts(run: RunDir) -> Iterator[tuple[int, int, bool]]:
    """(shard, attempt, whether its end was told by another) of every record there is, in no order."""
    for attempt in _numbers(os.path.dirname(run.records(0))):
        for bucket in _entries(run.records(attempt)):
            for entry in _entries(bucket.path):
                shard, _, kind = entry.name.partition(".")
                if shard.isdecimal() and kind in ("jsonl", "silent"):
                    yield int(shard), attempt, kind == "silent"


def _numbers(folder: str) -> list[int]:
    return [int(entry.name) for entry in _entries(folder) if entry.name.isdecimal()]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def mark(path: str) -> None:
    """Leave the empty file `path` as a sign; it may be there already."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def stop(run: RunDir, by: str, text: str = "") -> bool:
    """Leave the word that nothing more of `run` may start; whether it was the first one.

    `by` is ``user``, ``max_failed_indexes``, ``run_timeout``, ``upstream`` or ``refused``; `text` says it to people.
    """
    return claim(run.cancelled, dumps({"by": by, "text": text}))


def stopped(run: RunDir) -> tuple[str, str] | None:
    """Who has said that nothing more of `run` may start, and what they said; None where nobody has."""
    return _stopped(run.cancelled)


def stopped_before(run: RunDir) -> tuple[str, str] | None:
    """The same of the last such word that was taken back, when shards were tried again by hand."""
    folder, name = os.path.split(run.cancelled)
    rounds = [entry.name.rpartition(".")[2] for entry in _entries(folder) if entry.name.startswith(f"{name}.")]
    last = max((int(number) for number in rounds if number.isdecimal()), default=None)
    return None if last is None else _stopped(f"{run.cancelled}.{last}")


def _stopped(path: str) -> tuple[str, str] | None:
    from json import loads

    try:
        with open(path, encoding="utf-8") as file:
            said = loads(file.read() or "{}")
        return str(said.get("by", "user")), str(said.get("text", ""))
    except FileNotFoundError:
        return None
    except (ValueError, AttributeError):
        return "user", ""


def claim(path: str, text: str) -> bool:
    """Create the file `path` with `text` in it, unless it is there: whether this call did.

    Nobody ever sees it half written, and of several at once one wins, on NFS too.
    """
    own = f"{path}.{os.getpid()}.{os.uname().nodename}"
    with open(own, "w", encoding="utf-8") as file:
        file.write(text)
    try:
        os.link(own, path)
    except FileExistsError:
        # NFS may say so of a call that it has repeated and that has succeeded (open(2), on O_EXCL).
        return os.stat(own).st_nlink == 2
    finally:
        os.unlink(own)
    return True
