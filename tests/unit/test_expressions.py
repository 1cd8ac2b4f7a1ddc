"""Expressions: what they become, and what is said about those that become nothing."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

from typing import Any

import pytest

from hpcrun import later
from hpcrun.expressions import ExpressionError, Later, Names, Scope, text_of

NAME = later.mark(0, "name")
NODE = Names("fact of a node", {"name": Later(NAME), "index": 0})
SCOPE = Scope(
    {"A": 4, "LIST": [1, 2], "TEXT": "a/b", "MAP": {"k": "v"}},
    {"A": [4, 8]},
    {"nodes": [NODE], "workflow": Names("fact of the workflow", {"name": "w"})},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${{ variables.A }}", 4),
        ("${{ A * 2 }}", 8),
        (" ${{ A }} ", 4),
        ("${{ A }}0", "40"),
        ("${{ variables.A.value + 1 }}", 5),
        ("${{ variables.A.domain | max }}", 8),
        ("${{ A.domain }}", [4, 8]),
        ("${{ variables['A'] }}", 4),
        ("${{ variables.get('B', 7) }}", 7),
        ("${{ B | default('none') }}", "none"),
        ("${{ 'many' if A > 3 else 'few' }}", "many"),
        ("${{ TEXT.split('/')[1] }}", "b"),
        ("${{ MAP.k }}", "v"),
        ("${{ {'a': {'b': 1}}.a.b }}", 1),
        ("${{ LIST | join(':') }}", "1:2"),
        ("${{ '}}' }}", "}}"),
        ("${{ workflow.name }}", "w"),
        ("plain {% x {# y #} ${#list[@]}", "plain {% x {# y #} ${#list[@]}"),
    ],
)
def test_values(text: str, value: object) -> None:
    """A single expression is the value itself, several and text around make text."""
    assert SCOPE.value(text) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x ${{ A }} y ${{ LIST[1] }}\n", "x 4 y 2\n"),
        ("${{ LIST }} ${{ A == 4 }}", "[1, 2] True"),
        ("{% raw %} {# ${{ A }} #} ${#list[@]} {{ A }}", "{% raw %} {# 4 #} ${#list[@]} {{ A }}"),
        ("${{ '${{' }} A }}", "${{ A }}"),
        ("http://${{ nodes[0].name }}:${{ A }}", f"http://{NAME}:4"),
        ("${{ 'http://' + nodes[0].name + ':80' }}", f"http://{NAME}:80"),
        ("${{ nodes[0].name ~ ':' ~ A }}", f"{NAME}:4"),
        ("${{ [nodes[0].name, 'n2'] | join(',') }}", f"{NAME},n2"),
        ("${{ nodes | map(attribute='name') | join(',') }}", NAME),
        ("${{ nodes | join(',', attribute='name') }}", NAME),
    ],
)
def test_texts(text: str, said: str) -> None:
    """Jinja2's blocks and comments stay text; names of nodes become part of texts as marks."""
    assert SCOPE.text(text) == said


LATER = "the name or address of a node, which is known in the allocation only, can be put into text, joined and concatenated (~, +), and nothing else"


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("B", "there is no 'B'."),
        ("lIST", "there is no 'lIST'. Did you mean `LIST`?"),
        ("variables.B", "there is no variable 'B'. Wanted one of: A, LIST, TEXT, MAP"),
        ("variables", "wanted one variable of it, such as `.A`"),
        ("LIST[5]", "it is a list of 2, without [5]"),
        ("LIST.name", "it is a list of 2; wanted one of them, [0] to [1], and then `name`"),
        ("MAP.other", "{'k': 'v'} has no `other`"),
        ("workflow.id", "there is no fact of the workflow 'id'. Wanted one of: name"),
        ("A / 0", "division by zero"),
        ("A +", "it is no expression: unexpected 'end of print statement'"),
        ("A | nothing", "it is no expression: No filter named 'nothing'."),
        ("range(10 ** 9) | list", "Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."),
        ("nodes[0].name | upper", LATER),
        ("(nodes[0].name ~ ':80') | upper", LATER),
        ("nodes[0].name | length", LATER),
        ("nodes[0].name == 'n1'", LATER),
        ("nodes[0].name and 1", LATER),
        ("'%s' % nodes[0].name", LATER),
        ("nodes[0].name.split('-')", LATER),
        ("nodes[0].name + 1", LATER),
        ("[nodes[0].name]", LATER),
        ("nodes", "wanted one fact of a node of it, such as `.name`"),
    ],
)
def test_errors(expression: str, said: str) -> None:
    """Each error names the expression and what is wrong with it; of a node's name nothing is guessed."""
    with pytest.raises(ExpressionError) as caught:
        SCOPE.text(f"fine ${{{{ A }}}} ${{{{ {expression} }}}}")
    assert str(caught.value).split(": ", 1)[1] == said
    assert expression in str(caught.value).split(": ", 1)[0] or "it is no expression" in said


@pytest.mark.parametrize(
    "expression",
    [
        "''.__class__",
        "''.__class__.__mro__[1].__subclasses__()",
        "A.__class__.__init__.__globals__",
        "cycler.__init__.__globals__.os.system('true')",
        "''['__class__']",
        "('' | attr('__class__')).__mro__",
        "'{0.__class__}'.format(A)",
        "LIST.append(3)",
        "variables.__init__",
        "variables._found",
        "nodes[0].name._text",
    ],
)
def test_sandbox(expression: str) -> None:
    """Nothing of Python is reached from an expression, and no value is changed by one."""
    with pytest.raises(ExpressionError, match=r"unsafe|there is no|has no|known in the allocation"):
        SCOPE.value(f"${{{{ {expression} }}}}")
    assert SCOPE.variables["LIST"] == [1, 2]


def test_values_are_asked_for_when_needed() -> None:
    """A value that nobody asks for may have none."""

    class Asked(dict[str, Any]):
        def __missing__(self, name: str) -> Any:
            raise ExpressionError(f"found {name} asked for")

    scope = Scope(Asked(A=1), {}, {})
    assert scope.value("${{ A + variables.A }}") == 2


def test_text_of() -> None:
    """Values become text as Python writes them."""
    assert [text_of(value) for value in (0.001, True, [1], Later("x"))] == ["0.001", "True", "[1]", "x"]
