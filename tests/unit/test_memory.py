"""How often the kernel has killed for want of memory, by what the cgroups of this process have counted."""

from __future__ import annotations

import io
from typing import Any

import pytest

from hpcrun.node import memory

V1 = "11:cpu,cpuacct:/a\n4:memory:/slurm/job_7/step_0\n0::/\n"
V2 = "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n"
OWN = "/sys/fs/cgroup/system.slice/slurmstepd.scope/job_7/step_0/user/task_0/memory.events"


def counted(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> int:
    """What is counted where these are all the files there are."""

    def opened(path: str, **_: Any) -> io.StringIO:
        if path not in files:
            raise FileNotFoundError(path)
        return io.StringIO(files[path])

    monkeypatch.setattr(memory, "open", opened, raising=False)
    return memory.kills()


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        (V2, {OWN: "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"}, 2),
        (V2, {OWN: "oom_kill 0\n", "/sys/fs/cgroup/memory.events": "oom_kill 9\n"}, 0),
        # In a container the own folder may not be there, but the root of what can be seen is.
        (V2, {"/sys/fs/cgroup/memory.events": "oom 1\noom_kill 1\n"}, 1),
        ("0::/\n", {"/sys/fs/cgroup/memory.events": "oom_kill 4\n"}, 4),
        (V1, {"/sys/fs/cgroup/memory/slurm/job_7/step_0/memory.oom_control": "under_oom 0\noom_kill 5\n"}, 5),
        (V1, {"/sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\noom_kill 6\n"}, 6),
        # Kernels before 4.13 do not count.
        (V1, {"/sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"}, 0),
        ("3:cpuset:/\n", {}, 0),
        ("", {}, 0),
        (V2, {}, 0),
        (V2, {OWN: "oom_kill many\n"}, 0),
    ],
)
def test_kills(monkeypatch: pytest.MonkeyPatch, cgroup: str, files: dict[str, str], expected: int) -> None:
    """The nearest counter there is, of either version; none is 0."""
    assert counted(monkeypatch, {"/proc/self/cgroup": cgroup, **files}) == expected


def test_no_cgroups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the kernel has none nothing is counted."""
    assert counted(monkeypatch, {}) == 0
