"""The command line: what is an option, what is the program, what goes to sbatch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcrun.cli import main
from hpcrun.retry import BUDGETS


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
    found: list[str] = compiled(*words)["job"]["command"]
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
    assert (dict(made["components"][0])[option], made["job"]["command"]) == (value, ["prog"])


@pytest.mark.parametrize(
    "words", [["-N", "3"], ["--shards=3"], ["--parallelism", "3"], ["--total-shards", "3"], ["--set", "spec.shards=3"]]
)
def test_shards(words: list[str]) -> None:
    """Every spelling of the number of shards."""
    made = compiled(*words, "prog")
    assert (made["shards"], made["sharded"]) == (3, True)


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        (["--retries", "3"], "budgets", {**BUDGETS, "failed": 3}),
        (["--backoff-limit-per-index", "3"], "budgets", {**BUDGETS, "failed": 3}),
        (["--retries=0"], "budgets", BUDGETS),
        (["--set", "spec.retries=2"], "budgets", {**BUDGETS, "failed": 2}),
        (["--set", "spec.retries.timed_out=1"], "budgets", {**BUDGETS, "timed_out": 1}),
        (["--set", "spec.retries.node_failed=0", "--set", "spec.retries.failed=1"], "budgets",
         {**BUDGETS, "node_failed": 0, "failed": 1}),
        (["--retry", "in_place"], "retry", "in_place"),
        (["--backoff", "1m"], "backoff", 60.0),
        (["--backoff", "0"], "backoff", 0.0),
        (["-N", "9", "--max-failed-indexes", "0"], "max_failed", 0),
        ([], "deadline", None),
    ],
)  # fmt: skip
def test_what_is_tried_again(words: list[str], field: str, value: object) -> None:
    """Retries, back-off and limits of the whole run, as options and as fields."""
    assert compiled(*words, "prog")[field] == value


def test_time_of_a_run() -> None:
    """--run-timeout counts from the submission."""
    made = compiled("--run-timeout", "1h30m", "prog")
    assert made["deadline"] == pytest.approx(made["created"] + 5400)


def test_retries_in_a_spec_file(tmp_path: Path) -> None:
    """The option replaces all budgets of the file; --set changes one of them."""
    (tmp_path / "s.yaml").write_text("command: [prog]\nretries: {failed: 1, timed_out: 4}\n")
    assert compiled("s.yaml")["budgets"] == {**BUDGETS, "failed": 1, "timed_out": 4}
    assert compiled("--retries", "2", "s.yaml")["budgets"] == {**BUDGETS, "failed": 2}
    assert compiled("--set", "spec.retries.failed=3", "s.yaml")["budgets"] == {**BUDGETS, "failed": 3, "timed_out": 4}


def test_env(monkeypatch: pytest.MonkeyPatch) -> None:
    """-e NAME=VALUE sets, -e NAME takes from here; the last one wins."""
    monkeypatch.setenv("TAKEN", "here")
    made = compiled("-e", "A=1", "-e", "TAKEN", "--env", "A=x=y", "-e", "EMPTY=", "prog")
    assert made["job"]["env"] == {"A": "x=y", "TAKEN": "here", "EMPTY": ""}


def test_spec_file(tmp_path: Path) -> None:
    """An existing .yaml or .yml file is a spec; options win over it, whatever spelling it uses."""
    for name in ("s.yaml", "s.yml"):
        (tmp_path / name).write_text("command: [prog, $(A)]\nparallelism: 4\nmem: 100M\nenv: {A: x, B: y}\n")
        made = compiled("-N", "2", "--mem", "50M", "-e", "B=z", name)
        assert (made["shards"], made["job"]["memory"], made["job"]["env"]) == (2, 50, {"A": "x", "B": "z"})
        assert (made["job"]["command"], made["job"]["expand"]) == (["prog", "$(A)"], True)


def test_a_program_called_like_a_spec(tmp_path: Path) -> None:
    """A .yaml that is no file is the program where words follow it."""
    assert program("run.yaml", "x") == ["run.yaml", "x"]


def test_typed_words_are_not_expanded() -> None:
    """$(VAR) in a typed command stays: the shell that it was typed in has had its turn."""
    assert not compiled("prog", "$(HOME)")["job"]["expand"]


def test_settings_below_options(tmp_path: Path) -> None:
    """A default of the settings holds until spec, --set or an option says otherwise, also in another spelling."""
    (tmp_path / "hpcrun.toml").write_text('[defaults]\nmem = "100M"\nparallelism = 2\n')
    assert compiled("prog")["job"]["memory"] == 100
    assert compiled("--set", "spec.memory=60", "prog")["job"]["memory"] == 60
    assert compiled("--mem", "50M", "-N", "3", "prog")["shards"] == 3


def test_compile_writes_nothing(tmp_path: Path) -> None:
    """compile and --dry-run leave no trace."""
    compiled("-N", "3", "prog")
    assert CliRunner().invoke(main, ["run", "--dry-run", "prog"]).exit_code == 0
    assert not (tmp_path / "runs-home").exists()


def create(name: str, text: str) -> None:
    """A version of the codespec `name`."""
    Path("c.yaml").write_text(text)
    done = CliRunner().invoke(main, ["codespec", "create", name, "-f", "c.yaml"], prog_name="hpcrun")
    assert done.exit_code == 0, done.output


SERVE = "kind: worker\ncommand: [serve, {}]\nendpoints: {{rpc: auto}}\n"


@pytest.mark.parametrize(
    ("words", "reference"),
    [
        (["--codespec", "train"], "train/versions/2"),
        (["--codespec=train", "--version", "1"], "train/versions/1"),
        (["--codespec", "train/versions/1"], "train/versions/1"),
        (["--set", "spec.codespec=train"], "train/versions/2"),
    ],
)
def test_codespec(words: list[str], reference: str) -> None:
    """The job's codespec by name, the latest or a version; its command is expanded, for no shell has seen it."""
    for n in (1, 2):
        create("train", f"command: [train, $(A), {n}]\nenv: {{A: x}}\n")
    job = compiled(*words)["job"]
    assert (job["codespec"], job["command"], job["expand"]) == (reference, ["train", "$(A)", reference[-1]], True)


def test_options_over_a_codespec() -> None:
    """What the command line says beside a codespec is laid over it."""
    create("train", "command: [train]\nmem: 1G\nenv: {A: x, B: y}\n")
    job = compiled("--codespec", "train", "--mem", "2G", "-e", "B=z")["job"]
    assert (job["memory"], job["env"], job["command"]) == (2048, {"A": "x", "B": "z"}, ["train"])


def test_workers() -> None:
    """A command with workers by name: which, which version, how many and where."""
    Path("hpcrun.toml").write_text("[node_pools.fast]\npartition = 'f'\n")
    for n in (1, 2):
        create("serve", SERVE.format(n))
    words = ["--worker-codespec", "serve", "--worker-version", "1", "--worker-replicas", "3"]
    made = compiled(*words, "--worker-node-pool", "fast", "--start-timeout", "1m", "prog")
    worker = made["worker"]
    assert (worker["codespec"], worker["command"], worker["replicas"]) == ("serve/versions/1", ["serve", "1"], 3)
    assert (made["job"]["command"], made["start_timeout"]) == (["prog"], 60.0)
    assert compiled("--worker-codespec", "serve", "prog")["worker"]["codespec"] == "serve/versions/2"


@pytest.mark.parametrize(
    "words", [["--worker-replicas", "4"], ["--set", "worker.replicas=4"], ["--set", "spec.worker.replicas=4"]]
)
@pytest.mark.parametrize(
    "worker",
    ["{codespec: serve, replicas: 2}", "{command: [serve, 1], replicas: 2}", "{codespec: {command: [serve, 1]}}"],
)
def test_one_field_of_the_workers(words: list[str], worker: str) -> None:
    """An option changes its one field of the workers that a spec file has, whatever way they are written."""
    create("serve", SERVE.format(1))
    Path("s.yaml").write_text(f"command: [prog]\nworker: {worker}\n")
    found = compiled(*words, "s.yaml")["worker"]
    assert (found["command"], found["replicas"]) == (["serve", "1"], 4)


def test_another_codespec_than_the_file_has() -> None:
    """A codespec of the command line takes the place of the file's, one that stands there inline too."""
    create("serve", SERVE.format(1))
    create("train", "command: [train]\n")
    Path("s.yaml").write_text("codespec: {command: [x]}\nworker: {command: [x], replicas: 2}\n")
    made = compiled("--codespec", "train", "--worker-codespec", "serve", "s.yaml")
    assert (made["job"]["codespec"], made["worker"]["codespec"]) == ("train/versions/1", "serve/versions/1")
    assert made["worker"]["replicas"] == 2


@pytest.mark.parametrize("words", [["--ntasks", "4"], ["--tasks=4"], ["--set", "spec.ntasks=4"]])
def test_parallel_programs(words: list[str]) -> None:
    """Nodes, tasks and mpi are fields of the spec now, no options of sbatch's that pass through."""
    job = compiled("--nodes", "1", "--mpi", "pmi2", *words, "prog")["job"]
    assert (job["nodes"], job["tasks"], job["mpi"], job["command"]) == (1, 4, "pmi2", ["prog"])


def test_gang() -> None:
    """--gang starts all shards together; --no-gang takes back what the file says; without either the file holds."""
    Path("s.yaml").write_text("command: [prog]\nshards: 2\ngang: true\n")
    assert [compiled(*words, "s.yaml")["gang"] for words in ([], ["--gang"], ["--no-gang"])] == [True, True, False]
    assert compiled("--gang", "-N", "2", "prog")["shape"] == "gang"


def test_containers() -> None:
    """--image and --mount, which may stand more than once, take the place of the file's."""
    template = '["box", "{mounts}", "{image}"]'
    Path("hpcrun.toml").write_text(
        f'[containers]\nruntime = "command"\ncommand = {template}\nmount = ["-v", "{{source}}:{{target}}:{{mode}}"]\n'
    )
    Path("s.yaml").write_text("command: [prog]\nimage: old\nmounts: [/old]\n")
    command = compiled("--image", "img:1", "--mount", "/a", "--mount=/b:/c:ro", "s.yaml")["job"]["command"]
    assert [word for word in ("/a:/a:rw", "/b:/c:ro", "img:1", "prog") if word not in command] == []
    assert not [word for word in command if "old" in word]


def test_mounts_without_a_container(tmp_path: Path) -> None:
    """A folder that is to be seen where it is needs no image: the program finds it there."""
    Path("s.yaml").write_text(
        f"command: [prog]\nvolumeMounts:\n- {{volumeId: {tmp_path}, mountPath: {tmp_path}/}}\n- {tmp_path}/.\n"
    )
    assert compiled("s.yaml")["job"]["command"] == ["prog"]


def test_a_warning_on_the_command_line() -> None:
    """--signal, as sbatch has it, is a field of the run: what the runtime gives and what Slurm is told."""
    found = compiled("--signal", "B:USR1@90", "prog")
    assert found["warning"] == [10, 90]
    assert ["signal", "B:USR1@90"] in found["components"][0]


def test_variables_of_a_workflow(tmp_path: Path) -> None:
    """--set gives a variable of the workflow its value or its domain, and knows no other variables."""
    (tmp_path / "spec.yaml").write_text(
        "variables: {SIZE: {value: 1, domain: [1, 2]}}\n"
        "workflow: {tasks: {t: {replicas: {variables: [SIZE]}, script: x}}}\n"
    )
    assert compiled("spec.yaml")["shards"] == 2
    assert compiled("--set", "SIZE=[3,4,5]", "spec.yaml")["sweep"]["variables"] == [["SIZE", ["3", "4", "5"]]]
    assert compiled("--set", "workflow.tasks.t.replicas.policy=sequential", "spec.yaml")["shape"] == "workflow"
    for words, said in (
        ("SIZ=3", "--set SIZ: found the variable 'SIZ', which the spec has not. Did you mean `SIZE`?"),
        (
            "timeout=3",
            "--set timeout: found the variable 'timeout', which the spec has not. For the field",
        ),
        ("SIZE=3", "--set SIZE: found 3, which is not in its domain [1, 2]"),
    ):
        done = CliRunner().invoke(main, ["compile", "--set", words, "spec.yaml"], prog_name="hpcrun")
        assert (done.exit_code, said in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(("words", "code", "said"), [(["hosts", "expand", "n[1-2]"], 0, "n1\nn2\n"), (["hots"], 2, "")])
def test_the_command_ends_as_it_is_to(words: list[str], code: int, said: str) -> None:
    """The process of a command ends early, with its exit code, all that it has printed, and what others left to do."""
    program = "import atexit, sys; from hpcrun.cli import main; atexit.register(print, 'bye'); main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (code, f"{said}bye\n")
