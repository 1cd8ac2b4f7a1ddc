"""Sources: places, layers, YAML files and --set."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import source

from hpcrun import specfile
from hpcrun.errors import SpecError
from hpcrun.fields import Source, dotted, shown, snake, suggestion

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


def test_layers_are_merged() -> None:
    """What is laid over wins; mappings are merged key by key, lists are replaced."""
    low = source({"env": {"A": "1", "B": "1"}, "args": ["a", "b"], "cpus": 1}, cpus=3, args=4)
    high = Source({"env": {"B": "2"}, "args": ["c"]}, {})
    both = low.under(high)
    assert both.values == {"env": {"A": "1", "B": "2"}, "args": ["c"], "cpus": 1}
    assert low.values["env"] == {"A": "1", "B": "1"}
    assert both.place(("cpus",)).line == 3


def test_place_of_the_nearest() -> None:
    """A value without a place of its own has that of what it stands in."""
    found = specfile.parse("env:\n  A: 1\nargs:\n- a\n- b\n", "f.yaml")
    assert [found.place(path).line for path in [("env", "A"), ("env", "Z"), ("args", 1), ("nowhere",)]] == [2, 1, 5, 1]


def test_yaml_1_2() -> None:
    """no, yes and 1:30 are text; 0o17 and 1e3 are numbers; a date is text."""
    found = specfile.parse("a: no\nb: 1:30\nc: 0o17\nd: 1e3\ne: 2026-01-02\nf: |\n  x\n  y\n", "f").values
    assert found == {"a": "no", "b": "1:30", "c": 15, "d": 1000.0, "e": str(datetime.date(2026, 1, 2)), "f": "x\ny\n"}
    assert {type(value) for value in found.values()} == {str, int, float}


def test_aliases_and_merges() -> None:
    """What an alias stands for is as if it were written there."""
    found = specfile.parse("a: &x {K: 1}\nenv:\n  <<: *x\n  L: 2\n", "f").values
    assert found["env"] == {"K": 1, "L": 2}


@given(st.dictionaries(st.text(), PLAIN))
def test_written_yaml_is_read_back(values: dict[str, Any]) -> None:
    """The spec that a run keeps holds the values that it was given."""
    assert specfile.parse(specfile.text(values), "f").values == values


def test_set() -> None:
    """--set names a path, its value is YAML; the last one wins."""
    found = specfile.from_settings(
        ["spec.shards=4", "env.A=x=y", "env.B=", "spec.args=[1, b]", "spec.shards=5", "spec.name=[:"]
    )
    assert found.values == {"shards": 5, "env": {"A": "x=y", "B": ""}, "args": [1, "b"], "name": "[:"}
    assert found.place(("env", "A")).field == "--set env.A"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8", 8),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("on", True),
        ("No", False),
        ("fast", "fast"),
        ("", ""),
        ("a=b", "a=b"),
        ("[1", "[1"),
        ('{"k": [1]}', {"k": [1]}),
    ],
)
def test_set_a_variable(text: str, value: object) -> None:
    """--set with a plain name gives a variable its value, whose type is told as nv-sflow does it."""
    found = specfile.from_settings([f"X={text}"])
    assert found.values == {"variables": {"X": {"value": value}}}
    assert found.place(("variables", "X", "value")).field == "--set X"


def test_set_a_domain() -> None:
    """A list becomes the domain of a variable, and its first the value."""
    found = specfile.from_settings(["X=[16, 32]", 'Y=["a"]'])
    domains = {"X": {"value": 16, "domain": [16, 32]}, "Y": {"value": "a", "domain": ["a"]}}
    assert found.values == {"variables": domains}
    with pytest.raises(SpecError, match="--set X: found an empty list"):
        specfile.from_settings(["X=[]"])


def test_surrogates_survive(tmp_path: Path) -> None:
    """A spec with bytes that are no UTF-8 (from a command line) can be written as YAML."""
    assert "\\" in specfile.text({"args": ["\udcff"]})


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "nothing"), (True, "true"), (math.inf, "inf"), ("a\n", "'a\\n'"), ("x" * 99, "'" + "x" * 76 + "…")],
)
def test_shown(value: object, text: str) -> None:
    """Messages quote a value as YAML has it, on one line, cut to a readable length."""
    assert shown(value) == text


def test_names() -> None:
    """Spellings of a name, a path as people read it, the nearest of some names."""
    assert [snake(key) for key in ("timeoutSeconds", "timeout-seconds", "A")] == ["timeout_seconds"] * 2 + ["a"]
    assert dotted(("env", "A", 0, "b")) == "env.A[0].b"
    assert suggestion("shrads", ["shards", "args"]) == " Did you mean `shards`?"
    assert suggestion("zzz", ["shards", "args"]) == ""
