"""Plans to and from JSON."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import plan

from hpcrun import plan as plans
from hpcrun.errors import RunFolderError

# Also what is left of bytes that are no UTF-8.
ANY_TEXT = st.text(st.characters() | st.sampled_from([chr(0xDC00 + byte) for byte in range(0x80, 0x100)]))


@given(
    words=st.lists(ANY_TEXT),
    env=st.dictionaries(ANY_TEXT, ANY_TEXT),
    name=ANY_TEXT,
    export=st.none() | st.lists(ANY_TEXT),
)
def test_round_trip(words: list[str], env: dict[str, str], name: str, export: list[str] | None) -> None:
    """Whatever text a plan holds, newlines and lone surrogates too, it comes back from JSON as it was."""
    made = plan(shards=3, max_parallel=1, sbatch={"hold": True})
    role = dataclasses.replace(made.job, command=tuple(words), env=env)
    made = dataclasses.replace(made, name=name, job=role, export=None if export is None else tuple(export))
    assert plans.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("number", [0, 1, 2, None, "3"])
def test_another_format(tmp_path: Path, number: object) -> None:
    """A plan of another format is refused by its number, and with the path."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan().to_json(), "format": number}))
    with pytest.raises(RunFolderError) as caught:
        plans.read(str(path))
    assert str(caught.value) == (
        f"{path}: found plan format {number!r}, wanted 5; ask with the hpcrun that submitted the run"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "3", '"x"', '{"format": 5}', '{"format": 5, "export": null}', "\udcff"]
)
def test_garbled(tmp_path: Path, text: str) -> None:
    """A file that is no plan is said by its path, not by a traceback."""
    path = tmp_path / "plan.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(RunFolderError, match=r"found no plan \(.*\), wanted it as its submission wrote it: ") as caught:
        plans.read(str(path))
    assert caught.value.path == str(path)


def test_an_unknown_field(tmp_path: Path) -> None:
    """A field that this hpcrun does not know is no plan of this format."""
    path = tmp_path / "plan.json"
    path.write_text(json.dumps({**plan().to_json(), "workers": 3}))
    with pytest.raises(RunFolderError, match="workers"):
        plans.read(str(path))


def test_missing(tmp_path: Path) -> None:
    """A plan that is not there is said with the reason."""
    with pytest.raises(RunFolderError) as caught:
        plans.read(str(tmp_path / "plan.json"))
    assert str(caught.value) == f"{tmp_path}/plan.json: cannot read the plan: No such file or directory"
