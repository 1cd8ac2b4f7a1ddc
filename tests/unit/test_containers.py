"""Programs inside images: the exact command line of each runtime, and that what it starts gets what was meant."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hpcrun import config, settings_files
from hpcrun.config import Containers
from hpcrun.containers import wrapped
from hpcrun.errors import ConfigError, SpecError
from hpcrun.fields import Source, validated

PODMAN = [
    "podman", "run", "--rm", "{gpu}", "{mounts}", "--workdir={workdir}", "--shm-size={shm}m", "{image}"
]  # fmt: skip
HOSTILE = ["a b", "", "-n", "--", "$(touch x)", "`touch x`", "'\"", "a\nb", "*", "\\", "é", ";", "$HOME", "{image}"]
STEP = (
    'exec srun --overlap --nodes=1 --ntasks=1 --nodelist="${SLURMD_NODENAME:?is not set: pyxis needs a job of Slurm}" '
    '--export=ALL --cpu-bind=none "$@"'
)


def site(runtime: str | None = "apptainer", **fields: Any) -> Containers:
    return Containers.model_validate({"runtime": runtime, **fields} if runtime else fields)


def words(containers: Containers, command: Sequence[str] = ("train", "--fast"), **changes: Any) -> tuple[str, ...]:
    given: dict[str, Any] = {
        "image": "ubuntu:24.04", "mounts": [("/data", "/in", True)], "cwd": "/work", "folders": ["/work", "/runs/a"],
        "gpus": False, "shm": None,
    }  # fmt: skip
    return wrapped(command, containers=containers, **{**given, **changes})


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_apptainer(runtime: str) -> None:
    """Spec's, site's and own folders once each, then the site's options, the image and the program."""
    found = words(site(runtime, options=["--contain"], mounts=["/scratch"]), gpus=True)
    assert found == (
        runtime, "exec", "--nv", "--pwd", "/work", "--bind", "/data:/in:ro", "--bind", "/runs/a:/runs/a",
        "--bind", "/scratch:/scratch", "--bind", "/work:/work", "--contain", "docker://ubuntu:24.04", "train", "--fast",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("ubuntu", "docker://ubuntu"),
        ("registry.example.com:5000/a/b:1", "docker://registry.example.com:5000/a/b:1"),
        ("library://x/y", "library://x/y"),
        ("oras://x/y", "oras://x/y"),
        ("/images/x", "/images/x"),
        ("./x", "./x"),
        ("../x", "../x"),
        ("x.sif", "x.sif"),
        ("$(touch x); `y` '\"", "docker://$(touch x); `y` '\""),
    ],
)
def test_images_of_apptainer(image: str, named: str) -> None:
    """What has a scheme or is a path stays as it is; any other name is one of a registry."""
    found = words(site(), image=image)
    assert found[-3:] == (named, "train", "--fast")


@pytest.mark.parametrize(("gpu", "given"), [(None, ["--nv"]), (["--rocm"], ["--rocm"]), ([], [])])
def test_gpus_of_apptainer(gpu: list[str] | None, given: list[str]) -> None:
    """--nv unless the site says otherwise, and only for programs with GPUs."""
    assert words(site(gpu=gpu), gpus=True)[2 : 2 + len(given) + 1] == (*given, "--pwd")
    assert words(site(gpu=gpu), gpus=False)[2] == "--pwd"


def test_pyxis() -> None:
    """One step on this node; all that is filled in stands behind the shell's code."""
    containers = site("pyxis", options=["--no-container-mount-home"], gpu=["--gres=gpu"], mounts=["/scratch"])
    own = words(containers, gpus=True)
    mounts = "/data:/in:ro,/runs/a:/runs/a,/scratch:/scratch,/work:/work"
    assert own == (
        "sh", "-c", STEP, "sh", "--container-image=ubuntu:24.04", "--container-workdir=/work",
        f"--container-mounts={mounts}", "--no-container-entrypoint", "--gres=gpu", "--no-container-mount-home",
        "--", "train", "--fast",
    )  # fmt: skip
    assert "$(" not in STEP  # which the node would take for a reference to a variable
    entry = words(site("pyxis", options=["--container-entrypoint"]))
    assert "--no-container-entrypoint" not in entry


def test_pyxis_without_mounts() -> None:
    """In / there is no folder to mount, and srun gets no empty option."""
    found = words(site("pyxis"), mounts=[], folders=["/"], cwd="/")
    assert found[4:] == (
        "--container-image=ubuntu:24.04", "--container-workdir=/", "--no-container-entrypoint", "--", "train", "--fast"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("image", "named"),
    [
        ("ubuntu", "ubuntu"),
        ("nvidia/cuda:12", "nvidia/cuda:12"),
        ("docker.io/library/ubuntu:24.04", "docker.io/library/ubuntu:24.04"),
        ("registry.example.com/a/b:1", "registry.example.com#a/b:1"),
        ("docker://registry.example.com/a/b:1", "registry.example.com#a/b:1"),
        ("localhost/a", "localhost#a"),
        ("host:5000/a@sha256:00", "host:5000#a@sha256:00"),
        ("user@registry.example.com/a", "user@registry.example.com#a"),
        ("nvcr.io#nvidia/cuda:12", "nvcr.io#nvidia/cuda:12"),
        ("dockerd://a/b.c/d", "dockerd://a/b.c/d"),
        ("/images/x.sqsh", "/images/x.sqsh"),
        ("./x", "/work/x"),
        ("../x.sqsh", "/x.sqsh"),
        ("x.sqsh", "/work/x.sqsh"),
    ],
)
def test_images_of_pyxis(image: str, named: str) -> None:
    """Names as enroot writes them; paths are those of the working directory."""
    assert words(site("pyxis"), image=image)[4] == f"--container-image={named}"


def test_command() -> None:
    """The site's own template; words of GPUs and of /dev/shm are left out where none are asked for."""
    containers = site("command", command=PODMAN, mount=["-v", "{source}:{target}:{mode}"], gpu=["--device=gpu"])
    mounts = ("-v", "/data:/in:ro", "-v", "/runs/a:/runs/a:rw", "-v", "/work:/work:rw")
    assert words(containers) == (
        "podman", "run", "--rm", *mounts, "--workdir=/work", "ubuntu:24.04", "train", "--fast"
    )  # fmt: skip
    assert words(containers, gpus=True, shm=64) == (
        "podman", "run", "--rm", "--device=gpu", *mounts, "--workdir=/work", "--shm-size=64m", "ubuntu:24.04",
        "train", "--fast",
    )  # fmt: skip


def test_filled_in_once() -> None:
    """What is filled in is not searched for placeholders again, and is one word whatever it holds."""
    containers = site("command", command=PODMAN, mount=["--volume={source}:{target}:{mode}"], gpu=[])
    cwd = "/{image} $(touch x)"
    found = words(
        containers, ["{workdir}"], image="{workdir};", mounts=[("/{target}", "/t", False)], folders=[cwd], cwd=cwd
    )
    assert found == (
        "podman", "run", "--rm", "--volume=/{target}:/t:rw", f"--volume={cwd}:{cwd}:rw", f"--workdir={cwd}",
        "{workdir};", "{workdir}",
    )  # fmt: skip


def test_same_target() -> None:
    """Folders win over the spec's mounts, those over the site's; those above come before those below."""
    containers = site(mounts=["/a:/x", "/b:/y", "/c:/work/"])
    spec = [("/d", "/y/", True), ("/e", "/work", True), ("/f", "/work/sub", True), ("/g", "/work-2", False)]
    found = words(containers, mounts=spec, folders=["/work/", "/work"])
    binds = [word for before, word in itertools.pairwise(found) if before == "--bind"]
    assert binds == ["/work:/work", "/f:/work/sub:ro", "/g:/work-2", "/a:/x", "/d:/y:ro"]


@pytest.mark.parametrize("image", ["", "-x", "--help", "a\nb", "a\0b", "\x7f"])
@pytest.mark.parametrize("runtime", [None, "apptainer", "pyxis"])
def test_no_image(runtime: str | None, image: str) -> None:
    """What is no image's name is refused, for it would be an option or a line of its own."""
    with pytest.raises(SpecError, match="wanted the name or path of a container image") as caught:
        words(site(runtime), image=image)
    assert caught.value.field == "image"


def test_no_runtime() -> None:
    """An image needs a runtime; the error says where one is configured."""
    with pytest.raises(SpecError) as caught:
        words(Containers(), image="x")
    assert str(caught.value) == (
        "image: found the image 'x', and no container runtime is configured; wanted [containers] with a runtime in "
        "hpcrun.toml (docs/settings.md), or a spec without image"
    )


@pytest.mark.parametrize(
    ("runtime", "path", "signs"),
    [
        ("apptainer", "/a,b", '" , : \\'), ("apptainer", "/a:b", '" , : \\'), ("apptainer", "/a\\", '" , : \\'),
        ("apptainer", '/"', '" , : \\'), ("apptainer", "/a\nb", '" , : \\'),
        ("pyxis", "/$(touch x)", '" $ , : \\ `'), ("pyxis", "/`touch x`", '" $ , : \\ `'),
    ],
)  # fmt: skip
def test_paths_that_cannot_be_mounted(runtime: str, path: str, signs: str) -> None:
    """A path that would read as several mounts, or as code, is refused wherever it comes from."""
    for changes in ({"folders": [path]}, {"mounts": [(path, "/t", False)]}, {"mounts": [("/s", path, False)]}):
        with pytest.raises(SpecError) as caught:
            words(site(runtime), **changes)
        assert caught.value.problem == (
            f"found the path {path!r}, which {runtime} cannot be told to mount; wanted a path without {signs} and "
            "control characters, or a spec without image"
        )


def test_read_only_without_mode() -> None:
    """A template that cannot say read-only is not given what must not be written."""
    containers = site("command", command=["ch-run", "{mounts}", "{image}"], mount=["-b", "{source}:{target}"])
    with pytest.raises(SpecError, match="found /in to mount read-only") as caught:
        words(containers)
    assert caught.value.field == "mounts"
    assert words(containers, mounts=[])[:3] == ("ch-run", "-b", "/runs/a:/runs/a")


def test_colon_under_pyxis() -> None:
    """srun would take what follows the argument : for another program."""
    with pytest.raises(SpecError, match="found the argument ':'") as caught:
        words(site("pyxis"), ["a", ":", "b"])
    assert caught.value.field == "command"


SAYS = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"

APPTAINER = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
assert words.pop(0) == "exec"
if words[0] == "--nv":
    words.pop(0)
assert words.pop(0) == "--pwd"
where = words.pop(0)
while words[0] == "--bind":
    words.pop(0)
    source, target, *mode = words.pop(0).split(":")
    assert mode in ([], ["ro"]) and os.path.isdir(source) and target.startswith("/"), (source, target, mode)
assert words.pop(0) == "docker://$(touch x); 'a'\\"", words
os.chdir(where)
os.execvp(words[0], words)
"""

SRUN = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
with open(os.environ["SRUN_SAID"], "w") as file:
    file.write("\\0".join(words))
words = words[words.index("--") + 1 :]
os.chdir(os.environ["WHERE"])
os.execvp(words[0], words)
"""


def run(words: Sequence[str], folder: Path, **env: str) -> tuple[list[str], str, dict[str, str], dict[str, str]]:
    """Run the words with the stand-ins of `folder` first on PATH; argv, cwd and env there, and the env given."""
    environ = {"PATH": f"{folder}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "ODD": "a\nb '\"$(touch x)", **env}
    done = subprocess.run(words, env=environ, capture_output=True, text=True, check=True, timeout=60, cwd=folder)
    argv, cwd, found = json.loads(done.stdout)
    return argv, cwd, found, environ


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o755)


@pytest.mark.parametrize("gpus", [False, True])
def test_through_apptainer(tmp_path: Path, gpus: bool) -> None:
    """Arguments, working directory and environment arrive byte for byte."""
    stand_in(tmp_path, "apptainer", APPTAINER)
    cwd = tmp_path / "a b '$(touch x)` é"
    cwd.mkdir()
    made = words(
        site(), [sys.executable, "-c", SAYS, *HOSTILE, ":"], image="$(touch x); 'a'\"", cwd=str(cwd), gpus=gpus,
        folders=[str(cwd), str(tmp_path)], mounts=[(str(tmp_path), "/in x", True)],
    )  # fmt: skip
    argv, where, found, given = run(made, tmp_path)
    assert (argv, where, found) == ([*HOSTILE, ":"], str(cwd), given)
    assert not any(path.name == "x" for path in tmp_path.rglob("*"))


def test_through_pyxis(tmp_path: Path) -> None:
    """A real sh hands srun every word as it is, and the name of its node."""
    stand_in(tmp_path, "srun", SRUN)
    cwd = tmp_path / "a b ' é"
    cwd.mkdir()
    image = "$(touch x);'`touch x`\" *"
    made = words(
        site("pyxis", options=["--comment=$(touch x) 'y'"]), [sys.executable, "-c", SAYS, *HOSTILE], image=image,
        cwd=str(cwd), folders=[str(cwd)], mounts=[],
    )  # fmt: skip
    said = tmp_path / "said"
    argv, where, found, given = run(made, tmp_path, SLURMD_NODENAME="n 1*", SRUN_SAID=str(said), WHERE=str(cwd))
    assert said.read_text().split("\0") == [
        "--overlap", "--nodes=1", "--ntasks=1", "--nodelist=n 1*", "--export=ALL", "--cpu-bind=none",
        f"--container-image={image}", f"--container-workdir={cwd}", f"--container-mounts={cwd}:{cwd}",
        "--no-container-entrypoint", "--comment=$(touch x) 'y'", "--", sys.executable, "-c", SAYS, *HOSTILE,
    ]  # fmt: skip
    assert argv == HOSTILE
    assert where == str(cwd)
    assert {name: value for name, value in found.items() if name not in ("PWD", "OLDPWD", "_")} == given
    assert not any(path.name == "x" for path in tmp_path.rglob("*"))


def test_pyxis_outside_of_slurm(tmp_path: Path) -> None:
    """Where no job of Slurm is around, it says so and starts nothing."""
    done = subprocess.run(
        words(site("pyxis")), env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode != 0
    assert "SLURMD_NODENAME: is not set: pyxis needs a job of Slurm" in done.stderr


WORD_WANTED = "wanted it as a word of its own: several words may stand there"
GIVEN = 'runtime = "command"\n'
WHOLE = GIVEN + 'command = ["p", "{mounts}", "{image}"]\nmount = ["-v{source}:{target}"]\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('runtme = "pyxis"', "runtme: found an unknown key. Did you mean `runtime`?"),
        ('runtime = "docker"', "runtime: found 'docker', wanted 'apptainer', 'singularity', 'pyxis' or 'command'"),
        ('command = ["p"]', 'command: found a template beside no runtime, wanted runtime = "command" or no `command`'),
        ('runtime = "pyxis"\nmount = ["x"]', 'mount: found a template beside runtime = "pyxis", wanted runtime = "command" or no `mount`'),
        ('runtime = "apptainer"\noptions = ["--containall"]', "options: found --containall, under which programs do not see the variables that tell them who they are; wanted --contain, --pid, --ipc or others that leave the environment alone"),
        ('runtime = "singularity"\noptions = ["--cleanenv=true"]', "options: found --cleanenv=true, under which"),
        (GIVEN, 'command: found no program, wanted words such as ["podman", "run", "--rm", "{mounts}", "{image}"]'),
        (GIVEN + 'command = [""]', "command: found no program"),
        (GIVEN + 'command = "podman {image}"', "command: found 'podman {image}', wanted a list"),
        (GIVEN + 'command = ["a\\nb", "{image}"]', "command[0]: found a control character in 'a\\nb', wanted a single line"),
        (GIVEN + 'command = ["p"]', "command: found no {image} in it, wanted the word where the image's name stands"),
        (GIVEN + 'command = ["p", "{imgae}"]', "command: found {imgae} in '{imgae}'. Did you mean `image`?"),
        (GIVEN + 'command = ["p", "{}"]', "command: found {} in '{}'. Wanted one of: gpu, image, mounts, shm, workdir"),
        (GIVEN + 'command = ["p", "{source}"]', "command: found {source} in '{source}'. Wanted one of: gpu, image, mounts, shm, workdir"),
        (WHOLE.replace("{mounts}", "-v{mounts}"), f"command: found {{mounts}} in '-v{{mounts}}', {WORD_WANTED}"),
        (GIVEN + 'command = ["p", "-{gpu}"]', f"command: found {{gpu}} in '-{{gpu}}', {WORD_WANTED}"),
        (GIVEN + 'command = ["sh", "-c", "p {image}"]', "command: found a blank in 'p {image}', wanted one word: what is filled in must not become code of a shell"),
        (GIVEN + 'command = ["p", "--shm-size", "{shm}m", "{image}"]', "command: found '{shm}m', wanted option and value in one word, for it is left out where no shm is asked for"),
        (WHOLE + 'options = ["-x"]', 'options: found options beside runtime = "command", wanted them among the words of `command`'),
        (WHOLE.replace("{target}", "{image}"), "mount: found {image} in '-v{source}:{image}'. Wanted one of: mode, source, target"),
        (WHOLE.replace("{target}", "/x"), 'mount: found a mount without {source} and {target}, wanted such as "--volume={source}:{target}:{mode}"'),
        (WHOLE.replace('"{mounts}", ', ""), "mount: found `mount`, and no word {mounts} in `command` to put it; wanted both"),
        (GIVEN + 'command = ["p", "{mounts}", "{image}"]', "command: found the word {mounts}, and no `mount` that says what stands there; wanted both"),
        (WHOLE + 'gpu = ["-g"]', "gpu: found `gpu`, and no word {gpu} in `command` to put it; wanted both"),
        (GIVEN + 'command = ["p", "{gpu}", "{image}"]', "command: found the word {gpu}, and no `gpu` that says what stands there; wanted both"),
        ('mounts = ["data"]', "mounts: found 'data' in 'data', wanted an absolute path without , and :"),
    ],
)  # fmt: skip
def test_settings_that_are_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    """Each has one clear error, with the key and its line."""
    monkeypatch.setattr(settings_files, "SITE_FILE", str(tmp_path / "none"))
    (tmp_path / "hpcrun.toml").write_text(f"[containers]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        config.load({"HOME": str(tmp_path)}, str(tmp_path))
    assert f"{caught.value.field}: {caught.value.problem}".startswith(f"containers.{said}")
    key = caught.value.field.split(".")[1].split("[")[0]
    lines = (tmp_path / "hpcrun.toml").read_text().splitlines()
    wanted = [number for number, line in enumerate(lines, 1) if line.startswith(f"{key} ")]
    assert caught.value.line == (wanted[0] if wanted else 1)


def test_settings_of_the_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every example of docs/settings.md can be used, and a table without a runtime is none."""
    text = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```toml\n")[1:]]
    tables = [block for block in blocks if "[containers]" in block]
    monkeypatch.setattr(settings_files, "SITE_FILE", str(tmp_path / "none"))
    runtimes = []
    for table in tables:
        (tmp_path / "hpcrun.toml").write_text(table)
        found = config.load({"HOME": str(tmp_path)}, str(tmp_path)).containers
        assert words(found, mounts=[])[-2:] == ("train", "--fast")
        runtimes.append(found.runtime)
    assert runtimes == ["apptainer", "pyxis", "command"]
    assert validated(Containers, Source({}, {})) == Containers()
