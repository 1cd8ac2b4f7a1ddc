"""Whether the kernel has killed for want of memory here: what the memory cgroup of this process has counted."""

from __future__ import annotations


def kills() -> int:
    """How many processes of this process's memory cgroup the kernel has killed so far; 0 where nobody counts.

    cgroup v2 counts in ``memory.events`` of the victim's group and all above it, v1 in ``memory.oom_control``
    (the kernel's documentation, admin-guide/cgroup-v2 and cgroup-v1/memory).
    """
    for path in _counters():
        try:
            with open(path, encoding="ascii") as file:
                for line in file:
                    name, _, count = line.partition(" ")
                    if name == "oom_kill":
                        return int(count)
        except (OSError, ValueError):
            continue
    return 0


def _counters() -> list[str]:
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            base, name = "/sys/fs/cgroup", "memory.events"
        elif "memory" in controllers.split(","):
            base, name = "/sys/fs/cgroup/memory", "memory.oom_control"
        else:
            continue
        # In a container the group's own folder may be the root of what can be seen.
        found += [f"{base}{path.rstrip('/')}/{name}", f"{base}/{name}"]
    return found
