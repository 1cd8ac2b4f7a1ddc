"""The fields of a spec with their expressions evaluated, and errors that say which field it was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpcrun.errors import SpecError
from hpcrun.expressions import OPEN, ExpressionError, Scope, TooEarly, text_of
from hpcrun.fields import Path, Source, validated
from hpcrun.values import Env, Model
from hpcrun.variables import Variables
from hpcrun.workflow import Task

_TEXTS = ("script", "command", "args", "env", "working_dir", "image", "mounts")
_PROBE_TEXTS = ("port", "host", "url", "headers", "body", "regex_pattern", "match_pattern", "command")


class At:
    """Makes the ExpressionErrors of its block errors about a field of the spec."""

    def __init__(self, field: str) -> None:
        self.field = field

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ExpressionError):
            raise SpecError(str(error), field=self.field) from error


def task_of(source: Source, scope: Scope, *, placed: bool = False) -> tuple[Task, bool]:
    """The task that `source` describes, and whether all of it is evaluated.

    Unless it is `placed`, texts that ask for nodes stay as they are. Raises SpecError.
    """
    values = {key: _resolved(value, (key,), source, scope, placed) for key, value in source.values.items()}
    return validated(Task, Source(values, source.places, source.prefix)), not has_expressions(values)


def _resolved(value: Any, path: Path, source: Source, scope: Scope, placed: bool) -> Any:
    if isinstance(value, dict):
        return {key: _resolved(one, (*path, key), source, scope, placed) for key, one in value.items()}
    if isinstance(value, list):
        return [_resolved(one, (*path, index), source, scope, placed) for index, one in enumerate(value)]
    if not isinstance(value, str) or OPEN not in value:
        return value
    is_text = _is_text(path)
    try:
        return scope.text(value) if is_text else scope.value(value)
    except TooEarly as error:
        if is_text and not placed:
            return value
        raise source.error(path, str(error)) from error
    except ExpressionError as error:
        raise source.error(path, str(error)) from error


def _is_text(path: Path) -> bool:
    """Whether the value at `path` of a task is text for whoever gets it, and not read by hpcrun."""
    if path[0] == "codespec":
        return len(path) > 1 and path[1] in _TEXTS
    return path[0] in _TEXTS or (path[0] == "probes" and len(path) > 4 and path[4] in _PROBE_TEXTS)


class _Environment(Model):
    variables: Env


def environment(variables: Variables) -> dict[str, str]:
    """The variables as a program is given them, but those that it is too early for. Raises SpecError."""
    found = {}
    for name in variables:
        with At(f"variables.{name}.value"):
            try:
                found[name] = text_of(variables[name])
            except TooEarly:
                continue
    return validated(_Environment, Source({"variables": found}, {})).variables


def texts_of(env: Mapping[str, str], scope: Scope) -> dict[str, str]:
    """The run's environment `env`, its expressions evaluated. Raises SpecError."""
    found = {}
    for name, value in env.items():
        with At(f"env.{name}"):
            found[name] = scope.text(value)
    return found


def has_expressions(value: Any) -> bool:
    """Whether there is one anywhere in `value`."""
    if isinstance(value, dict):
        return any(map(has_expressions, value.values()))
    if isinstance(value, list):
        return any(map(has_expressions, value))
    return isinstance(value, str) and OPEN in value
