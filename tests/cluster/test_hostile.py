"""On the cluster too, what arrives is what was given, byte for byte, and nothing in it is ever run."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import pytest
from containers import RELEASE, Login, User

INJECTED = "/tmp/pwned"
NAMES = [
    "with space", "a'b\"c", f"$(touch {INJECTED})", f"`touch {INJECTED}`", f"x; touch {INJECTED} & touch {INJECTED}",
    "# no comment", "back\\slash \\$HOME", "%j %A %%", "-n --wrap=true", "grüße-日本", "*?[a]{b,c}~!",
]  # fmt: skip
FOLDERS = [name for name in NAMES if RELEASE != "22.05" or "\\" not in name]
"""22.05 drops each backslash of the path in --output, and then has nowhere to write."""
EVERY_NODE = ("login", "c1", "c2", "c3", "c4")


def words(*given: bytes | str) -> str:
    """Shell words for these bytes, in plain ASCII, so that nothing on the way to the cluster can change them."""
    raw = (word if isinstance(word, bytes) else word.encode() for word in given)
    return " ".join("$'" + "".join(f"\\x{byte:02x}" for byte in word) + "'" for word in raw)


@pytest.fixture(autouse=True)
def nothing_injected(login: Login) -> Iterator[None]:
    """No name, argument or value was taken for code, on the login node or on any other."""
    yield
    there = [node for node in EVERY_NODE if login("test", "-e", INJECTED, node=node).returncode == 0]
    for node in there:
        login("rm", "-f", INJECTED, node=node, user="root")
    assert there == []


def log_of(user: User, shard: int = 0) -> bytes:
    """The log of a shard of the last run, whatever bytes are in it."""
    done = user.sh(f'base64 -w0 "$(hpcrun logs last --shard {shard} --path)"')
    assert done.returncode == 0, done.stderr
    return base64.b64decode(done.stdout)


def test_arguments(user: User) -> None:
    """Quotes, expansions, newlines, dashes, empty words and bytes that are no UTF-8."""
    given = [*(name.encode() for name in NAMES), b"", b" ", b"two\nlines\n", b"\xff\xfe", b"$(HPCRUN_RUN_ID)", b"\t"]
    done = user.sh(f"exec hpcrun run --json -- printf '%s\\0' {words(*given)}")
    assert done.returncode == 0, done.stderr
    assert log_of(user).split(b"\0")[:-1] == given


def test_values_of_variables(user: User) -> None:
    """From `--env`, from the submission's environment, and with --export: any bytes, newlines too."""
    value = b"'\"`touch /tmp/pwned`$(touch /tmp/pwned)\\#%j;&\n\xff gr\xc3\xbc\xc3\x9fe"
    setting = words(b"GIVEN=" + value)
    script = f"export KEPT={words(value)}; exec hpcrun run --json --env {setting} -- bash -c {words(SHOW)}"
    done = user.sh(script)
    assert done.returncode == 0, done.stderr
    assert log_of(user) == value + b"|" + value


SHOW = 'printf "%s|%s" "$GIVEN" "$KEPT"'


def test_names_in_slurm(user: User) -> None:
    """Slurm shows each run under its own name, and the comment that a user gave beside the run's id."""
    submitted = [f"hpcrun submit --hold --comment {words(name)} --name {words(name)} -- true" for name in NAMES]
    run_ids = user.sh(" && ".join(submitted)).stdout.split()
    assert len(run_ids) == len(NAMES)
    for run_id, name in zip(run_ids, NAMES, strict=True):
        (job,) = user.status(run_id)["jobs"]
        shown = user.ok("scontrol", "show", "job", job)
        assert f" JobName={name}\n" in shown
        assert f" Comment={name} hpcrun:{run_id}" in shown
    user.ok("scancel", *[user.status(run_id)["jobs"][0] for run_id in run_ids])


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[31mred", "$(touch /tmp/pwned)\n#SBATCH --hold"])
def test_names_that_slurm_cannot_hold(user: User, name: str) -> None:
    """A control character is a question mark in Slurm; the program and hpcrun have the true name."""
    done = user.sh(f"exec hpcrun run --json --name {words(name)} -- printenv HPCRUN_RUN_NAME")
    assert done.returncode == 0, done.stderr
    assert log_of(user).decode() == f"{name}\n"
    status = user.status("last")
    assert status["name"] == name
    shown = user.ok("scontrol", "show", "job", status["jobs"][0])
    held = re.sub(r"[\x00-\x1f]", "?", name)
    assert f" JobName={held}\n" in shown


def test_folders_and_files(user: User) -> None:
    """A hostile run home, working directory and program name are used as they are; the script is sound shell."""
    folder = f"{user.folder}/{''.join(FOLDERS).replace('/', '_')}"
    home, program = f"{folder}/ho me'\"%j%%", "./" + "".join(NAMES[1:5]).replace("/", "_")
    source = user.write("program", '#!/bin/sh\nprintf "%s\\n" "$0" "$PWD" "$HPCRUN_RUN_DIR"\n')
    script = (
        'mkdir -p "$1" && cd "$1" && export HPCRUN_HOME="$2" && cp "$4" "$3" && chmod +x "$3" && '
        'hpcrun submit -N 2 -- "$3" && hpcrun wait last >&2; code=$?; hpcrun logs last --shard 1; '
        'bash -n "$HPCRUN_HOME"/runs/*/scripts/0.sh && echo checked; exit $code'
    )
    done = user.sh(script, folder, home, program, source)
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = done.stdout.split("\n", 1)[0]
    assert done.stdout == f"{run_id}\n{program}\n{folder}\n{home}/runs/{run_id}\nchecked\n"


def test_file_names_that_are_no_text(user: User) -> None:
    """A working directory and a program whose names are no UTF-8."""
    folder = user.folder.encode() + b"/d\xe9j\xe0"
    inside, program = words(folder), words(folder + b"/pr\xf6g")
    made = f"mkdir {inside} && printf '#!/bin/sh\\npwd\\n' >{program} && chmod +x {program}"
    done = user.sh(f"{made} && exec hpcrun run --json --chdir {inside} -- {words(b'./pr' + bytes([0xF6]) + b'g')}")
    assert done.returncode == 0, done.stderr
    assert log_of(user) == folder + b"\n"


def test_a_script_of_a_spec(user: User) -> None:
    """A spec's `script` is bash's business: its quotes, comments, here-documents and percent signs arrive."""
    body = "cat <<'END'\n  $(touch /tmp/pwned) `x` # %j \\\nEND\necho \"it's $((1 + 1))\" # done\n"
    spec = "script: |\n" + "".join(f"  {line}\n" for line in body.splitlines())
    done = user.hpcrun("run", "--json", user.write("hostile spec.yaml", spec))
    assert done.returncode == 0, done.stderr
    assert log_of(user).decode() == "  $(touch /tmp/pwned) `x` # %j \\\nit's 2\n"
