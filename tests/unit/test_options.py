"""The command line: what is an option, what is the program, what goes to sbatch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcrun.cli import main


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")


def compiled(*words: str) -> dict[str, Any]:
    """The plan that `hpcrun compile` makes of `words`."""
    done = CliRunner().invoke(main, ["compile", "--json", *words], prog_name="hpcrun")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)["plan"]
    return found


def program(*words: str) -> list[str]:
    found: list[str] = compiled(*words)["role"]["command"]
    return found


def test_options_end_at_the_program() -> None:
    """What stands behind the program's name is the program's, options too; -- is optional."""
    assert program("-N", "2", "prog", "-N", "3", "--json", "--", "--exclusive=user") == [
        "prog", "-N", "3", "--json", "--", "--exclusive=user"
    ]  # fmt: skip
    assert program("--", "-x", "--help") == ["-x", "--help"]
    assert program("prog", "a b", "", "$(HOME)", "ü") == ["prog", "a b", "", "$(HOME)", "ü"]


@pytest.mark.parametrize(
    ("words", "option", "value"),
    [
        (["--exclusive"], "exclusive", None),
        (["--exclusive=user"], "exclusive", "user"),
        (["--nice"], "nice", None),
        (["--nice=100"], "nice", "100"),
        (["-p", "gpu"], "partition", "gpu"),
        (["--partition=gpu"], "partition", "gpu"),
        (["-pgpu"], "partition", "gpu"),
        (["--constraint", "a&b"], "constraint", "a&b"),
        (["--mail-type", "END,FAIL"], "mail-type", "END,FAIL"),
        (["-A", "--exclusive=user"], "account", "--exclusive=user"),
        (["--sbatch-option", "gres=x:1"], "gres", "x:1"),
        (["--sbatch-option=hold"], "hold", None),
        (["-t", "1:00"], "time", "1:00"),
    ],
)
def test_options_of_sbatch(words: list[str], option: str, value: str | None) -> None:
    """sbatch's own options go through as they are, and the program behind them is the program."""
    made = compiled(*words, "prog")
    assert (dict(made["directives"])[option], made["role"]["command"]) == (value, ["prog"])


@pytest.mark.parametrize(
    "words", [["-N", "3"], ["--shards=3"], ["--parallelism", "3"], ["--total-shards", "3"], ["--set", "spec.shards=3"]]
)
def test_shards(words: list[str]) -> None:
    """Every spelling of the number of shards."""
    made = compiled(*words, "prog")
    assert (made["shards"], made["sharded"]) == (3, True)


def test_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """-e NAME=VALUE sets, -e NAME takes from here; the last one wins."""
    monkeypatch.setenv("TAKEN", "here")
    made = compiled("-e", "A=1", "-e", "TAKEN", "--env", "A=x=y", "-e", "EMPTY=", "prog")
    assert made["role"]["env"] == {"A": "x=y", "TAKEN": "here", "EMPTY": ""}


def test_spec_file(tmp_path: Path) -> None:
    """An existing .yaml or .yml file is a spec; options win over it, whatever spelling it uses."""
    for name in ("s.yaml", "s.yml"):
        (tmp_path / name).write_text("command: [prog, $(A)]\nparallelism: 4\nmem: 100M\nenv: {A: x, B: y}\n")
        made = compiled("-N", "2", "--mem", "50M", "-e", "B=z", name)
        assert (made["shards"], made["role"]["memory"], made["role"]["env"]) == (2, 50, {"A": "x", "B": "z"})
        assert (made["role"]["command"], made["role"]["expand"]) == (["prog", "$(A)"], True)


def test_a_program_called_like_a_spec(tmp_path: Path) -> None:
    """A .yaml that is no file is the program where words follow it."""
    assert program("run.yaml", "x") == ["run.yaml", "x"]


def test_typed_words_are_not_expanded() -> None:
    """$(VAR) in a typed command stays: the shell that it was typed in has had its turn."""
    assert not compiled("prog", "$(HOME)")["role"]["expand"]


def test_settings_below_options(tmp_path: Path) -> None:
    """A default of the settings holds until spec, --set or an option says otherwise, also in another spelling."""
    (tmp_path / "hpcrun.toml").write_text('[defaults]\nmem = "100M"\nparallelism = 2\n')
    assert compiled("prog")["role"]["memory"] == 100
    assert compiled("--set", "spec.memory=60", "prog")["role"]["memory"] == 60
    assert compiled("--mem", "50M", "-N", "3", "prog")["shards"] == 3


def test_compile_writes_nothing(tmp_path: Path) -> None:
    """compile and --dry-run leave no trace."""
    compiled("-N", "3", "prog")
    assert CliRunner().invoke(main, ["run", "--dry-run", "prog"]).exit_code == 0
    assert not (tmp_path / "runs-home").exists()
