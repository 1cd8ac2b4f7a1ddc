"""What sbatch reads of a script: its ``#SBATCH`` lines, and those of LSF and PBS Pro that it translates.

The rules are those of sbatch's source (src/sbatch/opt.c and xlate.c, the same from 22.05 to 26.05 but for a space
behind a backslash, which ends a word on 22.05): lines of options end at the first line that is neither blank nor a
comment, those of other systems are looked for further down.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from hpcrun.sbatch_words import NO, OPTIONAL, REQUIRED, Option, Piece, Table, Version, read, table

_SPACE = " \t\v\f\r"
_MAGIC = ("#SBATCH", "#SLURM")
_BURST_BUFFER = ("#BB", "#DW")
_SEPARATOR = re.compile(rf"(hetjob|packjob)([{_SPACE}]|$)", re.IGNORECASE)
_ARGUMENT = re.compile(rf"""(?:\\[^\t\v\f\r]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|[^{_SPACE}\\"'#])+""")
_PIECE = re.compile(r"""\\(.)|"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|([^\\"'])""")
_LINES_OF_CODE = 100


@dataclass(frozen=True)
class Header:
    """What a script tells sbatch."""

    options: tuple[Option, ...] = ()
    """Of the ``#SBATCH`` lines, in order, each with its component."""
    translated: tuple[Option, ...] = ()
    """Of ``#BSUB`` or else ``#PBS`` lines, as options of sbatch's; they rank over `options`, in every component.

    Resources (``#PBS -l``) are left to sbatch. With ``--ignore-pbs`` anywhere they do not count.
    """
    components: int = 1
    lines: tuple[str, ...] = ()
    """The lines that sbatch and Slurm's burst buffers read, as they are: the header of a script in its stead."""
    problems: tuple[str, ...] = ()
    """What sbatch itself says when it refuses such a script, without its ``sbatch: error:``."""


class _Refused(Exception):
    """sbatch ends at such a line."""


def header(text: str, version: Version | None = None) -> Header:
    """What sbatch reads of a script's text; without a version the options of all are known."""
    problems = _unfit(text)
    if problems:
        return Header(problems=problems)
    known = table(version)
    lines = text.split("\n")
    marked = [(number, line) for number, line in enumerate(_comments(lines), 1) if line.startswith(_MAGIC)]
    try:
        components = _components(marked)
        options = _options(components, known)
        magic, foreign = _foreign(lines)
        translated = _TRANSLATE[magic](foreign) if magic else []
    except _Refused as refused:
        return Header(lines=tuple(line for _, line in marked), problems=(str(refused),))
    kept = [line for line in _comments(lines) if line.startswith((*_MAGIC, *_BURST_BUFFER))]
    kept += [line for line in lines if magic and line.startswith(magic)]
    return Header(tuple(options), tuple(translated), len(components), tuple(kept))


def _unfit(text: str) -> tuple[str, ...]:
    """sbatch's words for a text that is no batch script (_get_script_buffer of src/sbatch/sbatch.c)."""
    if not text:
        return ("Batch script is empty!",)
    if not text.partition("\0")[0].strip(_SPACE + "\n"):
        return ("Batch script contains only whitespace!",)
    if not text.startswith("#!"):
        return (
            "This does not look like a batch script.  The first",
            "line must start with #! followed by the path to an interpreter.",
            "For instance: #!/bin/sh",
        )
    if "\0" in text:
        return ("The Slurm controller does not allow scripts that", "contain a NULL character '\\0'.")
    if "\r\n" in text:
        return ("Batch script contains DOS line breaks (\\r\\n)", "instead of expected UNIX line breaks (\\n).")
    return ()


def _comments(lines: Iterable[str]) -> Iterable[str]:
    """The blank lines and comments that a script begins with."""
    for line in lines:
        if line.strip(_SPACE) and not line.lstrip(_SPACE).startswith("#"):
            return
        yield line


def _components(marked: Iterable[tuple[int, str]]) -> list[list[str]]:
    """The words of each component of a job; the rest of a line behind ``hetjob`` is lost."""
    components: list[list[str]] = [[]]
    for number, line in marked:
        rest = line[len(next(magic for magic in _MAGIC if line.startswith(magic))) :].lstrip(_SPACE)
        if _SEPARATOR.match(rest):
            components.append([])
        components[-1] += _arguments(rest, number)
    return components


def _arguments(line: str, number: int) -> list[str]:
    """The words of a line: quotes and backslashes as sbatch understands them, which is not quite as a shell does."""
    found = []
    left = line
    while (rest := left.lstrip(_SPACE)) and not _SEPARATOR.match(rest):
        if rest.startswith(":"):
            raise _Refused(f"line {number}: Unexpected `:` in [{left}]")
        match = _ARGUMENT.match(rest)
        behind = rest[match.end() :] if match else rest
        if behind[:1] in ("'", '"'):
            raise _Refused(f"line {number}: Unmatched `{behind[0]}` in [{left}]")
        word = "".join(map(_unquoted, _PIECE.finditer(match[0]))) if match else ""
        if not word:
            break  # sbatch takes an empty word for the end of the line
        found.append(word)
        left = behind.removeprefix("\\")
    return found


def _unquoted(piece: re.Match[str]) -> str:
    escaped, double, single, plain = piece.groups()
    return escaped or plain or re.sub(r"\\(.)", r"\1", double or single or "")


def _options(components: Sequence[Sequence[str]], known: Table) -> list[Option]:
    found: list[Option] = []
    for component, words in enumerate(components):
        pieces, rest = read(words, known, component)
        while rest and pieces and _may_take(pieces[-1], known):
            # A plug-in's option: in a script nothing but its value can follow it.
            last = pieces.pop()
            found += _of(pieces)
            found.append(Option(last.options[0].name, rest[0], (*last.words, rest.pop(0)), component))
            pieces, rest = read(rest, known, component)
        if rest:
            raise _Refused(f"Invalid directive found in batch script: {rest[0]}")
        found += _of(pieces)
    return found


def _of(pieces: Iterable[Piece]) -> list[Option]:
    return [option for piece in pieces for option in piece.options]


def _may_take(piece: Piece, known: Table) -> bool:
    unknown = piece.words[0].startswith("--") and [option for option in piece.options if option.name not in known.takes]
    return bool(unknown) and "=" not in piece.words[0]


def _foreign(lines: Sequence[str]) -> tuple[str, list[str]]:
    """The first system whose lines there are, and the words of these."""
    for magic in _TRANSLATE:
        found, code = [], 0
        for number, line in enumerate(lines, 1):
            if line.startswith(magic):
                found.append(_arguments(line[len(magic) :], number))
            elif not line.startswith("#"):
                code += 1
            if code > _LINES_OF_CODE:
                break
        if found:
            return magic, [word for words in found for word in words]
    return "", []


_LSF = Table(
    dict.fromkeys(
        ["cwd", "error_file", "job_name", "hostname", "memory_limit", "n", "output_file", "queue_name", "time"],
        REQUIRED,
    ) | {"exclusive": NO},
    {
        "c": "cwd", "e": "error_file", "J": "job_name", "m": "hostname", "M": "memory_limit", "o": "output_file",
        "q": "queue_name", "W": "time", "x": "exclusive",
    },
)  # fmt: skip
_OF_LSF = {
    "cwd": "chdir", "error_file": "error", "job_name": "job-name", "output_file": "output",
    "queue_name": "partition", "time": "time",
}  # fmt: skip

_PBS = Table(
    dict.fromkeys(
        [
            "start_time", "account", "checkpoint", "working_dir", "d", "error", "job_array", "keep", "resource_list",
            "mail_options", "mail_user_list", "job_name", "out", "priority", "destination", "rerunable",
            "script_path", "array", "running_user", "variable_list", "attributes", "w",
        ],
        REQUIRED,
    ) | {"hold": NO, "interactive": NO, "join": OPTIONAL, "all_env": NO, "no_std": NO},
    {
        "a": "start_time", "A": "account", "c": "checkpoint", "C": "working_dir", "e": "error", "h": "hold",
        "I": "interactive", "J": "job_array", "k": "keep", "l": "resource_list", "m": "mail_options",
        "M": "mail_user_list", "N": "job_name", "o": "out", "p": "priority", "q": "destination", "r": "rerunable",
        "S": "script_path", "t": "array", "u": "running_user", "v": "variable_list", "V": "all_env",
        "W": "attributes", "z": "no_std",
    },
)  # fmt: skip
_OF_PBS = {
    "start_time": "begin", "account": "account", "error": "error", "out": "output", "w": "chdir", "d": "chdir",
    "hold": "hold", "job_array": "array", "array": "array", "mail_user_list": "mail-user", "job_name": "job-name",
    "priority": "nice", "destination": "partition",
}  # fmt: skip


def _lsf(words: Sequence[str]) -> list[Option]:
    # Every second word is an option's: where sbatch looks for -cwd, which getopt would take for -c.
    spelled = ["-c" if word == "-cwd" and not at % 2 else word for at, word in enumerate(words)]
    return _translated(spelled, _LSF, _OF_LSF)


def _pbs(words: Sequence[str]) -> list[Option]:
    # PBS Pro's "-j oe" takes a value, which sbatch's table has as required in its letter, optional in its name.
    letters = Table({**_PBS.takes, "j": REQUIRED}, _PBS.letters)
    return _translated(words, letters, _OF_PBS)


def _translated(words: Sequence[str], known: Table, names: dict[str, str]) -> list[Option]:
    pieces, rest = read(words, known)
    if rest:
        raise _Refused(f"Invalid argument: {rest[0]}")
    given = _of(pieces)
    return [Option(names[option.name], option.value, option.words) for option in given if option.name in names]


_TRANSLATE = {"#BSUB": _lsf, "#PBS": _pbs}
