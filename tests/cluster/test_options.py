"""What sbatch is told: its own options, pools and machines, prologue and template, and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest
from containers import RELEASE, Login, User

Show = Callable[..., dict[str, str]]


@pytest.fixture
def held(user: User) -> Iterator[Show]:
    """Submits a run on hold with these options; what `scontrol show job` says of it, by name."""
    jobs: list[str] = []

    def show(*options: str) -> dict[str, str]:
        run_id = user.submit("--hold", *options)
        (job,) = user.status(run_id)["jobs"]
        jobs.append(job)
        shown = user.ok("scontrol", "show", "job", job)
        return {"run_id": run_id, **fields(shown)}

    yield show
    user.login("scancel", *jobs)


def fields(shown: str) -> dict[str, str]:
    """`NAME=VALUE` pairs; a comment has spaces and ends its line."""
    found = dict(pair.split("=", 1) for pair in shown.split() if "=" in pair)
    comment = re.search(r"^ *Comment=(.*?) *$", shown, re.MULTILINE)
    return found | {"Comment": comment[1] if comment else ""}


def test_options_of_sbatch_reach_slurm(held: Show) -> None:
    """By their long names or letters, before the command; the user's comment stands beside ours."""
    found = held(
        "-p", "gpu", "--time", "1:30:00", "--nodelist", "c[3-4]", "--exclude", "c1,c2", "--exclusive", "--nice=7",
        "--begin", "2033-01-01T00:00:00", "--comment", "mine; see #5", "--mail-type", "END,FAIL",
        "--mail-user", "somebody@example.org", "--signal", "B:USR1@120", "--no-requeue", "--qos", "normal",
        "--", "true",
    )  # fmt: skip
    expected = {
        "Partition": "gpu", "TimeLimit": "01:30:00", "ReqNodeList": "c[3-4]", "ExcNodeList": "c[1-2]", "Nice": "7",
        "OverSubscribe": "NO", "EligibleTime": "2033-01-01T00:00:00", "MailType": "END,FAIL",
        "MailUser": "somebody@example.org", "Requeue": "0", "JobState": "PENDING", "QOS": "normal",
        "Comment": f"mine; see #5 hpcrun:{found['run_id']}",
    }  # fmt: skip
    assert {name: found.get(name) for name in expected} == expected


def test_dependencies(user: User, held: Show) -> None:
    """A run can wait for another job, and a run that waits says for what."""
    job = held("--", "true")["JobId"]
    found = held("-N", "3", "--dependency", f"afterok:{job}", "--", "true")
    assert found["Dependency"] == f"afterok:{job}(unfulfilled)"


def test_sizes(held: Show) -> None:
    """`--mem` is of one process, `-c` its CPUs: Slurm is asked for the share of each CPU."""
    found = held("-N", "2", "--mem", "3000M", "-c", "2", "--", "true")
    assert (found["CPUs/Task"], found["MinMemoryCPU"], found["NumTasks"]) == ("2", "1500M", "1")
    assert (found.get("ReqTRES") or found["TRES"]).startswith("cpu=2,mem=3000M,")


def test_pools_and_machines(user: User, held: Show) -> None:
    """Names of hpcrun.toml say where and how much; a tier that ships and an option beside it work too."""
    user.write(
        "hpcrun.toml",
        "[node_pools.vision]\npartition = 'gpu'\nqos = 'normal'\n[machines.fat]\ncpus = 4\nmemory = '8G'\ngpus = 2\n",
    )
    found = held("--node-pool", "vision", "--machine", "fat", "--", "true")
    assert (found["Partition"], found["QOS"], found["MinCPUsNode"], found["MinMemoryCPU"]) == (
        "gpu",
        "normal",
        "4",
        "2G",
    )
    assert "gpu=2" in (found.get("ReqTRES") or found["TRES"])
    found = held("--machine", "2xlarge", "--mem", "1G", "--", "true")
    assert (found["MinCPUsNode"], found["MinMemoryCPU"]) == ("8", "128M")


def test_defaults_of_the_settings(user: User, held: Show) -> None:
    """[defaults] hold for every run, and an option wins over them."""
    user.write("hpcrun.toml", "[defaults]\nsbatch = {partition = 'low', nice = 3}\n")
    assert [held(*options, "--", "true")["Partition"] for options in ([], ["-p", "high"])] == ["low", "high"]


def test_a_reservation(user: User, login: Login) -> None:
    """Nodes that an administrator has set aside are used by who names the reservation."""
    create = ["create", "reservation=hpcrun-test", "users=user", "nodes=c2", "start=now", "duration=10"]
    made = login("scontrol", *create, user="root", node="slurmctld")
    assert made.returncode == 0, made.stderr
    try:
        done = user.hpcrun(
            "run",
            "-N",
            "2",
            "--reservation",
            "hpcrun-test",
            "--",
            "printenv",
            "SLURM_JOB_RESERVATION",
            "SLURMD_NODENAME",
        )
        assert done.returncode == 0, done.stdout
        assert user.hpcrun("logs", "last", "--shard", "1").stdout == "hpcrun-test\nc2\n"
    finally:
        user.ok("scontrol", "delete", "reservation=hpcrun-test", user="root", node="slurmctld")


WAITS_FOR_EVER = pytest.mark.skipif(RELEASE != "24.11", reason="22.05 and 26.05 take more CPUs than any node has")
STARTS_AT_ONCE = pytest.mark.skipif(RELEASE == "22.05", reason="22.05 starts a job after one that it has forgotten")


@pytest.mark.parametrize(
    ("options", "reason", "next_step"),
    [
        (["-p", "nosuch"], "Invalid partition name", "sinfo"),
        (["--mem", "900G"], "node configuration is not available", "lower cpus, memory or gpus"),
        pytest.param(
            ["-c", "99"], "node configuration is not available", "lower cpus, memory or gpus", marks=WAITS_FOR_EVER
        ),
        (["--constraint", "nosuch"], "Invalid feature", "sinfo -o %f"),
        (["--licenses", "nosuch:1"], "Invalid license", "scontrol show licenses"),
        (["--reservation", "nosuch"], "reservation is invalid", "scontrol show reservation"),
        (["--nodelist", "nosuch"], "Invalid node name", "sinfo -N"),
        pytest.param(["--dependency", "afterok:99999999"], "dependency", "squeue --me", marks=STARTS_AT_ONCE),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else "",
)
def test_refusals(user: User, in_queue: Callable[[], str], options: list[str], reason: str, next_step: str) -> None:
    """Exit code 2 with Slurm's reason and what to do; no run folder is left, and nothing in the queue."""
    done = user.hpcrun("submit", "-N", "3", *options, "--", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert reason in done.stderr
    assert next_step in done.stderr
    assert "Traceback" not in done.stderr
    assert user.sh('ls "$HPCRUN_HOME/runs"').stdout == ""
    assert in_queue() == ""


def test_the_prologue_runs_first(user: User) -> None:
    """The site's shell code runs on the node before the program, which sees its exports, and then the spec's."""
    user.write("hpcrun.toml", "prologue = 'export SITE=\"module of $SLURM_JOB_NAME\"; set -- changed'\n")
    spec = user.write(
        "run.yaml", 'name: mine\nprologue: export BOTH="$SITE and own"\nshards: 2\ncommand: [printenv, BOTH]\n'
    )
    done = user.hpcrun("run", spec)
    assert done.returncode == 0, done.stdout
    assert user.hpcrun("logs", "last", "--shard", "1").stdout == "module of mine and own\n"


def test_a_prologue_that_fails(user: User) -> None:
    """One that ends the script keeps the program from running; the shards have failed, with its own words shown."""
    user.write("hpcrun.toml", "prologue = 'echo no such module: cuda >&2; exit 5'\n")
    done = user.hpcrun("run", "-N", "2", "--", "touch", f"{user.folder}/ran")
    assert done.returncode == 1
    assert "no such module: cuda" in done.stdout
    shards = user.status("last")["shards"]
    assert [(shard["state"], shard["cause"]) for shard in shards] == [("failed", "launch_failed")] * 2
    assert user.login("test", "-e", f"{user.folder}/ran").returncode == 1


def test_a_command_of_the_prologue_that_fails(user: User) -> None:
    """As in any batch script, a failing line by itself does not end it; `set -e` is the site's to say."""
    user.write("hpcrun.toml", "prologue = 'false'\n")
    assert user.hpcrun("run", "--json", "true").returncode == 0
    user.write("hpcrun.toml", "prologue = 'set -e\\nfalse'\n".replace("'", '"'))
    assert user.hpcrun("run", "--json", "true").returncode == 1


TEMPLATE = """#!/bin/bash
{% for directive in directives %}
#SBATCH {{ directive }}
{% endfor %}
#SBATCH --nice=11
export OF_THE_SITE="{{ run_id }} {{ covers }}"
{{ prologue }}
exec {{ launch }}
"""


def test_a_template_of_the_site(user: User) -> None:
    """A batch.sh in the settings' folder replaces the package's; a broken one is an error with its line."""
    path = user.write("site/batch.sh", TEMPLATE)
    user.write("hpcrun.toml", f"templates = '{user.folder}/site'\n")
    done = user.hpcrun("run", "-N", "2", "--", "printenv", "OF_THE_SITE")
    assert done.returncode == 0, done.stdout
    status = user.status("last")
    assert user.hpcrun("logs", "last", "--shard", "0").stdout == f"{status['run_id']} shards 0 to 1 of 2\n"
    assert fields(user.ok("scontrol", "show", "job", status["jobs"][0]))["Nice"] == "11"
    user.write("site/batch.sh", "#!/bin/bash\n{% for %}\n")
    done = user.hpcrun("submit", "true")
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{path}:2" in done.stderr


def test_export_none_and_names(user: User) -> None:
    """With NONE a program has what any needs and who it is; with names those, and what is set is set."""
    script = "export SECRET=x WANTED=w; exec hpcrun run --json -N 2 --export {} -- env"
    for option, wanted in (
        ("NONE", {}),
        ("WANTED,X=1", {"WANTED": "w", "X": "1"}),
        ("ALL,X=1", {"SECRET": "x", "X": "1"}),
    ):
        done = user.sh(script.format(option))
        assert done.returncode == 0, done.stderr
        found = dict(line.split("=", 1) for line in user.hpcrun("logs", "last", "--shard", "1").stdout.splitlines())
        asked = {name: found[name] for name in ("SECRET", "WANTED", "X") if name in found}
        assert asked == ({"WANTED": "w"} if option.startswith("ALL") else {}) | wanted
        assert (found["HOME"], found["HPCRUN_SHARD_INDEX"], "PATH" in found) == ("/home/user", "1", True)


def test_a_dry_run_submits_nothing(user: User, in_queue: Callable[[], str]) -> None:
    """It shows the script, exits 0 and leaves neither a job nor a run folder; `compile` does the same."""
    for argv in (["submit", "--dry-run"], ["run", "--dry-run"], ["compile"]):
        done = user.hpcrun(*argv, "-N", "300", "--max-parallel", "7", "--", "true")
        assert done.returncode == 0, done.stderr
        assert "#SBATCH --array=0-100%7" in done.stdout
        assert "3 job arrays" in done.stdout
    assert user.login("test", "-e", user.home).returncode == 1
    assert in_queue() == ""


def test_compile_as_json(user: User) -> None:
    """The plan and the scripts are one JSON value; each script is one that bash reads."""
    done = user.hpcrun("compile", "--json", "-N", "300", "--", "echo", "it's")
    found = json.loads(done.stdout)
    assert [batch["count"] for batch in found["plan"]["batches"]] == [101, 101, 98]
    assert len(found["scripts"]) == 3
    for text in found["scripts"]:
        assert user.login("bash", "-n", input=text).returncode == 0
