"""What runs cost Slurm: how often squeue and sacct are called, and that what they print is read whole."""

from __future__ import annotations

import json
from collections import Counter

from containers import User

COUNTING = r"""
mkdir bin
for name in squeue sacct; do
    printf '#!/bin/sh\necho %s >> "%s"\nexec %s "$@"\n' $name "$PWD/calls" "$(command -v $name)" > bin/$name
    chmod +x bin/$name
done
touch calls
export PATH=$PWD/bin:$PATH
"""
FOLLOWED = """
/opt/hpcrun/bin/python -c '
import hpcrun
for _ in range(10):
    print(hpcrun.submit(["sh", "-c", "until test -e gate; do sleep 0.2; done"]).id)
' > runs
for run in $(cat runs); do hpcrun wait --quiet $run & waiting="$waiting $!"; done
until test "$(grep -c squeue calls)" -ge 3; do sleep 0.2; done
touch gate
for one in $waiting; do wait $one || echo "$one exited with $?" >&2; done
"""
LISTED = """
/opt/hpcrun/bin/python -c '
import hpcrun
running = [hpcrun.submit(["sleep", "1000"], shards=2) for _ in range(15)]
for run in [hpcrun.submit(["true"], shards=2, sbatch={"begin": "now+1hour"}) for _ in range(5)]:
    run.cancel()
'
: > calls
hpcrun list --json
scancel --me
"""
FRAGMENTED = """
printf '#!/bin/sh\n#SBATCH --output=/dev/null\ntrue\n' > job.sh
job=$(sbatch --parsable --hold --array="$1" job.sh)
/opt/hpcrun/bin/python -c '
import os, sys
from hpcrun.poller import Poller
from hpcrun.rundir import RunDir
print([row.tasks for row in Poller().queue(RunDir(os.getcwd())) if row.job == sys.argv[1]])
' "$job"
scancel "$job"
"""


def called(user: User) -> Counter[str]:
    return Counter(user.sh("cat calls").stdout.split())


def test_ten_who_follow_ask_as_one(user: User) -> None:
    """Ten runs, each followed by a process of its own: fewer questions than there are processes."""
    done = user.sh(COUNTING + FOLLOWED, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    calls = called(user)
    assert 3 <= calls["squeue"] < 10
    assert calls["sacct"] == 0


def test_a_list_asks_twice_at_most(user: User) -> None:
    """Twenty runs, some of them cancelled while they waited: one squeue, one sacct."""
    done = user.sh(COUNTING + LISTED, timeout=300)
    assert done.returncode == 0, done.stderr
    assert Counter(one["status"] for one in json.loads(done.stdout))["cancelled"] == 5
    calls = called(user)
    assert calls["squeue"] == 1
    assert calls["sacct"] <= 1


def test_fragmented_elements_are_read_whole(user: User) -> None:
    """squeue and sacct cut lists of elements (at 64 characters) unless they are told not to."""
    tasks = [task for task in range(1, 100) if task % 7 in (1, 2, 4)]
    done = user.sh(FRAGMENTED, ",".join(map(str, tasks)))
    assert done.stdout.strip() == str([tuple(tasks)]), done.stderr
