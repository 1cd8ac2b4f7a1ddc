"""Where values come from: YAML files with the place of every value, ``--set`` and command line options."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from hpcrun.errors import SpecError
from hpcrun.fields import Path, Place, Source, shown


def read(path: str) -> Source:
    """The values of the YAML 1.2 file `path`, each with its line.

    YAML 1.2, so ``no`` and ``1:30`` are text, and a key that stands twice is an error.
    Raises SpecError when the file cannot be read, is no YAML, or holds no mapping.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise SpecError(f"cannot read the spec: {error.strerror}", file=path) from error
    except UnicodeDecodeError as error:
        raise SpecError("found bytes that are not UTF-8, wanted a YAML file", file=path) from error
    return parse(text, path)


def parse(text: str, path: str) -> Source:
    """The values in `text`; `path` is what errors call it."""
    from ruamel.yaml import YAML  # which a run without a file does not need
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    places: dict[Path, Place] = {(): Place(path, 1)}
    try:
        loaded = YAML(typ="rt").load(text)
        values = _plain(loaded, (), path, places)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = ", ".join(part for part in (error.context, error.problem or str(error)) if part)
        raise SpecError(f"not YAML: {problem.splitlines()[0]}", file=path, line=line) from error
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(f"not YAML: found the character {text[error.position]!r}", file=path, line=line) from error
    except RecursionError as error:
        problem = "found values nested without an end, wanted no alias inside of what it stands for"
        raise SpecError(problem, file=path) from error
    except (YAMLError, ValueError) as error:
        raise SpecError(f"not YAML: {str(error).splitlines()[0]}", file=path) from error
    if not isinstance(values, dict):
        raise SpecError(f"found {shown(values)}, wanted a mapping of fields such as `command:`", file=path)
    return Source(values, places)


def _plain(node: Any, at: Path, path: str, places: dict[Path, Place]) -> Any:
    """`node` without ruamel's types, its places noted on the way."""
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(node, CommentedMap):
        for key, (line, *_) in (node.lc.data or {}).items():
            places[(*at, key)] = Place(path, line + 1)
        return {key: _plain(value, (*at, key), path, places) for key, value in node.items()}
    if isinstance(node, CommentedSeq):
        for index, (line, *_) in (node.lc.data or {}).items():
            places[(*at, index)] = Place(path, line + 1)
        return [_plain(value, (*at, index), path, places) for index, value in enumerate(node)]
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    if node is None:
        return None
    return str(node)  # dates: text as far as a spec is concerned


def from_settings(settings: Iterable[str]) -> Source:
    """The values of ``--set NAME=VALUE`` and ``--set PATH=VALUE`` options.

    ``X=8`` gives a variable of a workflow its value, ``X=[16,32]`` its domain, of which the first becomes its value.
    ``spec.shards=4`` and ``env.A=1`` name a field by its path, ``spec.`` being the spec itself; these values are read
    as YAML. Raises SpecError for anything else.
    """
    found = Source({}, {})
    for setting in settings:
        name, equals, text = setting.partition("=")
        path = tuple(name.split("."))
        if path[0] == "spec":
            path = path[1:]
        if not equals or not path or not all(path):
            raise SpecError(f"found {setting!r}, wanted FIELD=VALUE such as env.A=1 or spec.shards=4", field="--set")
        if name == path[0]:
            found = found.under(_variable(name, text))
        else:
            found = found.under(at(path, _scalar(text), f"--set {name}"))
    return found


def _variable(name: str, text: str) -> Source:
    value = _inferred(text)
    if value == []:
        raise SpecError("found an empty list, wanted values for the variable to have", field=f"--set {name}")
    given = {"value": value[0], "domain": value} if isinstance(value, list) else {"value": value}
    places = {("variables", name, *key): Place(field=f"--set {name}") for key in ((), ("value",), ("domain",))}
    return Source({"variables": {name: given}}, places)


_WORDS = {**dict.fromkeys(("true", "yes", "on"), True), **dict.fromkeys(("false", "no", "off"), False)}


def _inferred(text: str) -> Any:
    """The value of a variable in an option, as nv-sflow reads it: JSON's lists and objects, numbers, truths, text."""
    for read in (_structure, int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return _WORDS.get(text.lower(), text)


def _structure(text: str) -> Any:
    if not text.strip().startswith(("[", "{")):
        raise ValueError
    return json.loads(text)


def _scalar(text: str) -> Any:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _plain(YAML(typ="rt").load(text), (), "--set", {}) if text else ""
    except (YAMLError, ValueError, RecursionError):
        return text


def at(path: tuple[str, ...], value: Any, field: str) -> Source:
    """A source of one value at `path`, which stands in the option `field`."""
    nested = value
    for key in reversed(path):
        nested = {key: nested}
    return Source(nested, {path[:length]: Place(field=field) for length in range(1, len(path) + 1)})


def from_options(options: Mapping[str, Any], names: Mapping[str, str]) -> Source:
    """The values of command line options by spec field; `names` says how each option is written."""
    values = {field: value for field, value in options.items() if value is not None and value != {} and value != ()}
    return Source(values, {(field,): Place(field=names[field]) for field in values})


def text(values: Mapping[str, Any]) -> str:
    """`values` as YAML that `parse` reads back."""
    from ruamel.yaml import YAML

    out = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.allow_unicode = False
    yaml.width = sys.maxsize  # folded lines are not always read back as they were
    yaml.dump(dict(values), out)
    return out.getvalue()
