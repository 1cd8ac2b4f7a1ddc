"""What everybody does first, on every release of Slurm and without accounting: the smoke set (``pytest -m smoke``).

The other tests of this folder look closely at one release; these see that nothing is broken on another.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from containers import User
from gangs import asked, gone, with_workers
from trouble import UNTIL_TOLD
from waiting import until

pytestmark = pytest.mark.smoke


def test_an_array_with_failures(user: User) -> None:
    """The run is partial; table, logs, list, wait and results tell the same, and say why."""
    script = """
        echo "reading part $HPCRUN_SHARD_INDEX"
        echo "$HPCRUN_SHARD_INDEX" >"$HPCRUN_RESULTS_DIR/$HPCRUN_SHARD_INDEX"
        case $HPCRUN_SHARD_INDEX in 1) echo "disk quota exceeded"; exit 9;; 2) kill -KILL $$;; esac
    """
    done = user.hpcrun("run", "--name", "tour", "-N", "5", "--", "bash", "-c", script)
    assert done.returncode == 3, done.stderr
    assert "succeeded  3  0,3,4" in done.stdout
    assert "  disk quota exceeded\n" in done.stdout
    status = user.status("last")
    assert [(shard["exit_code"], shard["signal"]) for shard in status["shards"][1:3]] == [(9, 0), (None, 9)]
    assert (status["status"], status["failedIndexes"]) == ("partial", "1,2")
    assert user.hpcrun("logs", "last", "--shard", "3").stdout == "reading part 3\n"
    assert user.hpcrun("wait", "-q", "last").returncode == 3
    assert "tour" in user.hpcrun("list").stdout
    folder = json.loads(user.hpcrun("results", "--json", "last").stdout)["folder"]
    assert user.ok("ls", folder).split() == ["0", "1", "2", "3", "4"]
    used = user.hpcrun("usage", "last")
    assert used.returncode == 0, used.stderr


def test_retries(user: User) -> None:
    """A shard that fails is tried again at once while somebody follows, and later by hand."""
    script = "exit $((HPCRUN_ATTEMPT < HPCRUN_SHARD_INDEX ? 3 : 0))"
    done = user.hpcrun("run", "-N", "3", "--retries", "1", "--", "bash", "-c", script)
    assert done.returncode == 3, done.stderr
    assert "; tried again (1 of 1 retries used)" in done.stderr
    assert [shard["attempts"] for shard in user.status("last")["shards"]] == [1, 2, 2]
    again = user.hpcrun("retry", "last", "failed")
    assert again.returncode == 0, again.stderr
    assert user.hpcrun("wait", "-q", "last").returncode == 0
    assert [shard["attempts"] for shard in user.status("last")["shards"]] == [1, 2, 3]


def test_elements_that_are_cancelled(user: User, in_queue: Callable[[], str]) -> None:
    """By scancel, one that runs and one that waits; then the whole run by hpcrun."""
    run_id = user.submit("-N", "4", "--max-parallel", "2", "--", "sleep", "1000")
    until(lambda: user.status(run_id)["counts"].get("running") == 2, what="two running shards")
    job = user.status(run_id)["jobs"][0]
    user.ok("scancel", f"{job}_0", f"{job}_3")
    states = ["cancelled", "running", "running", "cancelled"]
    now = lambda: [shard["state"] for shard in user.status(run_id)["shards"]]  # noqa: E731
    until(lambda: now() == states, what="two that are cancelled, and one more that runs")
    assert user.hpcrun("cancel", run_id).returncode == 0
    assert user.hpcrun("wait", "-q", run_id).returncode == 130
    assert user.status(run_id)["counts"] == {"cancelled": 4}
    until(lambda: in_queue() == "", what="an empty queue")


@pytest.mark.parametrize("topology", ["het", "flat"])
def test_a_job_with_workers(user: User, topology: str) -> None:
    """Job and workers start together, the job knows each address, and nothing is left at the end."""
    path = user.write("run.yaml", json.dumps(with_workers(user, 4, topology=topology)))
    done = user.hpcrun("run", path)
    assert done.returncode == 0, done.stdout + done.stderr
    run_id = user.status("last")["run_id"]
    job = user.results(run_id, "job.*")["job.0.0"]
    assert asked(job) == [f"{run_id} 0 {replica}" for replica in range(4)]
    assert user.hpcrun("logs", "--role", "worker", "--replica", "2").stdout == "worker 2 starts\n"
    gone(user, run_id)


def test_a_worker_that_fails(user: User) -> None:
    """It is named at once, and ends the attempt."""
    spec = with_workers(user, 2, topology="flat", codespec={"command": ["bash", "-c", "echo no model here; exit 4"]})
    done = user.hpcrun("run", user.write("run.yaml", json.dumps(spec)))
    assert done.returncode != 0
    assert "worker" in done.stdout + done.stderr
    assert "no model here" in done.stdout + done.stderr


def test_a_run_after_a_run(user: User) -> None:
    """It starts when the one before has ended well, whoever follows; or never, and says why."""
    first = user.submit("-N", "2", "--", "bash", "-c", UNTIL_TOLD)
    second = user.submit("--after-success", first, "--", "true")
    never = user.submit("--after-fail", first, "--", "true")
    user.end(first)
    assert user.hpcrun("wait", "-q", second).returncode == 0
    assert user.hpcrun("wait", "-q", never).returncode == 1
    assert "has succeeded" in user.hpcrun("status", never).stdout


WORKFLOW = """
workflow:
  tasks:
    - name: server
      script: [exec python3 -m http.server 18201]
      probes: {readiness: {tcp_port: {port: 18201}}}
    - name: asks
      depends_on: [server]
      script:
        - python3 -c 'import urllib.request as r; print(r.urlopen("http://127.0.0.1:18201/").status)'
"""


def test_a_workflow(user: User) -> None:
    """The second task starts when the first answers, on the same node, and the first is ended at the end."""
    done = user.hpcrun("run", user.write("workflow.yaml", WORKFLOW))
    assert done.returncode == 0, done.stdout + done.stderr
    assert user.hpcrun("logs", "last", "--task", "asks").stdout == "200\n"
    gone(user, user.status("last")["run_id"])


def test_a_function(user: User, python: str) -> None:
    """Submitted from a script, it runs on the nodes, and its results come back in order."""
    script = "import hpcrun\nprint(list(hpcrun.map(divmod, range(20), [7] * 20, shards=4)))\n"
    done = user.sh('exec "$1" "$2"', python, user.write("script.py", script))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{[divmod(n, 7) for n in range(20)]}\n"
