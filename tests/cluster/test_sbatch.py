"""`hpcrun sbatch` on the real cluster: as sbatch says it, and what hpcrun adds. test_sbatch_scripts has scripts."""

from __future__ import annotations

import re
from collections.abc import Callable

from containers import Done, User
from waiting import until

ARRAY = """#!/bin/bash
#SBATCH --array=2,5-6%2
#SBATCH --output=out-%a.txt
echo "$SLURM_ARRAY_TASK_ID is shard $HPCRUN_SHARD_INDEX, attempt $HPCRUN_ATTEMPT"
[ "$SLURM_ARRAY_TASK_ID" != 5 ] || [ "${HPCRUN_ATTEMPT:-0}" -ge "$1" ] || exit 9
"""


def said(done: Done) -> tuple[int, str, str]:
    """Exit code, output and complaints, without the numbers of jobs and what hpcrun adds to them."""
    own = [line for line in done.stderr.splitlines() if not line.startswith("hpcrun: ")]
    return done.returncode, re.sub(r"\d+", "N", done.stdout), "\n".join(own)


def test_it_says_what_sbatch_says(user: User) -> None:
    """Output, complaints and exit code, with and without options of ours."""
    user.write("job.sh", "#!/bin/bash\nexit 3\n")
    user.write("text.sh", "exit 3\n")
    lines = [
        "-Q job.sh", "--parsable --wait -a 0-1 job.sh", "-H < job.sh", "nosuch.sh", "text.sh", "-p nosuch job.sh",
        "--nosuch job.sh", "--version", "-H --parsable --job-name 'two words' job.sh a 'b c'",
    ]  # fmt: skip
    for line in lines:
        expected = said(user.sh(f"command sbatch {line}"))
        assert said(user.sh(f"hpcrun sbatch {line}")) == expected, line
        assert said(user.sh(f"hpcrun sbatch --retries 0 {line}")) == expected, line
    user.ok("scancel", "--me")


def test_it_takes_scripts_as_the_shell_hands_them_over(user: User) -> None:
    """Through a pipe, with streams that are closed or full, from a folder that is gone: as sbatch takes them."""
    user.write("job.sh", "#!/bin/bash\nexit 3\n")
    lines = [
        "{} -H <(cat job.sh)", "cat job.sh | {} -H /dev/stdin", "{} -H /dev/stdin < job.sh", "{} <(echo no script)",
        "{} --test-only <(echo no script)", "{} <&-", "{} -H job.sh >/dev/full", "{} -H job.sh >&-",
        "mkdir -p gone && cd gone && rmdir ../gone && {} job.sh",
    ]  # fmt: skip
    for line in lines:
        expected = said(user.sh(line.format("command sbatch")))
        assert said(user.sh(line.format("hpcrun sbatch"))) == expected, line
        assert said(user.sh(line.format("hpcrun sbatch --retries 0"))) == expected, line
    job = user.sh("hpcrun sbatch --parsable -H <(cat job.sh)").stdout.strip()
    assert user.status(job)["name"] == user.ok("squeue", "--noheader", "--format=%j", "--jobs", job).strip()
    user.ok("scancel", "--me")


def test_the_environment_of_a_job(user: User) -> None:
    """That which sbatch would hand over, also where Python sets a locale for itself."""
    user.write("job.sh", "#!/bin/bash\n#SBATCH --output=names\nenv | grep -v ^SLURM | cut -d= -f1 | sort\n")
    names = []
    for sbatch in ("sbatch", "hpcrun sbatch"):
        assert user.sh(f"env -i PATH=$PATH HOME=$HOME LC_ALL= {sbatch} --wait job.sh").returncode == 0
        names.append(user.read(f"{user.folder}/names"))
    assert names[0] == names[1]


def test_a_job_that_is_slurms_alone(user: User) -> None:
    """Status, logs and waiting know it by the job's number; it cannot be retried, and the message says what to do."""
    user.write("job.sh", ARRAY)
    job = user.sh("hpcrun sbatch --parsable job.sh 1").stdout.strip()
    assert user.hpcrun("wait", "-q", job).returncode == 3
    status = until(  # slurmdbd has the exit code, a second later
        lambda: found if (found := user.status(job))["shards"][1]["exit_code"] is not None else None
    )
    told = [(shard["state"], shard["exit_code"], shard["job"]) for shard in status["shards"]]
    assert told == [("succeeded", 0, f"{job}_2"), ("failed", 9, f"{job}_5"), ("succeeded", 0, f"{job}_6")]
    assert user.hpcrun("logs", job, "--shard", "1").stdout == "5 is shard , attempt \n"
    done = user.hpcrun("retry", job)
    assert (done.returncode, done.stderr) == (
        2,
        f"hpcrun: error: run {status['run_id']} is Slurm's alone, as sbatch was told of nothing else; submit it again, "
        "with `hpcrun sbatch --retries 1 job.sh` (or --array=3,17 for some elements of its array)\n",
    )
    done = user.hpcrun("results", job)
    assert (done.returncode, done.stdout) == (2, "")
    assert "has no folder for results" in done.stderr
    assert user.login("squeue", "--noheader", "--me").stdout == ""


def test_retries_of_an_array_of_its_own(user: User) -> None:
    """The element that fails is tried again under its own index, by its budget, and then by hand."""
    user.write("job.sh", ARRAY)
    job = user.sh("hpcrun sbatch --parsable --retries 1 job.sh 2").stdout.strip()
    assert user.hpcrun("wait", "-q", job).returncode == 3
    assert [(shard["attempts"], shard["exit_code"]) for shard in user.status(job)["shards"]] == [(1, 0), (2, 9), (1, 0)]
    assert user.hpcrun("retry", job).returncode == 0
    assert user.hpcrun("wait", "-q", job).returncode == 0
    last = user.status(job)["shards"][1]
    assert (last["attempts"], last["exit_code"]) == (3, 0)
    assert re.fullmatch(r"\d+_5", last["job"])
    attempts = [f"5 is shard 1, attempt {number}" for number in range(3)]
    assert [line for line in user.read(f"{user.folder}/out-5.txt").splitlines() if "shard" in line] == attempts


def test_a_retry_does_not_wait_again(user: User) -> None:
    """What a line of the script has waited for may be forgotten by then, which sbatch refuses."""
    first = user.ok("sbatch", "--parsable", "--output=/dev/null", "--wrap=true").strip()
    user.write("job.sh", f"#!/bin/sh\n#SBATCH --dependency=afterok:{first}\n[ $HPCRUN_ATTEMPT = 1 ]\n")
    job = user.sh("hpcrun sbatch --parsable --retries 0 job.sh").stdout.strip()
    assert user.hpcrun("wait", "-q", job).returncode == 1
    home = f"{user.home}/runs/{user.status(job)['run_id']}"
    user.ok("sed", "-i", f"s/afterok:{first}/afterok:99999999/", f"{home}/plan.json")
    assert user.hpcrun("retry", job).returncode == 0
    assert user.hpcrun("wait", "-q", job).returncode == 0


def test_shards_of_scripts(user: User, in_queue: Callable[[], str]) -> None:
    """A script many times, also one of a heterogeneous job; the jobs as a dependency takes them."""
    user.write(
        "het.sh", "#!/bin/bash\n#SBATCH -n1\n#SBATCH hetjob\n#SBATCH -n1\necho $HPCRUN_SHARD_INDEX of $SLURM_HET_SIZE\n"
    )
    jobs = user.sh("hpcrun sbatch --parsable --shards 2 het.sh").stdout.strip()
    assert re.fullmatch(r"\d+:\d+", jobs)
    done = user.sh(
        "hpcrun sbatch --shards 2 --wait -d \"afterok:$1\" --wrap 'echo $VELDA_SHARD_ID of $VELDA_TOTAL_SHARDS'", jobs
    )
    assert done.returncode == 0, done.stderr
    assert user.hpcrun("logs", "last").stdout == "[0] 0 of 2\n[1] 1 of 2\n"
    assert user.hpcrun("logs", jobs.partition(":")[0]).stdout == "[0] 0 of 2\n[1] 1 of 2\n"
    assert in_queue() == ""


def test_signals_and_an_end(user: User, in_queue: Callable[[], str]) -> None:
    """A warning for the batch script reaches it and not what it runs; a cancel leaves nothing."""
    code = "trap 'echo warned' USR1; echo up; sleep 300 & until wait $!; do kill -0 $! 2>&- || exit 1; done"
    user.write("job.sh", f"#!/bin/bash\n{code}\n")
    job = user.sh("hpcrun sbatch --parsable --retries 3 job.sh").stdout.strip()
    log = f"{user.folder}/slurm-{job}.out"
    until(lambda: user.login("cat", log).stdout == "up\n", what="the script to run")
    user.ok("scancel", "--batch", "--signal=USR1", job)
    until(lambda: user.login("cat", log).stdout == "up\nwarned\n", what="the warning")
    assert user.hpcrun("cancel", job).returncode == 0
    (shard,) = until(lambda: found if (found := user.status(job)["shards"])[0]["ended"] else [], what="the end")
    assert (shard["state"], shard["attempts"]) == ("cancelled", 1)
    until(lambda: in_queue() == "" and user.left(user.status(job)["run_id"]) == "", what="nothing to be left")


def test_a_run_that_cannot_be_kept(user: User) -> None:
    """The job is submitted all the same; the exit code is sbatch's."""
    done = user.sh("HPCRUN_HOME=/proc/nowhere hpcrun sbatch --parsable --wrap true")
    assert done.returncode == 0
    assert done.stdout.strip().isdecimal()
    assert done.stderr.startswith(
        f"hpcrun: job {done.stdout.strip()} is submitted, but no run is kept of it: /proc/nowhere"
    )


def test_sbatch_in_path_may_be_us(user: User) -> None:
    """A script called sbatch that calls `hpcrun sbatch` finds Slurm's."""
    user.write("bin/sbatch", '#!/bin/sh\nexec hpcrun sbatch "$@"\n')
    user.ok("chmod", "+x", f"{user.folder}/bin/sbatch")
    done = user.sh(
        "PATH=$PWD/bin:$PATH; sbatch --wait --wrap 'exit 5'; echo $?; sbatch --retries 0 --wait --wrap 'exit 6'"
    )
    assert re.fullmatch(r"Submitted batch job \d+\n5\nSubmitted batch job \d+\n", done.stdout)
    assert done.returncode == 6
