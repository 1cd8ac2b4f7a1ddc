"""Which ends of a run let others start, and what is said of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from unit.made import ASKED, plan

from hpcrun.errors import SpecError
from hpcrun.plan import Upstream, from_json
from hpcrun.rundir import RunDir
from hpcrun.script import render_finish, template
from hpcrun.sent import Sent, Submitted
from hpcrun.spec import from_source, raw
from hpcrun.states import RUN_STATES, TERMINAL
from hpcrun.status import Said, Seen, fold
from hpcrun.upstream import KINDS, hindered, met, outcome, refusal

WAITED = Upstream("first", "/runs/first", "after_success", 0)
WAITING = plan(asked=dataclasses.replace(ASKED, upstream=(WAITED,)), shards=2)


def seen(**known: object) -> Seen:
    base = Seen(
        records={}, submitted=Submitted((Sent(0, job="7"),)), queue={}, accounting=None, stopped=None, asked=0.0
    )
    return dataclasses.replace(base, **known)


@pytest.mark.parametrize(
    ("kind", "states"),
    [
        ("after", {"succeeded", "partial", "failed", "timed_out"}),
        ("after_success", {"succeeded"}),
        ("after_fail", {"partial", "failed", "timed_out"}),
    ],
)
def test_what_lets_a_run_start(kind: str, states: set[str]) -> None:
    """A cancelled run lets nothing start, and neither does one that has not ended."""
    assert {state for state in RUN_STATES if met(kind, state)} == states


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("state", sorted(TERMINAL | {"running", "gone"}))
def test_every_refusal_is_a_sentence(kind: str, state: str) -> None:
    """The run, what became of it, what was wanted."""
    said = refusal(kind, "abc", state)
    assert said.startswith("run abc ")
    assert "; this run was to start only after its" in said


def test_a_cancel_is_handed_on_as_one() -> None:
    """Anything else is a failure of the run before."""
    assert [hindered(state) for state in ("cancelled", "failed", "gone")] == ["user", "upstream", "upstream"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"state"', '{"other": 1}', "\0"])
def test_a_garbled_outcome_is_none(tmp_path: Path, text: str) -> None:
    """Then it is found out anew."""
    (tmp_path / "outcome.json").write_text(text)
    assert outcome(str(tmp_path / "outcome.json")) == ""
    assert outcome(str(tmp_path / "missing.json")) == ""


def test_the_plan_keeps_what_is_waited_for() -> None:
    """Also through its JSON form."""
    assert from_json(WAITING.to_json()).upstream == (WAITED,)


@pytest.mark.parametrize("given", ["a, b", ["a", "b"], ["a,b"]])
def test_runs_in_a_spec(given: object) -> None:
    """A text with commas, or a list; in any spelling of the field."""
    for name in ("after_success", "afterSuccess", "after-success"):
        assert from_source(raw({"command": ["x"], name: given})).after_success == ["a", "b"]


def test_alternatives_cannot_hold_together_with_runs() -> None:
    """Slurm joins dependencies by `,` or by `?`, never by both."""
    with pytest.raises(SpecError, match=r"sbatch.dependency: found alternatives \(\?\) beside runs to wait for"):
        plan(asked=dataclasses.replace(ASKED, upstream=(WAITED,)), sbatch={"dependency": "afterok:1?afterok:2"})


def test_a_waiting_shard_says_for_what() -> None:
    """Where Slurm's reason is a dependency; any other reason stays."""
    queue = {
        0: Said("pending", None, "PENDING", reason="Dependency"),
        1: Said("pending", None, "PENDING", reason="Priority"),
    }
    status = fold(WAITING, seen(queue=queue))
    assert [shard.detail for shard in status.shards] == ["after run first succeeds", "Priority"]


def test_a_run_that_was_not_let_start_has_failed() -> None:
    """By its upstream: failed, with the reason. By a cancel that was handed on: cancelled, with the reason."""
    for by, state, code in (("upstream", "failed", 1), ("user", "cancelled", 130)):
        status = fold(WAITING, seen(stopped=(by, "run first did not")))
        assert (status.state, status.exit_code()) == (state, code)
        assert {(shard.state, shard.detail) for shard in status.shards} == {(state, "run first did not")}


def test_the_script_of_a_finaliser() -> None:
    """It goes where the run goes, asks for one CPU, and none of the run's own demands are in it."""
    values = {
        "shards": 9, "cpus": 4, "gpus": 2, "memory": "8G", "prologue": "module load x",
        "sbatch": {"partition": "p", "account": "a", "qos": "q", "exclusive": True, "dependency": "afterok:1"},
    }  # fmt: skip
    text = render_finish(plan(values), RunDir("/runs/abc"), *template(None), in_round=2)
    options = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    assert options == [
        "job-name=finish-abc", "output=/runs/abc/slurm/finish-%j.out", "open-mode=append", "comment=hpcrun-finish:abc",
        "export=ALL", "requeue", "partition=p", "account=a", "qos=q", "ntasks=1", "cpus-per-task=1", "mem-per-cpu=256M",
        "time=10",
    ]  # fmt: skip
    assert text.endswith("exec python3 -I -S /runs/abc/start.py finish 2\n")
    assert "module load" not in text
