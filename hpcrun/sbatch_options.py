"""sbatch's own long options (its manual, OPTIONS), and what hpcrun does with each.

A spec's ``sbatch:`` mapping and the command line take any of them by its long name.
"""

from __future__ import annotations

FLAGS = frozenset(
    [
        "contiguous",
        "hold",
        "exclusive",
        "ignore-pbs",
        "kill-on-invalid-dep",
        "no-kill",
        "no-requeue",
        "overcommit",
        "oversubscribe",
        "parsable",
        "quiet",
        "reboot",
        "requeue",
        "spread-job",
        "test-only",
        "use-min-nodes",
        "verbose",
        "wait",
        "get-user-env",
        "propagate",
        "gres-flags",
        "nice",
        "kill-on-bad-exit",
    ]
)
"""Options that may stand without a value."""

BARE = FLAGS - {"exclusive", "kill-on-invalid-dep", "no-kill", "get-user-env", "propagate", "gres-flags", "nice"}
"""Options that never take a value."""

TAKE_VALUE = frozenset(
    [
        "account",
        "acctg-freq",
        "batch",
        "bb",
        "bbf",
        "begin",
        "cluster-constraint",
        "clusters",
        "comment",
        "constraint",
        "container",
        "container-id",
        "core-spec",
        "cores-per-socket",
        "cpu-freq",
        "cpus-per-gpu",
        "cpus-per-task",
        "deadline",
        "delay-boot",
        "dependency",
        "distribution",
        "exclude",
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
        "hint",
        "licenses",
        "mail-type",
        "mail-user",
        "mcs-label",
        "mem",
        "mem-bind",
        "mem-per-cpu",
        "mem-per-gpu",
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
        "partition",
        "power",
        "prefer",
        "priority",
        "profile",
        "qos",
        "reservation",
        "resv-ports",
        "segment",
        "signal",
        "sockets-per-node",
        "stepmgr",
        "switches",
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
    ]
)
KNOWN = FLAGS | TAKE_VALUE

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
