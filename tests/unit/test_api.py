"""The public API: `hpcrun.__all__`, loaded when it is used."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import pytest

import hpcrun


def test_all() -> None:
    """Every public name is there, once, in order, and dir() shows these."""
    assert hpcrun.__all__ == sorted(set(hpcrun.__all__))
    assert dir(hpcrun) == sorted(hpcrun.__all__)
    for name in hpcrun.__all__:
        assert getattr(hpcrun, name) is not None


def test_unknown_name() -> None:
    """Another name is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="module 'hpcrun' has no attribute 'summit'"):
        hpcrun.summit  # noqa: B018


def test_no_module_shadows_a_name() -> None:
    """No module has the name of a public one, or importing it would replace that."""
    modules = {module.name for module in pkgutil.iter_modules(hpcrun.__path__)}
    assert not modules & set(hpcrun.__all__)


def test_import_is_light() -> None:
    """`import hpcrun` loads no third-party package, and neither pydantic nor click."""
    code = "import sys; before = set(sys.modules); import hpcrun; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert [
        name for name in done.stdout.split() if name.split(".")[0] in ("pydantic", "click", "rich", "jinja2", "ruamel")
    ] == []
    assert "hpcrun.submission" not in done.stdout


def test_types_and_homes_agree() -> None:
    """What type checkers are told is what is loaded."""
    assert {*hpcrun._HOME, "__version__"} == set(hpcrun.__all__)
