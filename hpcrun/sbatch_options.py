"""sbatch's own long options (its manual, OPTIONS), and what hpcrun does with each.

A spec's ``sbatch:`` mapping and the command line take any of them by its long name. The tables hold the options of
every Slurm from 22.05 to 26.05: what one of them lacks it refuses itself.
"""

from __future__ import annotations

NO_VALUE = frozenset(
    [
        "consolidate-segments",
        "contiguous",
        "external",
        "help",
        "hold",
        "ignore-pbs",
        "no-requeue",
        "overcommit",
        "oversubscribe",
        "parsable",
        "quiet",
        "reboot",
        "spread-job",
        "spread-segments",
        "stepmgr",
        "test-only",
        "usage",
        "use-min-nodes",
        "verbose",
        "version",
        "wait",
    ]
)
"""Options that never take a value."""

OPTIONAL_VALUE = frozenset(
    ["exclusive", "get-user-env", "nice", "no-kill", "oom-kill-step", "propagate", "requeue", "resv-ports"]
)
"""Options that take a value behind ``=`` or none, in some version at least (``--requeue=expedite`` since 25.11)."""

VALUE = frozenset(
    [
        "account",
        "acctg-freq",
        "array",
        "autocomplete",
        "batch",
        "bb",
        "bbf",
        "begin",
        "chdir",
        "cluster",
        "cluster-constraint",
        "clusters",
        "comment",
        "constraint",
        "container",
        "container-id",
        "container-type",
        "context",
        "core-spec",
        "cores-per-socket",
        "cpu-freq",
        "cpus-per-gpu",
        "cpus-per-task",
        "deadline",
        "delay-boot",
        "dependency",
        "distribution",
        "error",
        "exclude",
        "export",
        "export-file",
        "extra",
        "extra-node-info",
        "gid",
        "gpu-bind",
        "gpu-freq",
        "gpus",
        "gpus-per-node",
        "gpus-per-socket",
        "gpus-per-task",
        "gres",
        "gres-flags",
        "hint",
        "input",
        "job-name",
        "kill-on-invalid-dep",
        "licenses",
        "mail-type",
        "mail-user",
        "mcs-label",
        "mem",
        "mem-bind",
        "mem-per-cpu",
        "mem-per-gpu",
        "mem-update",
        "mincpus",
        "network",
        "nodefile",
        "nodelist",
        "nodes",
        "ntasks",
        "ntasks-per-core",
        "ntasks-per-gpu",
        "ntasks-per-node",
        "ntasks-per-socket",
        "ntasks-per-tres",
        "open-mode",
        "output",
        "partition",
        "power",
        "prefer",
        "priority",
        "profile",
        "qos",
        "reservation",
        "resources",
        "segment",
        "signal",
        "sockets-per-node",
        "switches",
        "tasks-per-node",
        "thread-spec",
        "threads-per-core",
        "time",
        "time-min",
        "tmp",
        "tres-bind",
        "tres-per-task",
        "uid",
        "wait-all-nodes",
        "wckey",
        "wrap",
    ]
)
"""Options that always take a value."""

LETTERS = {
    "A": "account", "B": "extra-node-info", "C": "constraint", "D": "chdir", "F": "nodefile", "G": "gpus",
    "H": "hold", "J": "job-name", "L": "licenses", "M": "clusters", "N": "nodes", "O": "overcommit", "Q": "quiet",
    "S": "core-spec", "V": "version", "W": "wait", "a": "array", "b": "begin", "c": "cpus-per-task",
    "d": "dependency", "e": "error", "h": "help", "i": "input", "k": "no-kill", "m": "distribution", "n": "ntasks",
    "o": "output", "p": "partition", "q": "qos", "s": "oversubscribe", "t": "time", "v": "verbose", "w": "nodelist",
    "x": "exclude",
}  # fmt: skip
"""Options of one letter, and their long names."""

ALIASES = {"cluster": "clusters", "tasks-per-node": "ntasks-per-node"}
"""Second long names."""

SINCE = {
    "autocomplete": (23, 2), "consolidate-segments": (25, 11), "container-id": (23, 2), "container-type": (26, 5),
    "external": (25, 5), "extra": (23, 2), "mem-update": (26, 5), "oom-kill-step": (24, 11), "resources": (25, 11),
    "resv-ports": (24, 5), "segment": (24, 5), "spread-segments": (25, 11), "stepmgr": (24, 5),
    "tres-bind": (23, 11), "tres-per-task": (23, 2),
}  # fmt: skip
"""The Slurm that brought an option, where it was one after 22.05: it decides what an abbreviation stands for."""

UNTIL = {"power": (24, 5)}
"""The first Slurm without an option."""

OF_A_COMPONENT = frozenset(
    [
        "bb", "consolidate-segments", "constraint", "contiguous", "core-spec", "cores-per-socket", "cpu-freq",
        "cpus-per-gpu", "cpus-per-task", "distribution", "exclusive", "external", "extra-node-info", "gpu-bind",
        "gpu-freq", "gpus", "gpus-per-node", "gpus-per-socket", "gpus-per-task", "gres", "gres-flags", "hint",
        "licenses", "mail-type", "mail-user", "mem-bind", "mem-per-cpu", "mem-per-gpu", "mincpus", "network",
        "nodefile", "nodelist", "nodes", "ntasks", "ntasks-per-core", "ntasks-per-gpu", "ntasks-per-node",
        "ntasks-per-socket", "ntasks-per-tres", "overcommit", "oversubscribe", "partition", "power", "resources",
        "resv-ports", "segment", "sockets-per-node", "spread-job", "spread-segments", "switches", "thread-spec",
        "threads-per-core", "tmp", "tres-bind", "tres-per-task", "use-min-nodes",
    ]
)  # fmt: skip
"""Options that hold for one component of a heterogeneous job (`reset_each_pass` in Slurm's src/common/slurm_opt.c).

All others hold for the components behind it, too, and those of the command line even for the ones before it.
"""

OF_THE_LINE = frozenset(["autocomplete", "help", "quiet", "usage", "verbose", "version", "wrap"])
"""Options that a script cannot give: sbatch reads them before it reads the script."""

_NO_SETTING = {"autocomplete", "help", "usage", "version", *ALIASES}

FLAGS = (NO_VALUE | OPTIONAL_VALUE) - _NO_SETTING
"""Settings that may stand without a value."""

BARE = NO_VALUE - _NO_SETTING
"""Settings that never take a value."""

TAKE_VALUE = VALUE - _NO_SETTING
"""Settings that always take a value."""

KNOWN = FLAGS | TAKE_VALUE
"""What a spec may set, unless it is in one of the next tables."""

OWNED = {
    "array": "shards decide it; use `shards` and `max_parallel` (-N, --max-parallel)",
    "error": "hpcrun keeps one log a shard; use `stderr: separate` and `hpcrun logs`",
    "input": "a program's standard input is empty; redirect it in the command",
    "job-name": "use `name` (-n, --name)",
    "ntasks-per-gpu": "use `tasks` and `gpus`, the GPUs of one process (--tasks, --gpus)",
    "ntasks-per-node": "use `tasks` and `nodes` (--tasks, --nodes)",
    "open-mode": "each attempt has a log of its own",
    "output": "hpcrun keeps one log a shard; use `hpcrun logs`",
    "parsable": "`hpcrun submit` prints the run id alone",
    "quiet": "`hpcrun submit` prints the run id alone",
    "test-only": "use --dry-run",
    "wait": "use `hpcrun run` or `hpcrun wait`",
    "wrap": "use `script` or a command",
    "external": "a run has a command, and an external job none",
    "export-file": "use `env`",
    "container": "use `image` (--image)",
}
"""Options that hpcrun decides, and what to use in their stead."""

SPEC_FIELDS = {
    "chdir": "working_dir",
    "cpus-per-task": "cpus",
    "export": "export",
    "gpus": "gpus",
    "mem": "memory",
    "nodes": "nodes",
    "ntasks": "tasks",
    "signal": "signal",
}
"""Options that are fields of the spec under another name."""

WRAPPED = (
    "shards", "max-parallel", "retries", "retry", "backoff", "timeout", "max-failed-indexes", "run-timeout",
)  # fmt: skip
"""Fields of a spec that `hpcrun sbatch` has as options, each with a value. sbatch has none of these names."""
