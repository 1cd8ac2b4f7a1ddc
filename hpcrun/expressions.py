"""Expressions ``${{ … }}`` in texts: Jinja2's, in its sandbox, strict about what is not there. Pure.

Blocks and comments of Jinja2 are off, for shell code is full of ``{%`` and ``{#``. What is known in the allocation only
is a `Later`: it can be put into text, and anything else with it is an error.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NoReturn

import jinja2
from jinja2 import filters, meta, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing

from hpcrun.fields import shown, suggestion

OPEN = "${{"
_EACH = re.compile(r"\$\{\{.+?\}\}", re.DOTALL)
_NEVER = "\ue0f2{}\ue0f2"
"""Delimiters that no text has."""


class ExpressionError(ValueError):
    """An expression that has no value, with the reason."""


class TooEarly(ExpressionError):
    """An expression that has a value only when tasks have their nodes."""


class _Refused(ExpressionError):
    """Why an expression has no value; `Scope` says which one."""


class Later:
    """A text with marks (`later.mark`) in it, which can become part of longer texts and nothing else."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __add__(self, other: object) -> Later:
        return Later(self._text + text_of(other)) if isinstance(other, (str, Later)) else self._refuse()

    def __radd__(self, other: object) -> Later:
        return Later(f"{other}{self._text}") if isinstance(other, str) else self._refuse()

    def _refuse(self, *_: object) -> NoReturn:
        raise _Refused(
            "the name or address of a node, which is known in the allocation only, can be put into text, joined and "
            "concatenated (~, +), and nothing else"
        )

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self._refuse()


for _name in (
    "repr", "str", "format", "bool", "len", "iter", "getitem", "contains", "hash", "int", "float",
    "eq", "ne", "lt", "le", "gt", "ge", "mul", "rmul", "mod", "rmod",
):  # fmt: skip
    setattr(Later, f"__{_name}__", Later._refuse)


def joined(parts: Iterable[object]) -> Any:
    """The texts of `parts` in one: a `Later` where one of them is."""
    found = list(parts)
    text = "".join(text_of(part) for part in found)
    return Later(text) if any(isinstance(part, Later) for part in found) else text


def text_of(value: object) -> str:
    """`value` as text, which is str's for all but a `Later`."""
    return value._text if isinstance(value, Later) else str(value)


class Names:
    """Values by name, looked up when an expression asks for one: ``variables.X``, also ``variables["X"]``."""

    __slots__ = ("_found", "_what")

    def __init__(self, what: str, found: Mapping[str, Any]) -> None:
        self._what = what
        self._found = found

    def __getattr__(self, name: str) -> Any:
        if name in self._found and not name.startswith("__"):
            return self._found[name]
        if name == "get":
            return self._found.get
        raise AttributeError(name)

    def __getitem__(self, name: str) -> Any:
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __repr__(self) -> str:
        raise _Refused(f"wanted one {self._what} of it, such as `.{next(iter(self._found), 'NAME')}`")


class _Undefined(jinja2.StrictUndefined):
    """What is not there; whatever is done with it is an error that says what is."""

    __slots__ = ()

    @property
    def _undefined_message(self) -> str:
        around, name = self._undefined_obj, str(self._undefined_name)
        if self._undefined_hint:
            return self._undefined_hint
        if isinstance(around, Names):
            known = list(around)
            return f"there is no {around._what} {name!r}.{suggestion(name, known) or _there(known)}"
        if isinstance(around, list) and not isinstance(self._undefined_name, int):
            return f"it is a list of {len(around)}; wanted one of them, [0] to [{len(around) - 1}], and then `{name}`"
        if isinstance(around, list):
            return f"it is a list of {len(around)}, without [{name}]"
        if around is missing:
            return f"there is no {name!r}"
        return f"{shown(around)} has no `{name}`"


def _there(known: list[str]) -> str:
    return " Wanted one of: " + ", ".join(known) if known else " There is none at all."


class _Generator(CodeGenerator):
    """As Jinja2's, but that ``a ~ b`` makes a `Later` of one."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802  # Jinja2's name
        self.write("environment.joined((")
        for arg in node.nodes:
            self.visit(arg, frame)
            self.write(", ")
        self.write("))")


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    joined = staticmethod(joined)


def _final(value: object) -> object:
    """`value` as it becomes part of a text."""
    return value._text if isinstance(value, Later) else value


@jinja2.pass_environment
def _join(environment: jinja2.Environment, value: Iterable[Any], d: str = "", attribute: str | None = None) -> Any:
    """Jinja2's filter `join`, for texts that may be a `Later`."""
    parts = value if attribute is None else map(filters.make_attrgetter(environment, attribute), value)
    between = [part for one in parts for part in (d, one)]
    return joined(between[1:])


_ENVIRONMENT = _Environment(
    undefined=_Undefined,
    variable_start_string=OPEN,
    variable_end_string="}}",
    block_start_string=_NEVER.format("<"),
    block_end_string=_NEVER.format(">"),
    comment_start_string=_NEVER.format("("),
    comment_end_string=_NEVER.format(")"),
    keep_trailing_newline=True,
    finalize=_final,
)
_ENVIRONMENT.filters["join"] = _join


@dataclasses.dataclass(frozen=True)
class Scope:
    """What expressions can ask for."""

    variables: Mapping[str, Any]
    """By ``variables.X`` and by ``X``; values are looked up when they are asked for."""
    domains: Mapping[str, Any]
    """By ``variables.X.domain``."""
    contexts: Mapping[str, Any]
    """By name: ``workflow``, ``backends``, ``task``."""

    def value(self, text: str) -> Any:
        """What `text` stands for: the very value where it is a single expression, else a text.

        Raises ExpressionError, which names the expression.
        """
        return self._evaluated(text.strip(), lone=True) if OPEN in text else text

    def text(self, text: str) -> str:
        """`text` with the value of each expression in its place. Raises ExpressionError, which names the expression."""
        return text_of(self._evaluated(text, lone=False)) if OPEN in text else text

    def _evaluated(self, text: str, *, lone: bool) -> Any:
        try:
            return self._tried(text, lone=lone)
        except Exception as error:
            if isinstance(error, ExpressionError) and not isinstance(error, _Refused):
                raise  # it names an expression already
            # whatever an expression can do wrong, its author is to hear of it
            raise ExpressionError(f"found {self._failing(text)}: {_reason(error)}{self._near(error)}") from error

    def _tried(self, text: str, *, lone: bool) -> Any:
        template, asked = _compiled(text, frozenset(self.variables), lone)
        context = template.new_context({name: value for name in asked for value in self._found(name)})
        rendered = "".join(template.root_render_func(context))
        found = context.vars.get(_RESULT, rendered)
        if isinstance(found, jinja2.Undefined):
            str(found)  # raises
        return found

    def _found(self, name: str) -> Iterator[Any]:
        if name == "variables":
            yield Names("variable", self.variables)
        elif name == _DOMAINS:
            yield Names("variable", self.domains)
        elif name in self.variables:
            yield self.variables[name]
        elif name in self.contexts:
            yield self.contexts[name]

    def _near(self, error: Exception) -> str:
        """What a name that there is not may have been meant to be."""
        name = re.fullmatch(r"there is no '(\w+)'", str(error))
        return "." + suggestion(name[1], [*self.variables, *self.contexts, "variables"]) if name else ""

    def _failing(self, text: str) -> str:
        """The first expression in `text` that fails by itself."""
        each = _EACH.findall(text)
        for one in each if len(each) > 1 else ():
            try:
                self._tried(one, lone=False)
            except Exception:
                return shown(one)
        return shown(each[0] if each else text)


def _reason(error: Exception) -> str:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return f"it is no expression: {error.message}"
    if isinstance(error, jinja2.exceptions.SecurityError):
        return f"{str(error).rstrip('.')}, and not allowed"
    return str(error) or type(error).__name__


_RESULT, _DOMAINS = "hpcrun_result", "hpcrun_domains"
"""Names in templates that no expression has to use."""


@functools.lru_cache(maxsize=4096)
def _compiled(text: str, variables: frozenset[str], lone: bool) -> tuple[jinja2.Template, frozenset[str]]:
    """`text` as a template and the names it asks for; with `lone` a single expression leaves its value in `_RESULT`."""
    tree = _ENVIRONMENT.parse(text)
    for node in tree.find_all(nodes.Getattr):
        _about_variable(node, variables)
    asked = frozenset(meta.find_undeclared_variables(tree))
    if lone and len(tree.body) == 1 and isinstance(tree.body[0], nodes.Output) and len(tree.body[0].nodes) == 1:
        assigned = nodes.Assign(nodes.Name(_RESULT, "store", lineno=1), tree.body[0].nodes[0], lineno=1)
        tree = nodes.Template([assigned], lineno=1)
        tree.set_environment(_ENVIRONMENT)
    return _ENVIRONMENT.from_string(tree), asked


def _about_variable(node: nodes.Getattr, variables: frozenset[str]) -> None:
    """Make ``X.domain`` and ``X.value`` of a variable what nv-sflow means by them: values themselves have none."""
    of, name = node.node, ""
    if isinstance(of, nodes.Name) and of.name in variables:
        name = of.name
    elif isinstance(of, nodes.Getattr) and isinstance(of.node, nodes.Name) and of.node.name == "variables":
        name = of.attr
    if name and node.attr in ("domain", "value"):
        around = _DOMAINS if node.attr == "domain" else "variables"
        node.node, node.attr = nodes.Name(around, "load", lineno=node.lineno), name
