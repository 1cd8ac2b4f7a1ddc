"""hpcrun codespec: create from options and files, show, list; and that what it says is what runs."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from hpcrun import registry, specfile
from hpcrun.cli import main

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")


def ran(*words: str) -> str:
    """What `hpcrun codespec` prints for `words`."""
    done = CliRunner().invoke(main, ["codespec", *words], prog_name="hpcrun")
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(*words: str) -> str:
    """What it says when it refuses them; nothing is printed and nothing kept."""
    done = CliRunner().invoke(main, ["codespec", *words], prog_name="hpcrun")
    assert (done.exit_code, done.stdout) == (2, ""), done.output
    assert not Path("runs-home", "codespecs").exists()
    return done.stderr.removeprefix("hpcrun: error: ").removesuffix("\n")


def shown(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(ran("show", name, "--json"))
    assert specfile.parse(ran("show", name), "shown").values == found
    return found


def test_create_from_options() -> None:
    """Every option is the field that it names, in the units that it was given in; the version alone is printed."""
    words = (
        "create a.b -k worker --image img:1 -e A=1 --env B=x=y --endpoint rpc=80 --endpoint m=auto --gpu 2 --shm 64Mi "
        "--cpu-request 500m --memory-request 1Gi --cpu-limit 2 --memory-limit 2G -r 5 --working-dir /w --restart always "
        "--command -- serve --port $(PORT) -- -v"
    )
    assert ran(*words.split()) == "1\n"
    assert shown("a.b") == {
        "name": "a.b",
        "version": 1,
        "kind": "worker",
        "image": "img:1",
        "command": ["serve", "--port", "$(PORT)", "--", "-v"],
        "env": {"A": "1", "B": "x=y"},
        "working_dir": "/w",
        "resources": {
            "requests": {"cpu": "500m", "memory": "1Gi"},
            "limits": {"cpu": "2", "memory": "2G"},
            "gpu": "2",
            "shm": "64Mi",
        },
        "max_replicas": 5,
        "endpoints": {"rpc": 80, "m": "auto"},
        "restart": "always",
    }


def test_versions() -> None:
    """What is new is the next version, what says the same is the latest; --json has the name too."""
    assert [ran("create", "a", "--", word) for word in "xxyyx"] == ["1\n", "1\n", "2\n", "2\n", "3\n"]
    assert json.loads(ran("create", "a", "--json", "--", "z")) == {"name": "a", "version": 4}


def test_options_over_a_file() -> None:
    """Options win over the file; variables and endpoints are added, all else is replaced."""
    Path("c.yaml").write_text(
        "kind: worker\nname: other\ncommand: [serve]\nargs: [x]\nenv: {A: file, B: file}\nendpoints: {rpc: 80}\n"
        "resources: {requests: {cpu: 4, memory: 1Gi}}\nmaxReplicas: 2\n"
    )
    ran("create", "-f", "c.yaml", "a", "-e", "A=option", "--endpoint", "m=81", "--cpu-request", "8", "--", "y", "z")
    found = shown("a")
    assert (found["name"], found["command"], found["args"]) == ("a", ["serve"], ["y", "z"])
    assert (found["env"], found["endpoints"]) == ({"A": "option", "B": "file"}, {"rpc": 80, "m": 81})
    assert (found["resources"], found["max_replicas"]) == ({"requests": {"cpu": "8", "memory": "1Gi"}}, 2)


def test_the_name_in_the_file() -> None:
    """A file that `show` printed makes the same codespec again, under its own name."""
    ran("create", "a", "--", "x")
    Path("c.yaml").write_text(ran("show", "a"))
    assert ran("create", "-f", "c.yaml") == "1\n"


@pytest.mark.parametrize(
    ("words", "command", "args"),
    [
        ("-- p -x", ["p", "-x"], None),
        ("--command -- p -x", ["p", "-x"], None),
        ("--image i --command -- p", ["p"], None),
        ("-f program.yaml -- x", ["p"], ["x"]),
        ("-f program.yaml --command -- q", ["q"], ["a"]),
        ("-f program.yaml --", ["p"], None),
        ("-f program.yaml", ["p"], ["a"]),
    ],
)
def test_words(words: str, command: list[str], args: list[str] | None) -> None:
    """Words behind -- are args, or the command with --command and where there is neither image nor command."""
    Path("program.yaml").write_text("command: [p]\nargs: [a]\n")
    ran("create", "a", *words.split())
    found = shown("a")
    assert (found["command"], found.get("args")) == (command, args)


def test_env_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """-e NAME takes the value that it has now, and keeps it."""
    monkeypatch.setenv("TAKEN", "now")
    ran("create", "a", "-e", "TAKEN", "--", "p")
    monkeypatch.setenv("TAKEN", "later")
    assert shown("a")["env"] == {"TAKEN": "now"}


def test_show() -> None:
    """The latest, or a version by option or in the name."""
    for word in "xyz":
        ran("create", "a", "--", word)
    asked: list[tuple[str, ...]] = [("a",), ("a", "--version", "2"), ("a/versions/1",)]
    assert [ran("show", *words) for words in asked] == [
        f"name: a\nversion: {n}\nkind: job\ncommand:\n- {word}\n" for n, word in ((3, "z"), (2, "y"), (1, "x"))
    ]


def test_list() -> None:
    """The latest versions, alphabetically, on a line each, whatever they run."""
    ran("create", "b", "--", "train", "a b")
    ran("create", "a", "--image", "img:1", "--command", "--", "x")
    ran("create", "a", "--image", "img:1", "--command", "-k", "worker", "--", "y")
    ran("create", "long", "--", "x" * 100)
    Path("s.yaml").write_text('script: "\\e[2Jecho a\\necho b\\n"\n')
    ran("create", "script", "-f", "s.yaml")
    assert ran("list") == (
        "NAME    VERSION  KIND    RUNS\n"
        "a       2        worker  img:1: y\n"
        "b       1        job     train 'a b'\n"
        f"long    1        job     {'x' * 59}…\n"
        "script  1        job     \\x1b[2Jecho a\\necho b\n"
    )
    assert ran("list", "-p", "b") == "NAME  VERSION  KIND  RUNS\nb     1        job   train 'a b'\n"
    assert [(each["name"], each["version"]) for each in json.loads(ran("list", "--json", "--prefix", "a"))] == [
        ("a", 2)
    ]


def test_an_empty_list() -> None:
    """Where there are none it says where it looked and how to make one."""
    done = CliRunner().invoke(main, ["codespec", "list"], prog_name="hpcrun")
    where = Path("runs-home", "codespecs").absolute()
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"no codespecs in {where}; `hpcrun codespec create NAME -- COMMAND` makes one\n"
    assert json.loads(ran("list", "--json", "-p", "x")) == []


def test_a_broken_one_in_the_list() -> None:
    """A version that cannot be read is said, and does not hide the others."""
    ran("create", "a", "--", "x")
    ran("create", "b", "--", "x")
    path = Path("runs-home", "codespecs", "a", "2.yaml").absolute()
    path.write_text("{")
    done = CliRunner().invoke(main, ["codespec", "list"], prog_name="hpcrun")
    assert (done.exit_code, done.stdout) == (0, "NAME  VERSION  KIND  RUNS\nb     1        job   x\n")
    assert done.stderr.startswith(f"hpcrun: {path}:1: not YAML: ")


def test_a_place_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HPCRUN_CODESPECS, or `codespecs` in hpcrun.toml, is where they are kept."""
    Path("hpcrun.toml").write_text(f'codespecs = "{tmp_path}/group"\n')
    ran("create", "a", "--", "x")
    monkeypatch.setenv("HPCRUN_CODESPECS", str(tmp_path / "mine"))
    ran("create", "b", "--", "x")
    assert [registry.latest(str(tmp_path / folder)) for folder in ("group", "mine")] == [[("a", 1)], [("b", 1)]]


NAMES = (
    "codespec names must contain only lower case letters (a-z), numbers (0-9), dashes (-), underscores (_), "
    "and dots (.); found "
)
MEMORY = "wanted an amount of memory such as 1Gi, 512Mi or a number of bytes"
REFUSED = [
    ("create", "found no name, wanted `hpcrun codespec create NAME`, or a file with `name`"),
    ("create -- p", "found no name, wanted `hpcrun codespec create NAME`, or a file with `name`"),
    ("create Train -- p", NAMES + "'Train'"),
    ("create ../a -- p", NAMES + "'../a'"),
    ("create .. -- p", "found '..', which is a folder's own name; wanted another one"),
    ("create a python", "found 'python' behind the name; the program's words stand behind --, at the end"),
    ("create a", "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("create a --", "what stands behind --: found an empty list, wanted a program and its arguments"),
    ("create a --command", "--command: found no words behind --, wanted the program and its arguments there"),
    ("create a --image i -- x", "found arguments for the entry point of an image, which hpcrun does not call; wanted --command before --, and the program behind it"),
    ("create a -f nope.yaml", "nope.yaml: cannot read the spec: No such file or directory"),
    ("create a -f bad.yaml", "bad.yaml:2: comand: found an unknown key. Did you mean `command`?"),
    ("create a -f bad.yaml -- p", "bad.yaml:2: comand: found an unknown key. Did you mean `command`?"),
    ("create a -f cpu.yaml --memory-limit 1Gi", "cpu.yaml:4: resources.requests.cpu: found 'two', wanted an amount of CPUs such as 2, 0.5 or 500m"),
    ("create a -e NOPE -- p", "--env: found 'NOPE', which is not set here; wanted NAME=VALUE"),
    ("create a -e HPCRUN_X=1 -- p", "--env: found HPCRUN_X, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ("create a --endpoint rpc=80 -- p", "endpoints: found endpoints on a job; job codespecs cannot have endpoints, workers can"),
    ("create a -k worker --endpoint rpc -- p", "--endpoint: found '', wanted a port from 1 to 65535, or auto"),
    ("create a -k worker --endpoint rpc=0 -- p", "--endpoint: found 0, wanted a port from 1 to 65535, or auto"),
    ("create a -k worker --endpoint rpc=http -- p", "--endpoint: found 'http', wanted a port from 1 to 65535, or auto"),
    ("create a -k worker --endpoint =80 -- p", "--endpoint: found the endpoint '', wanted letters, digits and dashes, a letter first"),
    ("create a --memory-request lots -- p", f"--memory-request: found 'lots', {MEMORY}"),
    ("create a --memory-limit 1gb -- p", f"--memory-limit: found '1gb', {MEMORY}"),
    ("create a --shm 0 -- p", f"--shm: found '0', {MEMORY}, above zero"),
    ("create a --cpu-limit 0 -- p", "--cpu-limit: found '0', wanted an amount of CPUs such as 2, 0.5 or 500m, above zero"),
    ("create a --gpu a100 -- p", "--gpu: found 'a100', wanted a whole number"),
    ("create a -r 0 -- p", "--max-replicas: found 0, wanted 1 or more"),
    ("create a --restart always -- p", "--restart: found always on a job, wanted it on a worker: runs end when their job ends"),
    ("show a", "found no codespec 'a'; there are none in $T/runs-home/codespecs yet, `hpcrun codespec create` makes one"),
    ("show A", "found 'A', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ("show ../../etc", "found '../../etc', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ("show a/versions/1 --version 2", "--version: found 2 beside a/versions/1, wanted one of both"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "said"), REFUSED)
def test_refused(tmp_path: Path, line: str, said: str) -> None:
    """A bad command line is refused with the option, or the file and line, that is wrong."""
    Path("bad.yaml").write_text("kind: job\ncomand: [a]\n")
    Path("cpu.yaml").write_text("command: [a]\nresources:\n  requests:\n    cpu: two\n")
    assert refused(*line.split()) == said.replace("$T", str(tmp_path))


def test_no_such_version(tmp_path: Path) -> None:
    """A name or version that there is not is answered with those that there are."""
    ran("create", "train", "--", "x")
    where = tmp_path / "runs-home" / "codespecs"
    for words, said in (
        (["trian"], f"found no codespec 'trian' in {where}. Did you mean `train`? `hpcrun codespec list` shows the ones there are"),
        (["train", "--version", "2"], f"found no version 2 of the codespec 'train' in {where}, wanted 1; `hpcrun codespec list` shows the latest ones"),
    ):  # fmt: skip
        done = CliRunner().invoke(main, ["codespec", "show", *words], prog_name="hpcrun")
        assert (done.exit_code, done.stderr) == (2, f"hpcrun: error: {said}\n")


def test_documented_codespecs() -> None:
    """Every codespec of docs/codespecs.md is one that create takes."""
    blocks = re.findall(r"^```yaml codespec\n(.*?)^```$", (ROOT / "docs" / "codespecs.md").read_text(), re.M | re.S)
    assert blocks
    for number, text in enumerate(blocks):
        Path("c.yaml").write_text(text)
        assert ran("create", f"documented-{number}", "-f", "c.yaml") == "1\n"


def test_every_field_is_documented() -> None:
    """docs/codespecs.md names each field of a codespec and each other spelling of one."""
    from hpcrun.codespec import SPELLINGS, Codespec, Resources
    from hpcrun.probes import Probe

    words = set(re.findall(r"\w+", (ROOT / "docs" / "codespecs.md").read_text()))
    names = [*Codespec.model_fields, *Resources.model_fields, *Probe.model_fields, *SPELLINGS]
    assert [name for name in names if name not in words and _camel(name) not in words] == []


def _camel(name: str) -> str:
    return re.sub(r"_(\w)", lambda match: match[1].upper(), name)
