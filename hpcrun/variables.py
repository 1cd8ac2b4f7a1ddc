"""The variables of a workflow: values cast to their types, checked against their domains, evaluated when asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from hpcrun.expressions import ExpressionError, Later, Names, Scope, TooEarly
from hpcrun.fields import Source, shown, validated
from hpcrun.workflow import Variable

UNNAMED = "workflow"
"""What a workflow without a name is called."""
_WORDS = {
    **dict.fromkeys(("true", "1", "yes", "y", "on"), True),
    **dict.fromkeys(("false", "0", "no", "n", "off"), False),
}
"""nv-sflow's texts that are booleans."""


def of_run(found: Source) -> Variables:
    """The variables of the run `found`, of which each is known to have a value, or to have one later.

    Raises SpecError for one that has none.
    """
    names = found.values.get("variables", {})
    given = {name: validated(Variable, found.inner("variables", name)) for name in names}
    contexts: dict[str, Any] = {"backends": Unplaced("backends"), "task": Unplaced("task")}
    variables = Variables(given, contexts)
    section = found.values["workflow"]
    title = section.get("name") if isinstance(section, dict) else None
    contexts["workflow"] = Names("fact of the workflow", _Title(title or found.values.get("name"), variables))
    for name in variables:
        try:
            variables[name]
        except TooEarly:
            continue
        except ExpressionError as error:
            raise found.error(("variables", name, "value"), str(error)) from error
    return variables


class Variables(Mapping[str, Any]):
    """The value of each variable by name; one that holds expressions is evaluated when it is asked for.

    `over` are values that hold instead of the variables' own: those of a replica. Asking for a value raises
    ExpressionError for an expression without one, a value of another type, or one that is not in its domain.
    """

    def __init__(
        self, given: Mapping[str, Variable], contexts: Mapping[str, Any], over: Mapping[str, Any] | None = None
    ) -> None:
        self._given = given
        self._known = dict(over or {})
        self._asked: list[str] = []
        self.scope = Scope(self, _Domains(self), contexts)

    def __getitem__(self, name: str) -> Any:
        if name not in self._known:
            self._known[name] = self._evaluated(name, self._given[name])
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._given)

    def __len__(self) -> int:
        return len(self._given)

    def _evaluated(self, name: str, variable: Variable) -> Any:
        if name in self._asked:
            chain = [*self._asked[self._asked.index(name) :], name]
            raise ExpressionError(f"found variables that need each other: {' needs '.join(chain)}")
        self._asked.append(name)
        try:
            value = _cast(evaluated(variable.value, self.scope), variable.type)
        finally:
            self._asked.pop()
        if variable.domain is not None and not isinstance(value, Later):
            domain = self.domain(name)
            if value not in domain:
                raise ExpressionError(f"found {shown(value)}, which is not in its domain {shown(domain)}")
        return value

    def domain(self, name: str) -> list[Any]:
        """What the variable `name` may be; nothing where it does not say. Raises ExpressionError."""
        variable = self._given[name]
        return [_cast(evaluated(value, self.scope), variable.type) for value in variable.domain or ()]


class _Domains(Mapping[str, list[Any]]):
    def __init__(self, of: Variables) -> None:
        self._of = of

    def __getitem__(self, name: str) -> list[Any]:
        return self._of.domain(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


class _Title(Mapping[str, str]):
    """The name of a workflow, which may ask for variables, that may ask for it."""

    def __init__(self, given: object, variables: Variables) -> None:
        self._text = UNNAMED if given is None else str(given)
        self._variables = variables

    def __getitem__(self, key: str) -> str:
        return {"name": self._variables.scope.text}[key](self._text)

    def __iter__(self) -> Iterator[str]:
        return iter(("name",))

    def __len__(self) -> int:
        return 1


class Unplaced(Names):
    """A context that is not there yet."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name, {})

    def __getattr__(self, name: str) -> Any:
        raise TooEarly(
            f"found `{self._what}.{name}`, which is known when tasks have their nodes; wanted it in a script, an "
            "environment or a probe, or in a variable that only these use"
        )

    __getitem__ = __getattr__


def evaluated(value: Any, scope: Scope) -> Any:
    """`value` with every expression in it replaced by what it stands for. Raises ExpressionError."""
    if isinstance(value, str):
        return scope.value(value)
    if isinstance(value, list):
        return [evaluated(one, scope) for one in value]
    if isinstance(value, dict):
        return {key: evaluated(one, scope) for key, one in value.items()}
    return value


def resolved(source: Source, fields: Iterable[str], scope: Scope) -> Source:
    """`source` with the expressions in these of its fields evaluated, as far as they are there. Raises SpecError."""
    found = dict(source.values)
    for field in fields:
        try:
            if field in found:
                found[field] = evaluated(found[field], scope)
        except ExpressionError as error:
            raise source.error((field,), str(error)) from error
    return Source(found, source.places, source.prefix)


def _cast(value: Any, kind: str | None) -> Any:
    """`value` as the type that the variable names; as it is where it names none."""
    if kind is None or isinstance(value, Later):
        return value
    try:
        return _CASTS[kind](value)
    except (ValueError, TypeError, KeyError) as error:
        raise ExpressionError(f"found {shown(value)}, wanted a value of type {kind}") from error


def _integer(value: Any) -> int:
    if isinstance(value, (bool, float)):
        raise ValueError
    return int(value)


def _float(value: Any) -> float:
    if isinstance(value, bool):
        raise ValueError
    return float(value)


def _boolean(value: Any) -> bool:
    return _WORDS[value.strip().lower()] if isinstance(value, str) else bool(value)


def _made(kind: type[Any]) -> Any:
    def cast(value: Any) -> Any:
        found = json.loads(value) if isinstance(value, str) else value
        if not isinstance(found, kind):
            raise ValueError
        return found

    return cast


_CASTS = {
    "string": str, "integer": _integer, "float": _float, "boolean": _boolean, "list": _made(list), "dict": _made(dict),
}  # fmt: skip
