"""Indexes of an array, paths of a job's output and of its script, by sbatch's rules."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass

from hpcrun.indexes import MAX_INDEXES

NO_TASK = 4_294_967_294
"""What ``%a`` becomes in a job that is no array: Slurm's NO_VAL."""

_WIDEST = 10
_NUMBER = r"[ \t\n\v\f\r]*[+-]?[0-9]+|"
_RANGE = re.compile(rf"\[?({_NUMBER})\]?(?:-({_NUMBER})\]?(?::({_NUMBER})\]?)?)?(?:%.*)?", re.DOTALL)
_FIELD = re.compile(r"%(?:%|([0-9]*)([AaJjNnstuxbr]))")


@dataclass(frozen=True)
class Array:
    """An array: its indexes in ascending order, and how many run at once (None: all)."""

    ids: tuple[int, ...]
    throttle: int | None
    text: str


def array(text: str) -> Array | None:
    """The array of ``--array``: ``0-9``, ``1-100:2%5``, ``3,7,11-13%2``; None for what Slurm refuses.

    The rule is slurmctld's (slurm_parse_array_tok): brackets and empty parts do no harm, what is behind the first
    ``%`` is the throttle, and one that is no positive number is none. MaxArraySize is not looked at.
    """
    ids: set[int] = set()
    for part in filter(None, text.split(",")):
        found = _range(part)
        if not found:
            return None
        ids.update(found)
    throttle = re.match(_NUMBER, text.partition("%")[2])
    limit = int(throttle[0]) if throttle and throttle[0] else 0
    return Array(tuple(sorted(ids)), limit if limit > 0 else None, text) if ids else None


def _range(part: str) -> range | None:
    match = _RANGE.fullmatch(part)
    if not match:
        return None
    # strtol(3) takes no digits for 0.
    first, last, step = (int(number or 0) if number is not None else None for number in match.groups())
    assert first is not None
    last = first if last is None else last
    step = 1 if step is None else step
    return range(first, last + 1, step) if 0 <= first <= last < MAX_INDEXES and step > 0 else None


def output_path(
    pattern: str,
    *,
    job: int | str,
    name: str,
    user: str,
    node: str,
    cwd: str,
    array_job: int | str | None = None,
    task: int | None = None,
    restarts: int | None = None,
) -> str:
    """The path of a batch job's output: sbatch's FILENAME PATTERN, as slurmstepd fills it in.

    `cwd` is the job's folder, which the pattern is relative to; it is filled in too. `array_job` and `task` are of
    an array's element. `restarts` is for ``%r``, which Slurm knows since 25.11; None leaves it as it is, as an unknown
    field is left. ``%b`` is filled in as 24.11 and later do. A backslash anywhere leaves everything as it is, but for
    the backslashes (26.05 takes away doubled ones, too, and a ``%`` at the very end).
    """
    path = pattern if pattern.startswith("/") else f"{cwd}/{pattern}"
    if "\\" in path:
        return re.sub(r"\\(\\?)", r"\1", path)
    index = NO_TASK if task is None else task
    values: dict[str, int | str] = {
        "A": job if array_job is None else array_job, "a": index, "b": index % 10, "J": job, "j": job, "N": node,
        "n": 0, "s": "batch", "t": 0, "u": user, "x": name,
    }  # fmt: skip
    if restarts is not None:
        values["r"] = restarts

    def filled(match: re.Match[str]) -> str:
        width, letter = match.groups()
        if letter is None:
            return "%"
        if letter not in values:
            return match[0]
        value = str(values[letter])
        return value.zfill(min(int(width or 0), _WIDEST)) if letter not in "Nsux" else value

    return _FIELD.sub(filled, path)


def _is_file(path: str) -> bool:
    return os.path.exists(path) and not os.path.isdir(path)


def find_script(
    word: str, cwd: str, path: str, *, chdir: str | None = None, is_file: Callable[[str], bool] = _is_file
) -> str | None:
    """Where sbatch finds a script: in the folder of ``--chdir``, along `path` (the variable PATH), then in `cwd`.

    A `word` that begins with ``.`` or ``/`` is looked for nowhere else. `chdir` is the last of the command line, not
    the script's. None where there is no such file: sbatch then says ``Unable to open file``. The path may be relative
    to `cwd`, as sbatch's own is.
    """
    if not word.startswith(("/", ".")):
        folder = os.path.join(cwd, chdir or "").rstrip("/")
        for place in [folder, *filter(None, path.split(":"))]:
            found = f"{folder}/{place}/{word}" if place.startswith(".") else f"{place}/{word}"
            if is_file(os.path.join(cwd, found)):
                return found
    return word if is_file(os.path.join(cwd, word)) else None
