"""Scripts as sites publish them, by sbatch and by `hpcrun sbatch` with and without retries: the same comes of them."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from containers import Login, User
from scripts.corpus import FOLDER, FOLDERS, SCRIPTS, left, plain
from waiting import until

WAYS = {"sbatch": "command sbatch", "hpcrun": "hpcrun sbatch", "retries": "hpcrun sbatch --retries 1"}
"""What `sbatch` stands for, as an alias would have it."""

KEPT = re.compile(r"^hpcrun: run \w+: `hpcrun status \w+` shows it\n", re.MULTILINE)
"""What hpcrun says besides, where it carries out the script."""

TRIED = {
    (way, script.name): script for way in WAYS for script in SCRIPTS if way != "retries" or script.retries
}  # fmt: skip

SUBMIT = """
import concurrent.futures, json, os, shutil, subprocess, sys
given = json.load(sys.stdin)

def submit(one):
    os.makedirs(one["folder"])
    for name in given["folders"]:
        os.mkdir(one["folder"] + "/" + name)
    for name, text in given["files"].items():
        with open(one["folder"] + "/" + name, "w") as file:
            file.write(text)
    alias = "sbatch() { " + one["way"] + ' "$@"; }\\n'
    done = subprocess.run(
        ["bash", "-c", alias + one["call"]], cwd=one["folder"], env={**os.environ, "HPCRUN_HOME": given["home"]},
        stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )
    return done.stdout, done.stderr

with concurrent.futures.ThreadPoolExecutor(4) as pool:
    print(json.dumps(list(pool.map(submit, given["calls"]))))
"""
"""Makes each submission in a folder of its own; what each has printed."""

READ = """
import json, os, sys
found = {}
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = folder + "/" + name
        found[os.path.relpath(path, sys.argv[1])] = open(path, errors="replace").read()
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ended(login: Login) -> dict[tuple[str, str], Any]:
    """What each script has printed and left in each way: all are submitted at once and waited for together."""
    user = User(login, f"/shared/tests/{uuid.uuid4().hex[:12]}")
    files = {path.name: path.read_text() for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".pyc"}
    calls = [
        {"way": WAYS[way], "call": script.call, "folder": f"{user.folder}/{way}/{name}"}
        for (way, name), script in TRIED.items()
    ]
    given = {"files": files, "folders": FOLDERS, "calls": calls, "home": user.home}
    said = json.loads(user.ok("python3", "-c", SUBMIT, input=json.dumps(given), timeout=600))
    printed = dict(zip(TRIED, said, strict=True))
    warned = [key for key, script in TRIED.items() if script.warned]
    for key in warned:
        _warn(user, f"{user.folder}/{'/'.join(key)}", printed[key][0].split()[-1])
    for key in warned:
        user.restart(printed[key][0].split()[-1])
    until(lambda: not user.login("squeue", "--noheader", "--me").stdout, 300, "an empty queue")
    found = {}
    for way, name in TRIED:
        folder = f"{user.folder}/{way}/{name}"
        texts = json.loads(user.ok("python3", "-c", READ, folder))
        found[way, name] = (folder, printed[way, name], texts)
    return found


def _warn(user: User, folder: str, job: str) -> None:
    """Warn a job as Slurm would before its time limit."""
    until(lambda: user.login("test", "-e", f"{folder}/requeue.ready").returncode == 0, 120, "a job to run")
    user.ok("scancel", "--batch", "--signal=USR1", job)


@pytest.mark.parametrize("way", WAYS)
def test_scripts(ended: dict[tuple[str, str], Any], way: str) -> None:
    """What the call prints, what each job prints, and where."""
    found, wanted = {}, {}
    for (tried, name), script in TRIED.items():
        if tried == way:
            folder, (stdout, stderr), texts = ended[way, name]
            found[name] = (plain(stdout, folder), KEPT.sub("", stderr), left(texts, script.leaves, folder))
            wanted[name] = (script.prints, "", {pattern: [lines] for pattern, lines in script.leaves.items()})
    different = {name: found[name] for name in found if found[name] != wanted[name]}
    assert different == {name: wanted[name] for name in different}
