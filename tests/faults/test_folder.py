"""The run folder is full, read-only, gone or garbled."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Iterator

import pytest
from containers import Login, User, container, docker
from trouble import UNTIL_TOLD, end, running
from waiting import until


@pytest.fixture
def small(user: User) -> Iterator[User]:
    """The ordinary user with a run home on a shared file system of 8 MiB."""
    user.home = f"/small/{uuid.uuid4().hex[:8]}"
    yield user
    user.sh("scancel --me; rm -rf /small/*")


@contextlib.contextmanager
def full(user: User) -> Iterator[None]:
    """Not a byte more can be written where run folders are."""
    fill = "dd if=/dev/zero of=/small/full bs=4k 2>/dev/null; df --output=avail /small | tail -n 1"
    assert user.sh(fill).stdout.strip() == "0"
    try:
        yield
    finally:
        user.ok("rm", "/small/full")


@contextlib.contextmanager
def read_only(user: User) -> Iterator[None]:
    """Nothing can be changed where run folders are, on any node."""
    remount("ro")
    try:
        yield
    finally:
        remount("rw")


def remount(how: str) -> None:
    # All containers share one file system, and one that may mounts it anew for all.
    docker(
        "run", "--rm", "--cap-add", "SYS_ADMIN", "--security-opt", "apparmor=unconfined", "--volumes-from",
        container("login"), "--entrypoint", "mount", image(), "-o", f"remount,{how}", "/small",
    )  # fmt: skip


def image() -> str:
    return docker("inspect", "--format", "{{.Config.Image}}", container("login")).strip()


@contextlib.contextmanager
def forbidden(user: User) -> Iterator[None]:
    """Nothing can be changed in the run folders that are there."""
    user.sh('chmod -R a-w "$HPCRUN_HOME"')
    try:
        yield
    finally:
        user.sh('chmod -R u+w "$HPCRUN_HOME"')


TROUBLES = {"full": (full, "No space left on device"), "read-only": (read_only, "Read-only file system")}
MEANWHILE = {"full": full, "read-only": forbidden}


@pytest.mark.parametrize("how", TROUBLES)
def test_a_folder_that_takes_nothing_at_submission(small: User, in_queue: Callable[[], str], how: str) -> None:
    """One error with path and reason; nothing is submitted and nothing left."""
    trouble, words = TROUBLES[how]
    small.ok("mkdir", "-p", f"{small.home}/runs")
    with trouble(small):
        done = small.hpcrun("submit", "-N", "3", "--", "true")
    assert done.returncode == 1
    assert words in done.stderr
    assert "nothing was submitted" in done.stderr
    assert small.sh('ls "$HPCRUN_HOME/runs"').stdout == ""
    assert in_queue() == ""


@pytest.mark.full
@pytest.mark.parametrize("how", MEANWHILE)
def test_a_folder_that_takes_nothing_while_a_run_goes_on(small: User, in_queue: Callable[[], str], how: str) -> None:
    """Nothing hangs and nothing is called a success that is not known to be one; afterwards a retry makes it good."""
    signs = f"/shared/signs.{uuid.uuid4().hex[:8]}"
    script = f"until [ -e {signs} ]; do sleep 0.1; done"
    run_id = small.submit("-N", "4", "--max-parallel", "2", "--", "bash", "-c", script)
    running(small, run_id, 2)
    with MEANWHILE[how](small):
        small.ok("touch", signs)
        until(lambda: in_queue() == "", 180, "an empty queue")
        during = small.hpcrun("status", run_id)
        assert "Traceback" not in during.stdout + during.stderr
        # Those that ran to their end may have got that down, where there was room for a line.
        states = [one["state"] for one in small.status(run_id)["shards"]]
        assert states[2:] == ["failed", "failed"], during.stdout
    waited = small.hpcrun("wait", "-q", run_id)
    if waited.returncode:  # what somebody who follows could not know to be worth another try
        assert small.hpcrun("retry", "-f", run_id).returncode == 0
    assert small.status(run_id)["counts"] == {"succeeded": 4}


def test_a_folder_that_is_removed_while_a_run_goes_on(user: User, in_queue: Callable[[], str]) -> None:
    """Everybody is told by name, no further shard runs, and nothing is left in the queue or on a node."""
    other = user.submit("--", "bash", "-c", UNTIL_TOLD)
    script = f'touch "{user.home}/ran.$HPCRUN_SHARD_INDEX"; while [ -e "$HPCRUN_RUN_DIR" ]; do sleep 0.1; done'
    run_id = user.submit("-N", "5", "--max-parallel", "2", "--retries", "2", "--", "bash", "-c", script)
    running(user, run_id, 2)
    running(user, other)
    follow = 'setsid bash -c \'hpcrun wait "$1" >said 2>&1; echo "exit code $?" >>said\' bash "$1" >/dev/null 2>&1 &'
    user.sh(follow, run_id)
    user.ok("rm", "-rf", f"{user.home}/runs/{run_id}")
    until(lambda: "exit code" in user.login("cat", f"{user.folder}/said").stdout, what="the end of the follower")
    said = user.read(f"{user.folder}/said")
    assert "exit code 0" not in said
    assert "Traceback" not in said
    assert f"no run '{run_id}'" in user.hpcrun("status", run_id).stderr
    until(lambda: len(in_queue().splitlines()) == 1, what="only the other run's job in the queue")
    assert user.sh('ls "$HPCRUN_HOME"').stdout.count("ran.") == 2
    until(lambda: user.left(run_id) == "", what="the end of its processes")
    end(user, other)
    assert user.hpcrun("wait", "-q", other).returncode == 0


GARBLES = """
# Garbles the files of a run in many ways, and asks after each how the run is. Prints what went wrong.
import json, os, random, sys, traceback
from hpcrun.errors import HpcrunError
from hpcrun.run import Run, all_paths, find
path, seed = sys.argv[1], int(sys.argv[2])
dice = random.Random(seed)
def ways(good):
    lines = good.split(b"\\n")
    yield b""
    for _ in range(6):
        yield good[:dice.randrange(len(good))]
    for _ in range(6):
        at = dice.randrange(len(good))
        yield good[:at] + bytes([dice.randrange(256)]) + good[at + 1:]
    yield bytes(dice.randrange(256) for _ in range(len(good)))
    yield good[dice.randrange(len(good)):]
    yield good + b'{"format":1,"event":"end"'
    yield b"\\n".join(reversed(lines))
    yield b"\\n".join(lines * 2)
    for line in (
        b"{}", b"[]", b"null", b"17", b'{"format":1}', b'{"format":1,"event":7}', b'{"format":1,"event":"start"}',
        b'{"format":1,"event":"end"}', b'{"format":99,"event":"start","at":1}', b'"' + b"x" * 5000,
    ):
        yield line + b"\\n"
        yield good + line + b"\\n"
    for key in json.loads(lines[0]) if lines[0].startswith(b"{") and lines[0].endswith(b"}") else ():
        first = json.loads(lines[0])
        yield b"\\n".join([json.dumps({**first, key: None}).encode(), *lines[1:]])
        yield b"\\n".join([json.dumps({**first, key: [{"x": "y"}]}).encode(), *lines[1:]])
    yield b"\\xff\\xfe" + good
before = Run(path).status()
wrong, asked = [], 0
for name in sys.argv[3:]:
    whole = os.path.join(path, name)
    own = {int(part.partition(".")[0]) for part in name.split("/")[3:]}
    good = open(whole, "rb").read()
    for bad in ways(good):
        with open(whole, "wb") as file:
            file.write(bad)
        asked += 1
        try:
            after = Run(path).status()
            json.dumps(after.to_json())
            others = [a for a, b in zip(after.shards, before.shards) if a != b and a.index not in own]
            if name.startswith("records") and others:
                wrong.append(f"{name}: {bad[:200]!r}: other shards changed: {others[:1]}")
        except HpcrunError as error:
            if not str(error):
                wrong.append(f"{name}: {bad[:200]!r}: an error without a word")
            if name.startswith("records"):
                wrong.append(f"{name}: {bad[:200]!r}: {error}")
        except Exception:
            wrong.append(f"{name}: {bad[:200]!r}: {traceback.format_exc().splitlines()[-3:]}")
    with open(whole, "wb") as file:
        file.write(good)
if Run(path).status().shards != before.shards:
    wrong.append("the run is not what it was")
print(json.dumps({"asked": asked, "wrong": wrong}))
"""


@pytest.mark.parametrize("what", ["records", "plan", "ledger", "silence"])
def test_a_garbled_file(user: User, what: str) -> None:
    """Status says what it can or refuses with the reason, never with a traceback; other shards are not concerned."""
    done = user.hpcrun("run", "-N", "4", "--retries", "1", "--retry", "in_place", "--",
                       "bash", "-c", "exit $(((HPCRUN_SHARD_INDEX + HPCRUN_ATTEMPT) % 3))")  # fmt: skip
    run_id = user.status("last")["run_id"]
    folder = f"{user.home}/runs/{run_id}"
    if what == "silence":
        end_of = '{"format":1,"event":"end","at":1.0,"exit_code":-1,"signal":0,"cause":"node_failed","again":true}\n'
        user.login("bash", "-c", 'cat >"$1"', "bash", f"{folder}/records/0/000/1.silent", input=end_of)
    files = {
        "records": ["records/0/000/0.jsonl", "records/0/000/1.jsonl", "records/1/000/1.jsonl"],
        "plan": ["plan.json"], "ledger": ["submission.jsonl"], "silence": ["records/0/000/1.silent"],
    }  # fmt: skip
    program = user.write("garbles.py", GARBLES)
    found = user.sh('/opt/hpcrun/bin/python "$@"', program, folder, "20", *files[what], timeout=240)
    assert found.returncode == 0, found.stderr
    told = json.loads(found.stdout)
    assert told["wrong"] == [], "\n".join(told["wrong"][:20])
    assert told["asked"] > 30
    assert done.returncode in (0, 3)


def test_a_garbled_record_is_told(user: User, login: Login) -> None:
    """A shard whose end can no longer be read has no end: it is called lost, the others are what they were."""
    run_id = user.submit("-N", "3", "--", "true")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    record = f"{user.home}/runs/{run_id}/records/0/000/1.jsonl"
    user.sh('start=$(head -n 1 "$1"); { echo "$start"; echo \'{"format":1,"event":"en\'; } >"$1"', record)
    done = user.hpcrun("status", run_id)
    assert done.stderr == ""
    assert [one["state"] for one in user.status(run_id)["shards"]] == ["succeeded", "failed", "succeeded"]
    user.sh('echo "not a plan" >"$HPCRUN_HOME/runs/$1/plan.json"', run_id)
    refused = user.hpcrun("status", run_id)
    assert refused.returncode == 1
    assert "plan.json" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert user.hpcrun("list").returncode == 0
