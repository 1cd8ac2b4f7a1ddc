"""What befalls a workflow from outside: its nodes die, its steps are ended, its record cannot be written."""

from __future__ import annotations

import textwrap

from containers import Login, User
from gangs import gone
from trouble import fall_silent
from waiting import until

ON_TWO_NODES = """
sbatch: {exclude: c4}
workflow:
  tasks:
    - name: first
      resources: {nodes: {count: 1}}
      script: [echo attempt $HPCRUN_ATTEMPT]
    - name: pair
      depends_on: [first]
      resources: {nodes: {count: 2}}
      script:
        - cd "$HPCRUN_RESULTS_DIR"
        - echo $SFLOW_TASK_NODE_NAME >"up.$HPCRUN_ATTEMPT.$SFLOW_TASK_PROCESS_ID"
        - until [ -e "go.$HPCRUN_ATTEMPT" ]; do sleep 0.1; done
    - {name: last, depends_on: [pair], script: [touch "$HPCRUN_RESULTS_DIR/last.$HPCRUN_ATTEMPT"]}
"""


def text(user: User, run_id: str, name: str) -> str:
    return user.sh('cat "$HPCRUN_HOME/runs/$1/results/$2" 2>/dev/null', run_id, name).stdout.strip()


def test_a_node_of_a_task_falls_silent(user: User, login: Login) -> None:
    """It is noticed without Slurm's word, and the whole workflow starts again, in another attempt."""
    user.write("hpcrun.toml", 'lost_after = "3s"\n')
    run_id = user.submit(user.write("spec.yaml", textwrap.dedent(ON_TWO_NODES)))
    node = until(lambda: text(user, run_id, "up.0.1"), what="the second process")
    assert f"task pair, process 1 on {node}: its node is silent" in fall_silent(user, run_id, node)
    until(lambda: text(user, run_id, "up.1.1"), what="the second attempt")
    user.ok("touch", f"{user.home}/runs/{run_id}/results/go.1")
    assert user.hpcrun("wait", "-q", run_id).returncode == 0
    status = user.status(run_id)
    assert status["shards"][0]["attempts"] == 2
    assert [task["state"] for task in status["tasks"]] == ["succeeded"] * 3
    assert user.hpcrun("logs", run_id, "--task", "first").stdout == "attempt 1\n"
    gone(user, run_id)


def test_a_step_of_it_is_ended_by_scancel(user: User) -> None:
    """Slurm kills it; its task has failed, and the others are ended with it."""
    run_id = user.submit(user.write("spec.yaml", textwrap.dedent(ON_TWO_NODES)))
    until(lambda: text(user, run_id, "up.0.1"), what="the second process")
    (job,) = user.status(run_id)["jobs"]
    step = until(lambda: user.sh('squeue -h -s -j "$1" -o "%i %j" | grep pair', job).stdout.split(), what="the step")[0]
    user.ok("scancel", step)
    assert user.hpcrun("wait", "-q", run_id).returncode == 1
    status = user.status(run_id)
    assert status["shards"][0]["detail"] == "task pair: was killed, with all of its step"
    assert [task["state"] for task in status["tasks"]] == ["succeeded", "failed", "cancelled"]
    gone(user, run_id)


def test_its_record_cannot_be_written(user: User) -> None:
    """The work goes on; only what tasks did is not told."""
    spec = """
        workflow:
          tasks:
            - {name: one, script: ['rm -r "$HPCRUN_RUN_DIR/tasks"; touch "$HPCRUN_RUN_DIR/tasks"']}
            - {name: two, depends_on: [one], script: ['touch "$HPCRUN_RESULTS_DIR/two"']}
    """
    done = user.hpcrun("run", user.write("spec.yaml", textwrap.dedent(spec)))
    run_id = user.status("last")["run_id"]
    assert done.returncode == 0, done.stdout + done.stderr
    assert user.sh('ls "$HPCRUN_HOME/runs/$1/results"', run_id).stdout.split() == ["tasks", "two"]
