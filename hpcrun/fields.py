"""Mappings that people wrote, made ready for a model: spellings, unknown keys, places, and one clear error.

A `Source` is a nested mapping together with where each of its values stands. `canonical` turns the spellings that a
table allows into one; `validated` makes a pydantic model of it and turns what pydantic finds into a `SpecError`.
"""

from __future__ import annotations

import dataclasses
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from hpcrun.errors import SpecError

Path = tuple[str | int, ...]
Model = TypeVar("Model", bound=pydantic.BaseModel)

_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


class EntryError(ValueError):
    """What is wrong with the entry `key` of a mapping; raised by validators of the whole mapping."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(problem)
        self.key = key


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a value was written: a line of a file, or a command line option (`file` empty)."""

    file: str = ""
    line: int | None = None
    field: str = ""
    """How the field is called there, if not by its path."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Values, and the places of the ones whose place is known, by path."""

    values: dict[str, Any]
    places: dict[Path, Place]
    prefix: Path = ()
    """Where these values stand in the whole, for errors."""

    def place(self, path: Path) -> Place:
        """The place of the value at `path`, or of the nearest one around it."""
        return self.places.get(self._placed(path), Place())

    def _placed(self, path: Path) -> Path:
        while path and path not in self.places:
            path = path[:-1]
        return path

    def error(self, path: Path, problem: str) -> SpecError:
        """The error that says `problem` about the value at `path`."""
        place = self.place(path)
        below = path[len(self._placed(path)) :] if place.file else ()  # an option is called by its name alone
        field = dotted((place.field, *below)) if place.field else dotted((*self.prefix, *path))
        return SpecError(problem, file=place.file, line=place.line, field=field)

    def under(self, other: Source) -> Source:
        """This source with `other` laid over it; mappings are merged, all else is replaced."""
        return Source(_merged(self.values, other.values), {**self.places, **other.places}, self.prefix)

    def without(self, key: str) -> Source:
        """This source without what stands at `key`."""
        places = {path: place for path, place in self.places.items() if path[:1] != (key,)}
        return Source({name: value for name, value in self.values.items() if name != key}, places, self.prefix)

    def inner(self, *path: str | int) -> Source:
        """The mapping at `path` as a source of its own."""
        found: Any = self.values
        for key in path:
            found = found[key]
        places = {at[len(path) :]: place for at, place in self.places.items() if at[: len(path)] == path}
        around = self.place(path)
        places = places if around == Place() else {(): around, **places}
        return Source(dict(found), places, (*self.prefix, *path))

    def path(self, field: str) -> Path:
        """The path that `dotted` wrote as `field`; keys of this source may hold dots and brackets themselves."""
        found: list[str | int] = []
        value: Any = self.values
        keys: Iterable[Any]
        rest = f".{field}"
        while isinstance(value, (dict, list)):
            keys = value if isinstance(value, dict) else range(len(value))
            begun = [key for key in keys if re.match(re.escape(_step(key)) + r"([.[]|$)", rest)]
            if not begun:
                break
            key = max(begun, key=lambda one: len(_step(one)))
            found.append(key)
            value, rest = value[key], rest[len(_step(key)) :]
        return (*found, *filter(None, rest.split(".")))

    def mapped(self, make: Callable[[Source], Source]) -> Source:
        """This source, of mappings by name, with each of them replaced by what `make` makes of it."""
        inner: dict[str | int, dict[Path, Place]] = {key: {} for key in self.values}
        for path, place in self.places.items():
            if path and path[0] in inner:
                inner[path[0]][path[1:]] = place
        values, places = {}, {path: place for path, place in self.places.items() if len(path) < 2}
        for key, value in self.values.items():
            around = self.place((key,))
            within = inner[key] if around == Place() else {(): around, **inner[key]}
            made = make(Source(dict(value), within, (*self.prefix, key)))
            values[key] = made.values
            places.update({(key, *path): place for path, place in made.places.items()})
        return Source(values, places, self.prefix)

    def replaced(self, key: str, by: Source) -> Source:
        """This source with the mapping at `key` replaced by `by`."""
        places = {path: place for path, place in self.places.items() if path[:1] != (key,) or path == (key,)}
        return Source(
            {**self.values, key: by.values}, places | {(key, *path): p for path, p in by.places.items()}, self.prefix
        )


def placed(path: tuple[str, ...], value: Any, place: Place, field: str) -> Source:
    """A source of one value at `path`, which stands at `place`, where it is called `field` if that does not tell."""
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    return Source(nested, {path: dataclasses.replace(place, field=place.field or field)})


def dotted(path: Path) -> str:
    """A path as people read it: ``env.A``, ``command[0]``."""
    return "".join(map(_step, path)).removeprefix(".")


def _step(part: str | int) -> str:
    return f"[{part}]" if isinstance(part, int) else f".{_printable(part)}"


def _printable(part: str) -> str:
    """`part` without what a terminal would obey: some files are written by others."""
    return part if part.isprintable() else repr(part)[1:-1]


def _merged(low: Mapping[str, Any], high: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(low)
    for key, value in high.items():
        below = found.get(key)
        found[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return found


def snake(key: str) -> str:
    """``timeoutSeconds`` and ``timeout-seconds`` as ``timeout_seconds``."""
    return _HUMP.sub("_", key).replace("-", "_").lower()


def suggestion(found: str, known: list[str]) -> str:
    """`` Did you mean `x`?`` for the nearest of `known`, or nothing."""
    import difflib  # of use to mistakes alone

    near = difflib.get_close_matches(found, known, n=1, cutoff=0.6)
    return f" Did you mean `{near[0]}`?" if near else ""


def canonical(source: Source, known: list[str], spellings: Mapping[str, str], absent: Mapping[str, str]) -> Source:
    """`source` with every top-level key in its one spelling.

    `spellings` maps other names to those of `known`; `absent` maps names that are refused to the reason.
    Raises SpecError for a key that is unknown, refused, or given twice under two names.
    """
    values: dict[str, Any] = {}
    spelled: dict[str, str] = {}
    places = dict(source.places)
    for key, value in source.values.items():
        if not isinstance(key, str):
            raise source.error((key,), f"found the key {key!r}, wanted a name")
        name = spellings.get(snake(key), snake(key))
        if name in absent:
            raise source.error((key,), absent[name])
        if name not in known:
            raise source.error((key,), f"found an unknown key.{suggestion(name, known) or all_of(known)}")
        if name in values:
            raise source.error(
                (key,), f"found `{key}` beside `{spelled[name]}`, which says the same; wanted one of them"
            )
        values[name], spelled[name] = value, key
        for path, place in source.places.items():
            if path[:1] == (key,):  # errors call the field what its author called it
                field = place.field or (dotted((*source.prefix, *path)) if key != name else "")
                places[(name, *path[1:])] = dataclasses.replace(place, field=field)
    return Source(values, places, source.prefix)


def by_name(source: Source, key: str, bare: str | None = None) -> Source:
    """`source` with what stands at `key` as a mapping by name, where it is a list of mappings with `name`.

    An entry of the mapping that is none itself becomes ``{bare: ENTRY}``, where `bare` is given.
    Raises SpecError for anything else, and for a name that stands there twice.
    """
    given = source.values[key]
    if isinstance(given, list):
        return _named(source, key)
    if not isinstance(given, dict):
        raise source.error((key,), f"found {shown(given)}, wanted a mapping by name, or a list of mappings with `name`")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise source.error((key, name), f"found the name {name!r}, wanted text (put it in quotes)")
        if not isinstance(value, dict) and bare is None:
            raise source.error((key, name), f"found {shown(value)}, wanted a mapping")
        if isinstance(value, dict) and value.get("name", name) != name:
            raise source.error((key, name, "name"), f"found another name, {shown(value['name'])}, for {name!r}")
        entry = value if isinstance(value, dict) else {bare: value}
        found[name] = {at: one for at, one in entry.items() if at != "name"}
    return Source({**source.values, key: found}, source.places, source.prefix)


def _named(source: Source, key: str) -> Source:
    found: dict[str, Any] = {}
    places = {path: place for path, place in source.places.items() if path[:1] != (key,) or path == (key,)}
    for index, value in enumerate(source.values[key]):
        if not isinstance(value, dict) or value.get("name") in (None, ""):
            raise source.error((key, index), f"found {shown(value)}, wanted a mapping with `name`")
        name = str(value["name"])
        if name in found:
            raise source.error((key, index, "name"), f"found {name!r} a second time, wanted names that differ")
        found[name] = {at: one for at, one in value.items() if at != "name"}
        for path, place in source.inner(key, index).places.items():
            places[(key, name, *path)] = place
    return Source({**source.values, key: found}, places, source.prefix)


def all_of(known: list[str]) -> str:
    """`` Wanted one of: …`` with all of `known`."""
    return " Wanted one of: " + ", ".join(sorted(known))


_BUILDING = threading.Lock()


def model_of(model: type[Model], values: Any) -> Model:
    """The model of `values`, its validators built when they are first needed. Raises pydantic's ValidationError."""
    if not model.__pydantic_complete__:
        with _BUILDING:  # pydantic's own building takes back what another thread has built
            model.model_rebuild()
    return model.model_validate(values)


def validated(model: type[Model], source: Source) -> Model:
    """The model that `source` describes.

    Raises SpecError for the first thing that is wrong, with its place.
    """
    try:
        return model_of(model, source.values)
    except pydantic.ValidationError as error:
        first, *others = error.errors()
        path = tuple(part for part in first["loc"] if not str(part).startswith("function-"))
        cause = first.get("ctx", {}).get("error")
        path += (cause.key,) if isinstance(cause, EntryError) else ()
        more = f" ({len(others)} more after this one)" if others else ""
        if first["type"] == "missing" and not source.place(path).file:  # no option gave what is missing
            raise SpecError(_problem(first) + more, field=dotted((*source.prefix, *path))) from error
        raise source.error(path, _problem(first) + more) from error


_WANTED = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text (put it in quotes)",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping of names to values",
    "model_type": "a mapping of names to values",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "float_type": "a number",
    "float_parsing": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "too_short": "{min_length} or more of them",
}


def _problem(error: Any) -> str:
    kind, context = error["type"], error.get("ctx", {})
    if kind == "value_error":
        return str(context["error"])
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "found an unknown key"
    wanted = _WANTED.get(kind)
    found = shown(error["input"])
    return f"found {found}, wanted {wanted.format(**context)}" if wanted else f"found {found}: {error['msg']}"


def shown(value: object) -> str:
    """A value as a message quotes it, cut to a readable length."""
    text = "nothing" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else text[:77] + "…"
