"""Named codespecs: versions that never change, made by several at once, read from files that others wrote."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit.made import settings

from hpcrun import registry, spec, specfile
from hpcrun.codespec import Codespec
from hpcrun.errors import SpecError, UsageError
from hpcrun.fields import Source

WORKER = "kind: worker\ncommand: [serve]\nendpoints: {rpc: auto}\n"


@pytest.fixture
def shelf(tmp_path: Path) -> str:
    """A registry that does not exist yet."""
    return str(tmp_path / "deep" / "codespecs")


def create(shelf: str, name: str, text: str) -> int:
    return registry.create(shelf, name, specfile.parse(text, "given.yaml"))


def put(shelf: str, path: str, text: str | bytes) -> Path:
    """A file of the registry as somebody wrote it by hand."""
    found = Path(shelf, path)
    found.parent.mkdir(parents=True, exist_ok=True)
    found.write_bytes(text if isinstance(text, bytes) else text.encode())
    return found


def pinned(shelf: str, text: str) -> tuple[Source, dict[str, Codespec]]:
    return registry.pinned(spec.spelled(specfile.parse(text, "run.yaml")), shelf)


def refusal(error: type[UsageError], call: Any, *given: Any) -> str:
    with pytest.raises(error) as caught:
        call(*given)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_versions(shelf: str) -> None:
    """Each new codespec is the next version; the latest is what a name means, and the old ones stay as they were."""
    assert [create(shelf, "train", f"command: [train, {n}]") for n in range(1, 12)] == list(range(1, 12))
    assert registry.versions(shelf, "train") == list(range(1, 12))
    assert registry.read(shelf, "train").version == 11
    assert registry.read(shelf, "train", 2).codespec.command == ["train", "2"]
    assert registry.read(shelf, "train", 2).reference == "train/versions/2"


def test_nothing_there(shelf: str) -> None:
    """A registry that does not exist is empty, and asking makes none."""
    assert (registry.latest(shelf), registry.versions(shelf, "a")) == ([], [])
    assert not os.path.exists(shelf)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"home": "/h"}, "/h/codespecs"),
        ({"home": "/h", "codespecs": "/shared/../group"}, "/group"),
        ({"home": "/h", "codespecs": "~/c"}, "{home}/c"),
    ],
)
def test_folder(tmp_path: Path, config: dict[str, str], found: str) -> None:
    """The setting says where codespecs are; by default they are beside the runs."""
    assert registry.folder(settings(**config)) == found.format(home=tmp_path / "home")


def test_what_is_kept(shelf: str) -> None:
    """The file has the author's own units and order, every field in its one spelling and none that says nothing."""
    create(
        shelf,
        "a.b-c_1",
        "args: [x]\nworkingDir: /w\nenv: {B: '1', A: $(B)}\nimage:\nresources: {Requests: {Memory: 1Gi}}\n"
        "command: [a, 1]\nvolume-mounts: [/d]\n",
    )
    assert Path(shelf, "a.b-c_1", "1.yaml").read_text() == (
        "kind: job\ncommand:\n- a\n- 1\nargs:\n- x\nenv:\n  B: '1'\n  A: $(B)\nworking_dir: /w\nresources:\n"
        "  requests:\n    memory: 1Gi\nmounts:\n- /d\n"
    )


SAME = [
    ("command: [a]", "command: [a]\nkind: job"),
    ("command: [a]", "command: [a]\nargs: []\nenv: {}\nmounts: []\nimage:\nworking_dir: ''\nrestart: never"),
    ("command: [a]", "command: [a]\nresources: {requests: {}, gpu: }"),
    ("command: [a]\nresources: {requests: {memory: 1Gi}}", "command: [a]\nresources: {requests: {memory: 1024Mi}}"),
    ("command: [a]\nresources: {limits: {cpu: 2}}", "command: [a]\nresources: {limits: {cpu: 1500m}}"),
    ("command: [a]\nenv: {A: 1, B: x}", "command: [a]\nenv: {B: x, A: '1'}"),
    ("command: [a]\nmounts: [/x, '/y:/z:ro']", "command: [a]\nmounts: [{source: /y, target: /z, readOnly: true}, /x]"),
    (WORKER + "maxReplicas: 4", "max-replicas: 4\n" + WORKER),
    (
        "kind: worker\ncommand: [a]\nendpoints: {a: 1, b: auto}",
        "kind: worker\ncommand: [a]\nendpoints: {b: auto, a: 1}",
    ),
    ("script: |-\n  a\n  b", "script: [a, b]"),
    ("name: x\nversion: 7\ncreatedAt: today\ncommand: [a]", "command: [a]"),
]


@pytest.mark.parametrize(("first", "second"), SAME)
def test_identical(shelf: str, first: str, second: str) -> None:
    """A codespec that says what the latest version says is that version, whatever its spelling and order."""
    assert (create(shelf, "a", first), create(shelf, "a", second)) == (1, 1)
    assert os.listdir(os.path.join(shelf, "a")) == ["1.yaml"]


DIFFERENT = [
    ("command: [a, b]", "command: [b, a]"),
    ("command: [a]\nargs: [x, y]", "command: [a]\nargs: [y, x]"),
    ("command: [a]", "command: [a]\nargs: ['']"),
    ("command: [a]", "command: [a]\nenv: {A: ''}"),
    ("command: [a]\ngpus: 0", "command: [a]"),
    ("command: [a]\nresources: {requests: {cpu: 2}}", "command: [a]\nresources: {limits: {cpu: 2}}"),
    ("command: [a]\nmounts: [/x]", "command: [a]\nmounts: ['/x:/x:ro']"),
    ("command: [a]\nenv: {A: 1, B: $(A)}", "command: [a]\nenv: {B: $(A), A: 1}"),
    ("command: [a]", "kind: worker\ncommand: [a]"),
]


@pytest.mark.parametrize(("first", "second"), DIFFERENT)
def test_different(shelf: str, first: str, second: str) -> None:
    """What changes the meaning makes a version: the order of words, and of variables that refer to others."""
    assert (create(shelf, "a", first), create(shelf, "a", second)) == (1, 2)


def test_only_the_latest_counts(shelf: str) -> None:
    """Going back to what an older version says is a new version."""
    assert [create(shelf, "a", f"command: [{word}]") for word in "xyxx"] == [1, 2, 3, 3]


VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)


@given(st.lists(VALUES, min_size=1), st.dictionaries(st.from_regex(r"[A-FX_]{1,8}", fullmatch=True), VALUES))
def test_any_text_survives(tmp_path_factory: pytest.TempPathFactory, words: list[str], env: dict[str, str]) -> None:
    """Words and variables come back as they went in, in their order, and are identical to themselves."""
    shelf = str(tmp_path_factory.mktemp("shelf"))
    given = Source({"command": ["a", *words], "env": env, "args": words}, {})
    assert [registry.create(shelf, "a", given) for _ in range(2)] == [1, 1]
    found = registry.read(shelf, "a").codespec
    assert (found.command, found.args, list(found.env.items())) == (["a", *words], words, list(env.items()))


def test_one_object_twice(shelf: str) -> None:
    """Values from Python that share a list are written out, for a file with aliases is not read."""
    words = ["a", "b"]
    registry.create(shelf, "a", Source({"command": words, "args": words}, {}))
    assert registry.read(shelf, "a").codespec.args == words


MAKER = """
import sys
from hpcrun import registry
from hpcrun.fields import Source
shelf, who = sys.argv[1:]
sys.stdin.readline()
for n in range(50):
    print(registry.create(shelf, "a", Source({"command": [who, str(n)]}, {})), n)
"""


def test_two_at_once(shelf: str) -> None:
    """Two who create 50 versions each at the same time get 100 numbers, and each number holds what its maker gave."""
    start = [sys.executable, "-c", MAKER, shelf]
    makers = {
        who: subprocess.Popen([*start, who], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for who in "xy"
    }
    for maker in makers.values():
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    got = {}
    for who, maker in makers.items():
        out, _ = maker.communicate(timeout=120)
        assert maker.returncode == 0
        got.update({int(line.split()[0]): [who, line.split()[1]] for line in out.splitlines()})
    assert sorted(got) == list(range(1, 101))
    assert {number: registry.read(shelf, "a", number).codespec.command for number in got} == got
    assert sorted(os.listdir(os.path.join(shelf, "a"))) == sorted(f"{number}.yaml" for number in got)


def test_somebody_was_first(shelf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who loses the race for a number looks again: it takes what is there if that says the same, else the next."""
    link = os.link

    def late(source: str, target: str) -> None:
        monkeypatch.setattr(os, "link", link)
        create(shelf, "a", "command: [other]")
        link(source, target)

    for text, wanted in (("command: [mine]", 2), ("command: [other]", 3)):
        monkeypatch.setattr(os, "link", late)
        assert create(shelf, "a", text) == wanted
    assert [registry.read(shelf, "a", n).codespec.command for n in (1, 2, 3)] == [["other"], ["mine"], ["other"]]


def test_a_stale_listing(shelf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system lists a folder as it was (NFS), a number that is taken is still passed over."""
    for n in range(3):
        create(shelf, "a", f"command: [a, {n}]")
    monkeypatch.setattr(registry, "versions", lambda _shelf, _name: [1])
    assert create(shelf, "a", "command: [new]") == 4


@pytest.mark.parametrize(
    ("umask", "file", "made"), [(0o002, 0o444, 0o775), (0o022, 0o444, 0o755), (0o077, 0o400, 0o700)]
)
def test_rights(tmp_path: Path, umask: int, file: int, made: int) -> None:
    """Files and folders have the umask's rights, nobody writes a version again, and a group's folder stays one."""
    shelf = tmp_path / "shared"
    shelf.mkdir()
    shelf.chmod(0o2775)
    before = os.umask(umask)
    try:
        create(str(shelf), "a", "command: [a]")
    finally:
        os.umask(before)
    assert stat.S_IMODE((shelf / "a" / "1.yaml").stat().st_mode) == file
    assert stat.S_IMODE((shelf / "a").stat().st_mode) == made | stat.S_ISGID


def test_nothing_is_left_behind(shelf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk leaves neither a version nor half of one, and says where and what to do."""

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    said = refusal(UsageError, create, shelf, "a", "command: [a]")
    assert said.startswith(f"{shelf}/a: cannot write the codespec: No space left on device; HPCRUN_CODESPECS")
    assert os.listdir(os.path.join(shelf, "a")) == []


def test_a_registry_that_is_a_file(tmp_path: Path) -> None:
    """Where no folder can be made the message names the path."""
    (tmp_path / "f").write_text("")
    said = refusal(UsageError, create, str(tmp_path / "f"), "a", "command: [a]")
    assert said.startswith(f"{tmp_path}/f/a: cannot write the codespec: Not a directory")


def test_latest(shelf: str) -> None:
    """Alphabetical, each with its latest version; folders without one and names that cannot be are not there."""
    for name in ("b", "a", "a", "ab", "c"):
        create(shelf, name, f"command: [{len(registry.versions(shelf, name))}]")
    for path in ("empty/x", "Upper/1.yaml", "b/02.yaml", "b/-3.yaml", "b/4.yml", "b/.5.yaml.x", "b/6.yaml~", "file"):
        put(shelf, path, "command: [a]")
    assert registry.latest(shelf) == [("a", 2), ("ab", 1), ("b", 1), ("c", 1)]
    assert registry.latest(shelf, "a") == [("a", 2), ("ab", 1)]
    assert registry.latest(shelf, "zz") == []


NAMES = ["", "A", "a b", "a/b", "../a", "/etc", "a\n", "ä", "a\0", "a*", "$(HOME)", "²"]


@pytest.mark.parametrize("name", NAMES)
def test_hostile_name(shelf: str, name: str) -> None:
    """A name that is none is refused in Tyger's words, for reading and writing, before anything is touched."""
    said = (
        "codespec names must contain only lower case letters (a-z), numbers (0-9), dashes (-), underscores (_), "
        f"and dots (.); found {name!r}"
    )
    assert refusal(SpecError, create, shelf, name, "command: [a]") == said
    assert refusal(SpecError, registry.read, shelf, name) == said
    assert not os.path.exists(shelf)


@pytest.mark.parametrize("name", [".", "..", "a" * 201])
def test_impossible_name(shelf: str, name: str) -> None:
    """So is one that no folder can have."""
    for call in (lambda: create(shelf, name, "command: [a]"), lambda: registry.read(shelf, name)):
        assert "wanted" in refusal(SpecError, call)
    assert not os.path.exists(shelf)


BROKEN = [
    ("", ": found nothing, wanted a mapping of fields such as `command:`"),
    (b"\xff", ": found bytes that are not UTF-8, wanted a codespec"),
    ("command: [a", ":1: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    ("command: [a]\ncomand: [b]\n", ":2: comand: found an unknown key. Did you mean `command`?"),
    ("command: a\n", ":1: command: found the text 'a', wanted a list such as [python, train.py]; for shell code use `script`"),
    ("kind: spy\ncommand: [a]\n", ":1: kind: found 'spy', wanted 'job' or 'worker'"),
    ("command: [a]\nenv:\n  SLURM_JOB_ID: 1\n", ":3: env.SLURM_JOB_ID: found SLURM_JOB_ID, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ('command: [a]\n"\\e[2J": 1\n', ":2: \\x1b[2J: found an unknown key."),
    ("command: [a]\nresources: {limits: {memory: " + 400 * "9" + "}}\n", ":2: resources.limits.memory: found 999"),
    ("a: &a [x, x]\nb: &b [*a, *a]\ncommand: [*b, *b]\n", ": found a YAML alias, wanted a codespec as `hpcrun codespec create` writes it"),
    ("# " + 2**20 * "x", ": found more than 1048576 characters, wanted a codespec"),
    (b"\0", ":1: not YAML: found the character '\\x00'"),
    ("[" * 5000, ": "),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BROKEN)
def test_broken_file(shelf: str, text: str | bytes, said: str) -> None:
    """A version that is no codespec is refused with its file and line, and a new one can be made after it."""
    path = put(shelf, "a/1.yaml", text)
    found = refusal(SpecError, registry.read, shelf, "a")
    assert found.startswith(f"{path}{said}")
    assert found.isprintable()
    assert refusal(SpecError, pinned, shelf, "codespec: a\n") == found
    assert create(shelf, "a", "command: [a]") == 2


def test_what_is_no_file(shelf: str, tmp_path: Path) -> None:
    """Links, pipes and folders where a version should be are not followed, waited for or opened."""
    put(shelf, "a/1.yaml", "command: [a]")
    Path(shelf, "a", "2.yaml").symlink_to(Path(shelf, "a", "1.yaml"))
    os.mkfifo(Path(shelf, "a", "3.yaml"))
    Path(shelf, "a", "4.yaml").mkdir()
    said = [refusal(SpecError, registry.read, shelf, "a", n).partition(": ")[2] for n in (2, 3, 4)]
    assert said == [
        "cannot read the codespec: found a symbolic link, wanted a file",
        "cannot read the codespec: found something else than a file",
        "cannot read the codespec: found something else than a file",
    ]
    assert create(shelf, "a", "command: [a]") == 5


def test_written_by_hand(shelf: str) -> None:
    """A version in Tyger's own spelling is read like any other."""
    put(shelf, "a/1.yaml", "kind: worker\nname: b\nversion: 9\nmaxReplicas: 2\ncommand: [a]\nendpoints: {rpc: 1}\n")
    found = registry.read(shelf, "a")
    assert (found.name, found.version, found.codespec.max_replicas, found.codespec.endpoints) == ("a", 1, 2, {"rpc": 1})
    assert set(found.source.values) == {"kind", "max_replicas", "command", "endpoints"}


def test_too_large(shelf: str) -> None:
    """What would not be read again is not written."""
    said = refusal(SpecError, registry.create, shelf, "a", Source({"script": "x" * 2**20}, {}))
    assert said == "found a codespec of 1048595 characters, wanted 1048576 at most"
    assert not os.path.exists(shelf)


def test_pinned(shelf: str) -> None:
    """A name becomes the version that is the latest now, for the job and for the workers; a version stays."""
    for n in range(3):
        create(shelf, "train", f"command: [train, {n}]")
    create(shelf, "serve", WORKER)
    source, models = pinned(shelf, "codespec: train\nworker:\n  codespec: serve\n  replicas: 3\nenv: {A: 1}\n")
    assert source.values == {
        "codespec": "train/versions/3",
        "worker": {"codespec": "serve/versions/1", "replicas": 3},
        "env": {"A": 1},
    }
    assert source.place(("worker", "codespec")).line == 3
    assert {reference: made.command for reference, made in models.items()} == {
        "train/versions/3": ["train", "2"],
        "serve/versions/1": ["serve"],
    }
    again, older = pinned(shelf, "job: {codespec: train/versions/2}\n")
    assert again.values == {"codespec": "train/versions/2"}
    assert older["train/versions/2"].command == ["train", "1"]


@pytest.mark.parametrize(
    "text",
    [
        "command: [a]\n",
        "codespec: {command: [a]}\nworker: {codespec: {command: [b]}}\n",
        "codespec:\nworker:\n",
        "worker: 3\ncodespec: 4\n",
    ],
)
def test_nothing_to_pin(shelf: str, text: str) -> None:
    """A spec that names no codespec stays as it is, right or wrong, and the registry is not asked."""
    put(shelf, "a", "no folder")
    given = spec.spelled(specfile.parse(text, "run.yaml"))
    assert registry.pinned(given, shelf) == (given, {})


REFUSED = [
    ("codespec: serve", "run.yaml:1: codespec: found a codespec of kind worker, wanted one of kind job here"),
    ("job:\n  codespec: serve", "run.yaml:2: job.codespec: found a codespec of kind worker, wanted one of kind job here"),
    ("worker:\n  codespec: train", "run.yaml:2: worker.codespec: found a codespec of kind job, wanted one of kind worker here"),
    ("codespec: trian", "run.yaml:1: codespec: found no codespec 'trian' in {shelf}. Did you mean `train`? `hpcrun codespec list` shows the ones there are"),
    ("codespec: zzz", "run.yaml:1: codespec: found no codespec 'zzz' in {shelf}. `hpcrun codespec list` shows the ones there are"),
    ("codespec: train/versions/3", "run.yaml:1: codespec: found no version 3 of the codespec 'train' in {shelf}, wanted 1 to 2; `hpcrun codespec list` shows the latest ones"),
    ("worker: {codespec: serve/versions/2}", "run.yaml:1: worker.codespec: found no version 2 of the codespec 'serve' in {shelf}, wanted 1; `hpcrun codespec list` shows the latest ones"),
    ("codespec: train/versions/0", "run.yaml:1: codespec: found 'train/versions/0', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ("codespec: ../train", "run.yaml:1: codespec: found '../train', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ("codespec: ..", "run.yaml:1: codespec: found '..', which is a folder's own name; wanted another one"),
    ("codespec: ''", "run.yaml:1: codespec: found '', wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"),
    ("codespec: train/versions/" + 5000 * "9", "run.yaml:1: codespec: found 'train/versions/999"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_refused_reference(shelf: str, text: str, said: str) -> None:
    """A reference to nothing, or to the wrong kind, is refused at the field that its author wrote."""
    create(shelf, "train", "command: [a]")
    create(shelf, "train", "command: [b]")
    create(shelf, "serve", WORKER)
    assert refusal(SpecError, pinned, shelf, text + "\n").startswith(said.format(shelf=shelf))


def test_an_empty_registry(shelf: str) -> None:
    """Where there is none at all the message says how to make one."""
    said = refusal(SpecError, pinned, shelf, "codespec: a\n")
    assert said == (
        f"run.yaml:1: codespec: found no codespec 'a'; there are none in {shelf} yet, `hpcrun codespec create` makes one"
    )
