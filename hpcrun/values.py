"""Values in specs and settings, as types for pydantic: text, counts, commands, environments, amounts, mounts.

Each turns what YAML or TOML made of a value into what the package works with, and says what was wanted where it cannot.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, NamedTuple

import pydantic
from pydantic import BeforeValidator, Field
from pydantic_core import core_schema

from hpcrun import quantity
from hpcrun.environ import RESERVED_NAMES, RESERVED_PREFIXES, shell_safe
from hpcrun.fields import EntryError, model_of, shown

_ENDPOINT = re.compile(r"[A-Za-z]([-_A-Za-z0-9]*[A-Za-z0-9])?")


class Model(pydantic.BaseModel):
    """A mapping of which every key is known."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, defer_build=True)


class MadeBy:
    """For a field whose model is built, and whose module loaded, when there is a value: most specs have none.

    `make` makes what a spec is to have there of what it was given; what is wrong with that is reported under the field,
    as with a model that pydantic has built into another one.
    """

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    @classmethod
    def the(cls, model: type[pydantic.BaseModel]) -> MadeBy:
        """For a model whose module is there."""
        return cls(lambda value: model_of(model, value))

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._make)


def _text(value: object) -> object:
    """Numbers where text is wanted are what YAML made of it; of true and false nobody knows which word was meant."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def _no_nul(value: str) -> str:
    if "\0" in value:
        raise ValueError(f"found a NUL byte in {shown(value)}, wanted text: no program can be given one")
    return value


Text = Annotated[str, BeforeValidator(_text), pydantic.AfterValidator(_no_nul)]
Code = Annotated[str, pydantic.AfterValidator(_no_nul)]
Count = Annotated[int, Field(strict=True, ge=1)]


def one_line(text: str) -> str:
    """`text`, which is to become part of a line of an sbatch script.

    Raises ValueError where it holds a control character.
    """
    if any(ord(char) < 32 or char == "\x7f" for char in text):
        raise ValueError(f"found a control character in {shown(text)}, wanted a single line")
    return text


Word = Annotated[str, pydantic.AfterValidator(one_line)]


def _command(value: object) -> object:
    if isinstance(value, str):
        raise ValueError(
            f"found the text {shown(value)}, wanted a list such as [python, train.py]; for shell code use `script`"
        )
    if value == []:
        raise ValueError("found an empty list, wanted a program and its arguments")
    if isinstance(value, list) and value[0] == "":
        raise ValueError("found an empty text as the program, wanted its name or path")
    return value


def _script(value: object) -> object:
    return "\n".join(value) if isinstance(value, list) and all(isinstance(line, str) for line in value) else value


def _env(value: object) -> object:
    for name, content in value.items() if isinstance(value, dict) else ():
        if isinstance(content, bool):
            raise EntryError(name, f'found {shown(content)}, wanted text; write {name}: "{shown(content)}"')
        if not isinstance(name, str) or not name or "=" in name or "\0" in name:
            raise EntryError(name, f"found the variable name {name!r}, wanted a name without = or NUL")
        if name.startswith(RESERVED_PREFIXES) or name in RESERVED_NAMES:
            raise EntryError(name, f"found {name}, which hpcrun sets itself; wanted a name without a reserved prefix")
        if len(f"{name}={content}".encode("utf-8", "surrogateescape")) > 131071:
            raise EntryError(name, "found more than 128 KiB, which Linux gives to no program; put it in a file")
    return value


def _gpus(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return str(value)
    name, _, count = str(value).rpartition(":")
    if not isinstance(value, str) or not _is_number(count) or not name.isprintable() or (":" in value and not name):
        raise ValueError(f"found {shown(value)}, wanted a number of GPUs or TYPE:NUMBER")
    return value


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def amount(read: Callable[[Any], Any]) -> BeforeValidator:
    """`read`, a function of `quantity`, for a field: a number beyond all numbers is no amount."""

    def check(value: object) -> object:
        try:
            return read(value)
        except OverflowError as error:
            raise ValueError(f"found {shown(value)}, wanted an amount that a machine may have") from error

    return BeforeValidator(check)


Command = Annotated[list[Text], BeforeValidator(_command)]
Script = Annotated[Code, BeforeValidator(_script)]
Env = Annotated[dict[str, Text], BeforeValidator(_env)]
Memory = Annotated[int, amount(quantity.memory)]
Gpus = Annotated[str, BeforeValidator(_gpus)]


def _endpoints(value: object) -> object:
    """Endpoint names to ports; ``auto`` is 0, a free port for each replica."""
    if not isinstance(value, Mapping):
        return value
    found: dict[str, int] = {}
    seen: dict[str, str] = {}
    for name, port in value.items():
        if not isinstance(name, str) or not _ENDPOINT.fullmatch(name):
            raise EntryError(name, f"found the endpoint {name!r}, wanted letters, digits and dashes, a letter first")
        key = shell_safe(name)
        if key in seen:
            raise EntryError(name, f"found `{name}` beside `{seen[key]}`: both are {key} in upper case; rename one")
        if port == "auto":
            port = 0
        elif not isinstance(port, int) or isinstance(port, bool) or not 1 <= port <= 65535:
            raise EntryError(name, f"found {shown(port)}, wanted a port from 1 to 65535, or auto")
        seen[key], found[name] = name, port
    return found


def _mounts(value: object) -> object:
    """``SOURCE[:TARGET[:ro]]`` or a mapping, as (source, target, read only)."""
    if not isinstance(value, list):
        return value
    return [_mount(entry) for entry in value]


def _mount(entry: object) -> tuple[str, str, bool]:
    if isinstance(entry, str):
        source, _, rest = entry.partition(":")
        target, _, mode = rest.partition(":")
        parts: tuple[object, object, object] = (source, target or source, mode in ("ro",))
        good = mode in ("", "ro", "rw")
    elif isinstance(entry, Mapping):
        given = {str(key).replace("_", "").lower(): content for key, content in entry.items()}
        source_ = given.pop("source", None) or _volume(given)
        target_ = given.pop("target", given.pop("mountpath", None))
        parts = (source_, target_ or source_, given.pop("readonly", False))
        good = not given
    else:
        parts, good = (None, None, False), False
    source_, target_, read_only = parts
    if not good or not isinstance(source_, str) or not isinstance(target_, str) or not isinstance(read_only, bool):
        raise ValueError(f"found {shown(entry)}, wanted SOURCE, SOURCE:TARGET or SOURCE:TARGET:ro")
    for path in (source_, target_):
        if not path.startswith("/") or set(path) & set(",:\n\0"):
            raise ValueError(f"found {shown(path)} in {shown(entry)}, wanted an absolute path without , and :")
    return source_, target_, read_only


class Signal(NamedTuple):
    """The warning before the end: a signal's number, how many seconds before, and sbatch's ``R:``."""

    number: int
    seconds: int
    reservation: bool
    """Whether the job may start where a reservation would overlap its end (MaxStartDelay)."""

    @property
    def sbatch(self) -> str:
        """The value of sbatch's ``--signal``: to the batch process alone, which passes it on."""
        return f"{'R' if self.reservation else ''}B:{_NAMES[self.number]}@{self.seconds}"


_SIGNAL = re.compile(r"(?:(B|R|RB|BR):)?(?:SIG)?([A-Z]+[0-9]?|[0-9]+)(?:@([0-9]{1,5}))?", re.IGNORECASE)
_NAMES = {10: "USR1", 12: "USR2"}
_WARN_SECONDS, _MOST_WARN_SECONDS = 60, 65535


def _signal(value: object) -> object:
    """sbatch's ``[{R|B}:]SIGNAL[@SECONDS]`` (its manual, --signal)."""
    if isinstance(value, Signal):
        return value
    match = _SIGNAL.fullmatch(str(value)) if isinstance(value, (str, int)) and not isinstance(value, bool) else None
    seconds = int(match[3] or _WARN_SECONDS) if match else 0
    if not match or not 1 <= seconds <= _MOST_WARN_SECONDS:
        raise ValueError(
            f"found {shown(value)}, wanted a signal and how many seconds before the end (1 to {_MOST_WARN_SECONDS}), "
            "such as USR2@60"
        )
    name = _NAMES.get(int(match[2]), match[2]) if match[2].isdecimal() else match[2].upper()
    if name not in _NAMES.values():
        raise ValueError(
            f"found the signal {name}, wanted USR1 or USR2: others end a program, or do not reach it everywhere"
        )
    number = next(number for number, known in _NAMES.items() if known == name)
    return Signal(number, seconds, "R" in (match[1] or "").upper())


Warned = Annotated[Signal, BeforeValidator(_signal)]
"""The warning before the end."""


def _volume(given: dict[str, object]) -> object:
    """What Sylphx or Kubernetes call a volume: here it is a folder."""
    volume = given.pop("volumeid", None) or given.pop("name", None)
    if isinstance(volume, str) and not volume.startswith("/"):
        raise ValueError(
            f"found the volume {shown(volume)}, wanted the absolute path of a folder that the nodes see: a cluster has "
            "no volumes"
        )
    return volume


Mounts = Annotated[list[tuple[str, str, bool]], BeforeValidator(_mounts)]
"""(source, target, read only) of each folder that a container sees."""
Endpoints = Annotated[dict[str, int], BeforeValidator(_endpoints)]
"""Port by name; 0 (``auto``) is a free one for each replica."""
