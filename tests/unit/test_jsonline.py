"""jsonline writes what json writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcrun.jsonline import dumps

SURROGATES = st.text(st.characters(exclude_categories=()))  # lone ones too: what is left of bytes that are no UTF-8
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | SURROGATES,
    lambda inner: st.lists(inner) | st.dictionaries(SURROGATES, inner),
    max_leaves=20,
)


@given(VALUES)
def test_equals_json(value: Any) -> None:
    """The text is that of json.dumps, and is one line of ASCII."""
    text = dumps(value)
    assert text == json.dumps(value, separators=(",", ":"))
    assert text.isascii()
    assert "\n" not in text


def test_tuples_are_arrays() -> None:
    """A tuple is written as an array, as json does."""
    assert dumps(("a", (1,))) == '["a",[1]]'


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_not_a_number(value: float) -> None:
    """JSON has no word for these, so they are refused rather than written as what no parser must take."""
    with pytest.raises(ValueError, match="JSON"):
        dumps(value)


@pytest.mark.parametrize("value", [b"x", {1}, object(), {"a": b"x"}])
def test_what_json_cannot_hold(value: Any) -> None:
    """A value of another type is a TypeError that names the type."""
    with pytest.raises(TypeError, match="as JSON"):
        dumps(value)
