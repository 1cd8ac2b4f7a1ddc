"""The exception tree."""

from __future__ import annotations

import inspect
import pickle

import pytest

import hpcrun
from hpcrun import errors

CLASSES = [
    found
    for name, found in inspect.getmembers(errors, inspect.isclass)
    if issubclass(found, errors.HpcrunError) and not name.startswith("_")
]
EXAMPLES = {
    errors.SpecError: lambda cls: cls("bad", file="f.yaml", line=3, field="a.b"),
    errors.HostlistError: lambda cls: cls("n[", 2, "nothing", "a number"),
    errors.IndexSetError: lambda cls: cls("1,,2", 3, "nothing", "an index"),
    errors.RunNotFound: lambda cls: cls("a", "/home", ("ab", "ac")),
    errors.SubmissionRefused: lambda cls: cls("Invalid qos", ("sbatch", "x"), "ask somebody"),
    errors.CallFailed: lambda cls: cls("no", call=1, shard=2, attempt=0, cause="timed_out", node="c1", log="so far"),
    errors.RunFolderError: lambda cls: cls("/runs/a", "cannot be read"),
}


def example(cls: type[errors.HpcrunError]) -> errors.HpcrunError:
    made = next((EXAMPLES[base] for base in cls.__mro__ if base in EXAMPLES), lambda found: found("what went wrong"))
    return made(cls)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickles(cls: type[errors.HpcrunError], protocol: int) -> None:
    """An error that crosses a process boundary arrives with its class, its message and its facts."""
    error = example(cls)
    arrived = pickle.loads(pickle.dumps(error, protocol))
    assert (type(arrived), str(arrived), vars(arrived)) == (cls, str(error), vars(error))


def test_all_are_public() -> None:
    """Whatever hpcrun raises on purpose can be named by who catches it."""
    assert {cls.__name__ for cls in CLASSES} <= set(hpcrun.__all__)


@pytest.mark.parametrize("cls", CLASSES)
def test_in_the_tree(cls: type[errors.HpcrunError]) -> None:
    """The tree at the top of the module shows every class."""
    assert cls.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize(
    ("cls", "code"),
    [
        (errors.UsageError, 2),
        (errors.SubmissionRefused, 2),
        (errors.ClusterUnavailable, 69),
        (errors.RunFolderError, 1),
    ],
)
def test_exit_codes(cls: type[errors.HpcrunError], code: int) -> None:
    """A class and all below it exit with the code that the docs give."""
    assert {found.exit_code for found in CLASSES if issubclass(found, cls)} == {code}


def test_places() -> None:
    """A spec error begins with file, line and field, those that there are."""
    assert str(errors.SpecError("bad", file="f", line=3, field="x")) == "f:3: x: bad"
    assert str(errors.SpecError("bad", file="f")) == "f: bad"
    assert str(errors.SpecError("bad", field="--set")) == "--set: bad"
