"""Bad input of every kind: one clear message, exit code 2, and nothing written."""
# ruff: noqa: E501  (each message is on one line, as it is printed)

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner
from unit.made import plan

from hpcrun import registry
from hpcrun.cli import main
from hpcrun.fields import Source
from hpcrun.plan import FORMAT

NOT_YET = (
    "found a field that this version cannot carry out; wanted a spec without it (docs/scope.md says what is planned)"
)
NOT_YET_OPTION = NOT_YET.replace("a field", "an option").replace("a spec", "a run")
USAGE = "Usage: hpcrun {0} [OPTIONS] {1}\nTry 'hpcrun {0} --help' for help.\n\nError: "
RUN_USAGE = USAGE.format("submit", "SPEC.yaml | COMMAND…")
FIELDS = (
    "after, after_fail, after_success, args, backends, backoff, codespec, command, completion_mode, cpus, env, export, "
    "fail_fast, gang, gpus, image, job, kind, machine, max_failed_indexes, max_parallel, memory, mounts, mpi, name, "
    "node_pool, nodes, prologue, replicas, resources, results, retries, retry, run_timeout, sbatch, script, shards, "
    "shards_per_element, signal, start_timeout, stderr, tasks, timeout, topology, variables, version, worker, workflow, "
    "working_dir"
)
REFERENCE = "wanted the name of a codespec (lower case letters, digits, - . _), or NAME/versions/NUMBER"
SHELF = "$T/runs-home/codespecs"
LIST = "`hpcrun codespec list` shows the ones there are"
LATEST = "`hpcrun codespec list` shows the latest ones"
PORT = "wanted a port from 1 to 65535, or auto"
PROBED = "wanted a port from 1 to 65535, or $(NAME) for one of a variable"
NO_PROGRAM = "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"
ALONE = "found a gang of one program, wanted `shards` (or workers, which start together)"
CLOUD = (
    "found a field of Tyger's service that has no meaning on a cluster; wanted a codespec without it (docs/scope.md)"
)
NO_RUNTIME = "and no container runtime is configured; wanted [containers] with a runtime in hpcrun.toml (docs/settings.md), or a spec without image"
RUNS = "wanted runs: the id of each, the beginning of it, or last"
VOLUME = "wanted the absolute path of a folder that the nodes see: a cluster has no volumes"
WARNING = "wanted a signal and how many seconds before the end (1 to 65535), such as USR2@60"
MEMORY = "wanted an amount of memory such as 8G, 512M or 1.5GiB"
DURATION = "wanted a duration such as 90s, 15m, 1h30m or 01:30:00"
PARTITION = "Did you mean `partition`?"
RETRIES = "wanted a number from 0 to 50"
PER_INDEX = "found a limit for each index beside `gang: true`, whose shards are tried again together; wanted `retries`"
PACKED = "wanted it with shards that are independent and have no workers"

# What follows `command: [a]` in spec.yaml, and what is said about it behind "spec.yaml:".
SPEC_LINES = [
    ("shard: 4", "2: shard: found an unknown key. Did you mean `shards`?"),
    ("zzzz: 4", f"2: zzzz: found an unknown key. Wanted one of: {FIELDS}"),
    ("1: 2", "2: [1]: found the key 1, wanted a name"),
    ("shards: four", "2: shards: found 'four', wanted a whole number"),
    ("shards: 1.5", "2: shards: found 1.5, wanted a whole number"),
    ("shards: 0", "2: shards: found 0, wanted 1 or more"),
    ("shards: true", "2: shards: found true, wanted a whole number"),
    ("shards: 99999999999", "2: shards: found 99999999999, wanted 4000001 or less"),
    ("parallelism: 0", "2: parallelism: found 0, wanted 1 or more"),
    ("cpus: '2'", "2: cpus: found '2', wanted a whole number"),
    ("shards: 4\nparallelism: 4", "3: parallelism: found `parallelism` beside `shards`, which says the same; wanted one of them"),
    ("shards: 4\nshards: 5", '3: not YAML: while constructing a mapping, found duplicate key "shards" with value "5" (original value: "4")'),
    ('name: "a\\0b"', "2: name: found a NUL byte in 'a\\x00b', wanted text: no program can be given one"),
    ('args: ["a\\0b"]', "2: args[0]: found a NUL byte in 'a\\x00b', wanted text: no program can be given one"),
    ('prologue: "a\\0b"', "2: prologue: found a NUL byte in 'a\\x00b', wanted text: no program can be given one"),
    ("args: [x, true]", "2: args[1]: found true, wanted text (put it in quotes)"),
    ("args: x", "2: args: found 'x', wanted a list"),
    ("memory: 8X", f"2: memory: found '8X', {MEMORY}"),
    ("mem: -4", f"2: mem: found -4, {MEMORY}"),
    ("memory: 0", "2: memory: found 0, wanted at least 1M of memory"),
    ("timeout: soon", f"2: timeout: found 'soon', {DURATION}"),
    ("timeoutSeconds: 0", "2: timeoutSeconds: found 0, wanted a duration above zero"),
    ("timeout: .inf", f"2: timeout: found inf, {DURATION}"),
    ("gpus: many", "2: gpus: found 'many', wanted a number of GPUs or TYPE:NUMBER"),
    ("gpus: '²'", "2: gpus: found '²', wanted a number of GPUs or TYPE:NUMBER"),
    ('gpus: "a\\nb:1"', "2: gpus: found 'a\\nb:1', wanted a number of GPUs or TYPE:NUMBER"),
    ("machine: xlrge", "2: machine: found 'xlrge', wanted one of: 2xlarge, large, mem-2xlarge, micro, nano, small, standard, xlarge. Did you mean `xlarge`?"),
    ("pool: gpu", "2: pool: found 'gpu', wanted a [node_pools.gpu] in hpcrun.toml; there is none yet."),
    ("stderr: both", "2: stderr: found 'both', wanted 'merged' or 'separate'"),
    ("env:\n  A: 1\n  HPCRUN_RUN_ID: x", "4: env.HPCRUN_RUN_ID: found HPCRUN_RUN_ID, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ("env:\n  JOB_COMPLETION_INDEX: 3", "3: env.JOB_COMPLETION_INDEX: found JOB_COMPLETION_INDEX, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ("env:\n  A: 1\n  DEBUG: true", '4: env.DEBUG: found true, wanted text; write DEBUG: "true"'),
    ("env:\n  DEBUG:", "3: env.DEBUG: found nothing, wanted text (put it in quotes)"),
    ('env:\n  "A=B": x', "3: env.A=B: found the variable name 'A=B', wanted a name without = or NUL"),
    ("env: [A=1]", "2: env: found ['A=1'], wanted a mapping of names to values"),
    ("env:\n  BIG: " + 131072 * "x", "3: env.BIG: found more than 128 KiB, which Linux gives to no program; put it in a file"),
    ("sbatch:\n  hold: true\n  partion: x", f"4: sbatch.partion: found --partion, which sbatch does not have. {PARTITION}"),
    ("sbatch:\n  array: 0-3", "3: sbatch.array: found --array, which hpcrun decides: shards decide it; use `shards` and `max_parallel` (-N, --max-parallel)"),
    ("sbatch: {output: x}", "2: sbatch.output: found --output, which hpcrun decides: hpcrun keeps one log a shard; use `hpcrun logs`"),
    ("sbatch: {mem: 4G}", "2: sbatch.mem: found --mem, wanted the spec's own field `memory`"),
    ("sbatch: {partition: }", "2: sbatch.partition: found --partition without a value, wanted --partition=VALUE"),
    ("sbatch: {hold: 4}", "2: sbatch.hold: found --hold=4, wanted --hold alone: it takes no value"),
    ("sbatch: {comment: {a: 1}}", "2: sbatch.comment: found {'a': 1}, wanted text, a number or a list"),
    ('sbatch: {comment: "a\\nb"}', "2: sbatch.comment: found a control character in 'a\\nb', wanted a single line"),
    ("export: \"A='x\"", "2: export: found \"A='x\" with an open quote, wanted ALL, NONE, or NAME[=VALUE] with commas"),
    ("export: SLURM_X=1", "2: export: found SLURM_X=, wanted a name that hpcrun does not set itself"),
    ("script: b", "2: script: found `script` beside `command`, wanted one of them"),
    ("retries: many", f"2: retries: found 'many', {RETRIES}"),
    ("retries: -1", f"2: retries: found -1, {RETRIES}"),
    ("retries: 51", f"2: retries: found 51, {RETRIES}"),
    ("retries: 1.5", f"2: retries: found 1.5, {RETRIES}"),
    ("retries: true", f"2: retries: found true, {RETRIES}, or a mapping by cause"),
    ("retries:", f"2: retries: found nothing, {RETRIES}, or a mapping by cause"),
    ("retries: [1]", f"2: retries: found [1], {RETRIES}"),
    ("retries:\n  failed: 1\n  timedout: 2", "4: retries.timedout: found an unknown cause. Did you mean `timed_out`?"),
    ("retries: {zzz: 2}", "2: retries.zzz: found an unknown cause. Wanted one of: failed, launch_failed, node_failed, preempted, timed_out"),
    ("retries: {cancelled: 2}", "2: retries.cancelled: found an unknown cause. Wanted one of: failed, launch_failed, node_failed, preempted, timed_out"),
    ("retries:\n  failed: x", f"3: retries.failed: found 'x', {RETRIES}"),
    ("retries:\n  failed: 1\n  node_failed: 51", f"4: retries.node_failed: found 51, {RETRIES}"),
    ("retries: {failed: }", f"2: retries.failed: found nothing, {RETRIES}"),
    ("retries: {failed: true}", f"2: retries.failed: found true, {RETRIES}"),
    ("retries: {1: 2}", "2: retries[1]: found an unknown cause. Wanted one of: failed, launch_failed, node_failed, preempted, timed_out"),
    ("retries: 1\nbackoffLimitPerIndex: 1", "3: backoffLimitPerIndex: found `backoffLimitPerIndex` beside `retries`, which says the same; wanted one of them"),
    ("shards: 4\ngang: true\nbackoffLimitPerIndex: 2", f"4: backoffLimitPerIndex: {PER_INDEX}"),
    ("shards: 4\ngang: true\nbackoff_limit_per_index: 2", f"4: backoff_limit_per_index: {PER_INDEX}"),
    ("backoffLimit: 2", f"2: backoffLimit: {NOT_YET}"),
    ("backOff: 10s", "2: backOff: found an unknown key. Did you mean `backoff`?"),
    ("maxFailed: 2", "2: maxFailed: found an unknown key. Did you mean `max_failed_indexes`?"),
    ("backoff: soon", f"2: backoff: found 'soon', {DURATION}"),
    ("backoff: -1", f"2: backoff: found -1, {DURATION}"),
    ("retry: never", "2: retry: found 'never', wanted 'requeue' or 'in_place'"),
    ("maxFailedIndexes: -1", "2: maxFailedIndexes: found -1, wanted 0 or more"),
    ("maxFailedIndexes: many", "2: maxFailedIndexes: found 'many', wanted a whole number"),
    ("max_failed_indexes: true", "2: max_failed_indexes: found true, wanted a whole number"),
    ("shards: 4\ngang: true\nmaxFailedIndexes: 1", "4: maxFailedIndexes: found it beside `gang: true`, whose shards fail together"),
    ("run_timeout: 0", "2: run_timeout: found 0, wanted a duration above zero"),
    ("activeDeadlineSeconds: soon", f"2: activeDeadlineSeconds: found 'soon', {DURATION}"),
    ("shards_per_element: 2", f"2: shards_per_element: found it without `shards`, {PACKED}"),
    ("shards: 4\nshardsPerElement: 0", "3: shardsPerElement: found 0, wanted 1 or more"),
    ("shards: 4\ngang: true\nshards_per_element: 2", f"4: shards_per_element: found it beside `gang`, {PACKED}"),
    ("shards: 4\nshards_per_element: 2\nworker: {command: [b]}", f"3: shards_per_element: found it beside `worker`, {PACKED}"),
    ("kind: worker", "2: kind: found 'worker', wanted 'job'; workers are described under `worker`"),
    ("gangScheduling: true", f"2: gangScheduling: {ALONE}"),
    ("shards: 4\ngang: true\nmax_parallel: 2", "4: max_parallel: found 2 beside `gang: true`, which starts all 4 shards at once; wanted one of them"),
    ("replicas: 2", "2: replicas: found 2, wanted 1: for copies of the job write `shards` and `gang: true`"),
    ("topology: het", "2: topology: found het without workers, wanted `worker`, or no topology"),
    ("topology: star", "2: topology: found 'star', wanted 'auto', 'flat' or 'het'"),
    ("startTimeout: 0", "2: startTimeout: found 0, wanted a duration above zero"),
    ("nodes: 2\ntasks: 1", "3: tasks: found 1 tasks on 2 nodes, wanted a task a node at least"),
    ("ntasks: 0", "2: ntasks: found 0, wanted 1 or more"),
    ('mpi: "a\\nb"', "2: mpi: found a control character in 'a\\nb', wanted a single line"),
    ("sbatch: {nodes: 2}", "2: sbatch.nodes: found --nodes, wanted the spec's own field `nodes`"),
    ("sbatch: {ntasks: 2}", "2: sbatch.ntasks: found --ntasks, wanted the spec's own field `tasks`"),
    ("sbatch: {ntasks-per-node: 2}", "2: sbatch.ntasks-per-node: found --ntasks-per-node, which hpcrun decides: use `tasks` and `nodes` (--tasks, --nodes)"),
    ("image: x", f"2: image: found the image 'x', {NO_RUNTIME}"),
    ("mounts: [/a:/b]", "2: mounts: found /a to be seen as /b without an image; wanted an image, or /a on both sides: without a container a folder is where it is"),
    ("mounts: ['/tmp::ro']", "2: mounts: found /tmp to be read-only without an image; wanted an image, or a folder that its permissions guard"),
    ("mounts: [/nowhere]", "2: mounts: found no folder /nowhere, wanted one that this machine and the nodes see"),
    ("volumeMounts:\n- {volumeId: vol_1, mountPath: /cache}", f"2: volumeMounts: found the volume 'vol_1', {VOLUME}"),
    ("volumeMounts:\n- {name: cache, mountPath: /cache}", f"2: volumeMounts: found the volume 'cache', {VOLUME}"),
    ("volumeMounts:\n- {volumeId: /a, mountPath: /cache}", "2: volumeMounts: found /a to be seen as /cache without an image; wanted an image, or /a on both sides: without a container a folder is where it is"),
    ("results: kept", "2: results: found 'kept', wanted 'shared' or 'committed'"),
    ("signal: soon", "2: signal: found the signal SOON, wanted USR1 or USR2: others end a program, or do not reach it everywhere"),
    ("signal: ''", f"2: signal: found '', {WARNING}"),
    ("signal: USR2@0", f"2: signal: found 'USR2@0', {WARNING}"),
    ("signal: USR2@65536", f"2: signal: found 'USR2@65536', {WARNING}"),
    ("signal: USR2@1m", f"2: signal: found 'USR2@1m', {WARNING}"),
    ("signal: true", f"2: signal: found true, {WARNING}"),
    ("signal: TERM@60", "2: signal: found the signal TERM, wanted USR1 or USR2: others end a program, or do not reach it everywhere"),
    ("signal: 9", "2: signal: found the signal 9, wanted USR1 or USR2: others end a program, or do not reach it everywhere"),
    ("signal: USR2\ntimeout: 60", "2: signal: found a warning 60 s before the end of what may take 60 s; wanted it to come later, or a longer `timeout`"),
    ("sbatch: {signal: USR2}", "2: sbatch.signal: found --signal, wanted the spec's own field `signal`"),
    ("volumeMounts: [a]", "2: volumeMounts: found 'a' in 'a', wanted an absolute path without , and :"),
    ("buffers: {inputs: [a]}", f"2: buffers: {CLOUD}"),
    ("endpoints: {a: 1}", "2: endpoints: found a field of workers on the job, wanted it under `worker`"),
    ("resources: {gpu: 0.5}", "2: resources.gpu: found 0.5, wanted a whole number"),
    ("resources:\n  limits:\n    memory: 1Zi", "4: resources.limits.memory: found '1Zi', wanted an amount of memory such as 1Gi, 512Mi or a number of bytes"),
    ("codespec: train", "1: command: found `command` beside `codespec`, wanted one of them"),
    ("job: 3", "2: job: found 3, wanted a mapping with `codespec`"),
    ("worker: {replicas: 2}", "2: worker: found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there (--worker-codespec)"),
    ("worker:\n  args: [b]", f"2: worker: {NO_PROGRAM}"),
    ("worker: serve", "2: worker: found 'serve', wanted a mapping such as {codespec: serve, replicas: 2}"),
    ("worker:\n  codespec: serve\n  replica: 3", "4: worker.replica: found an unknown key. Did you mean `replicas`?"),
    ("worker:\n  codespec: serve\n  replicas: 0", "4: worker.replicas: found 0, wanted 1 or more"),
    ("worker:\n  codespec: serve\n  replicas: 3", "4: worker.replicas: found 3, and the codespec allows at most 2 (maxReplicas)"),
    ("worker:\n  codespec: serve\n  pool: gpu", "4: worker.pool: found 'gpu', wanted a [node_pools.gpu] in hpcrun.toml; there is none yet."),
    ("worker:\n  codespec: serve\n  command: [b]", "4: worker.command: found a field of a codespec beside `codespec`, wanted it inside of that"),
    ("worker:\n  codespec: train", "3: worker.codespec: found a codespec of kind job, wanted one of kind worker here"),
    ("worker:\n  codespec: serv", f"3: worker.codespec: found no codespec 'serv' in {SHELF}. Did you mean `serve`? {LIST}"),
    ("worker:\n  codespec: serve/versions/2", f"3: worker.codespec: found no version 2 of the codespec 'serve' in {SHELF}, wanted 1; {LATEST}"),
    ("worker:\n  codespec: 3", "3: worker.codespec: found 3, wanted the name of a codespec (in quotes), or a mapping with `command`"),
    ("worker:\n  codespec: {kind: job, command: [b]}", "3: worker.codespec.kind: found a codespec of kind job, wanted one of kind worker here"),
    ("worker:\n  command: b", "3: worker.command: found the text 'b', wanted a list such as [python, train.py]; for shell code use `script`"),
    ("worker:\n  command: [b]\n  endpoints: {rpc: 99999}", f"4: worker.endpoints.rpc: found 99999, {PORT}"),
    ("worker:\n  command: [b]\n  endpoints: {rpc: http}", f"4: worker.endpoints.rpc: found 'http', {PORT}"),
    ("worker:\n  command: [b]\n  endpoints:\n    rpc: 1\n    RPC: 2", "6: worker.endpoints.RPC: found `RPC` beside `rpc`: both are RPC in upper case; rename one"),
    ("worker:\n  command: [b]\n  readiness: {tcpPort: {}}", "4: worker.readiness.tcpPort.port: is missing"),
    ("worker:\n  command: [b]\n  readiness: {tcpPort: {port: 80a}}", f"4: worker.readiness.tcpPort.port: found '80a', {PROBED}"),
    ("worker:\n  command: [b]\n  readiness: {tcpPort: {port: 0}}", f"4: worker.readiness.tcpPort.port: found '0', {PROBED}"),
    ("worker:\n  command: [b]\n  readiness:\n    tcpPort: {port: 65536}", f"5: worker.readiness.tcpPort.port: found '65536', {PROBED}"),
    ("worker:\n  command: [b]\n  readiness: {httpGet: {url: 'localhost:80/up'}}", "4: worker.readiness.httpGet.url: found 'localhost:80/up', wanted a URL that begins with http:// or https://"),
    ("worker:\n  command: [b]\n  readiness: {httpPost: {url: 'http:///up'}}", "4: worker.readiness.httpPost.url: found 'http:///up', wanted a URL with a host and a port from 1 to 65535"),
    ("worker:\n  command: [b]\n  readiness: {httpGet: {url: 'http://localhost:70000'}}", "4: worker.readiness.httpGet.url: found 'http://localhost:70000', wanted a URL with a host and a port from 1 to 65535"),
    ("worker:\n  command: [b]\n  readiness: {}", "4: worker.readiness: wanted exactly one of tcp_port, http_get, http_post, log_watch and exec"),
    ("worker:\n  command: [b]\n  tasks: 2", "4: worker.tasks: found a worker of several processes, wanted replicas"),
    ("completionMode: nonindexed", "2: completionMode: found 'nonindexed', wanted 'Indexed' or 'NonIndexed'"),
    ("completionMode: NonIndexed\nbackoffLimitPerIndex: 2", "3: backoffLimitPerIndex: found it beside `completionMode: NonIndexed`, whose shards have no index; wanted `retries`"),
    ("completionMode: NonIndexed\nmaxFailedIndexes: 2", "3: maxFailedIndexes: found it beside `completionMode: NonIndexed`, whose shards have no index"),
    ("backoffLimitPerIndex: x", f"2: backoffLimitPerIndex: found 'x', {RETRIES}"),
    ("after: 3", f"2: after: found 3, {RUNS}"),
    ("after: {a: b}", f"2: after: found {{'a': 'b'}}, {RUNS}"),
    ("after_fail: [a, '']", f"2: after_fail: found ['a', ''], {RUNS}"),
    ("afterSuccess: zzz", "2: afterSuccess: no run 'zzz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("after: [/nowhere]", "2: after: /nowhere: there is no such folder, wanted that of a run"),
    ("cpus: 1000000", f"2: cpus: found 1000000 a shard, and this machine has {len(os.sched_getaffinity(0))}; lower it"),
    ("shards: x\ncpus: y", "3: cpus: found 'y', wanted a whole number (1 more after this one)"),
]  # fmt: skip

# A whole spec.yaml.
SPEC_FILES = [
    ("", ": found nothing, wanted a mapping of fields such as `command:`"),
    ("- a\n", ": found ['a'], wanted a mapping of fields such as `command:`"),
    ("command: [a\n", ":2: not YAML: while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
    ("command: [a]\n\tb: 4\n", ":2: not YAML: while scanning for the next token, found character '\\t' that cannot start any token"),
    ("command: *x\n", ":1: not YAML: found undefined alias 'x'"),
    ("command: [a]\n---\n", ":2: not YAML: expected a single document in the stream, but found another document"),
    ('command:\n- "\x01"\n', ":2: not YAML: found the character '\\x01'"),
    ("&a\ncommand: [a]\nenv: *a\n", ": found values nested without an end, wanted no alias inside of what it stands for"),
    ("codespec: train\nargs: [b]\n", ":2: args: found `args` beside `codespec`, wanted one of them"),
    ("codespec: serve\n", ":1: codespec: found a codespec of kind worker, wanted one of kind job here"),
    ("codespec: trian\n", f":1: codespec: found no codespec 'trian' in {SHELF}. Did you mean `train`? {LIST}"),
    ("codespec: train/versions/2\n", f":1: codespec: found no version 2 of the codespec 'train' in {SHELF}, wanted 1; {LATEST}"),
    ("codespec: train/2\n", f":1: codespec: found 'train/2', {REFERENCE}"),
    ("codespec: ../train\n", f":1: codespec: found '../train', {REFERENCE}"),
    ("codespec: 3\n", ":1: codespec: found 3, wanted the name of a codespec (in quotes), or a mapping with `command`"),
    ("codespec:\n  comand: [a]\n", ":2: codespec.comand: found an unknown key. Did you mean `command`?"),
    ("codespec: {kind: worker, command: [a]}\n", ":1: codespec.kind: found a codespec of kind worker, wanted one of kind job here"),
    ("job:\n  codespec: serve\n", ":2: job.codespec: found a codespec of kind worker, wanted one of kind job here"),
    ("job:\n  codespec: {image: x}\n", f":2: job.codespec: {NO_PROGRAM}"),
    ("job:\n  codespec: train\n  tags: {a: b}\n", f":3: job.tags: {NOT_YET}"),
    ("codespec: train\njob: {codespec: train}\n", ":2: job.codespec: found `job.codespec` beside `codespec`, which says the same; wanted one of them"),
    ("shards: 4\n", ":1: found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("script: ''\n", ":1: found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("script: a\nargs: [b]\n", ":2: args: found `args` beside `script`, wanted them in the script, or a `command`"),
    ('script: "a\\0b"\n', ":1: script: found a NUL byte in 'a\\x00b', wanted text: no program can be given one"),
    ("command: python train.py\n", ":1: command: found the text 'python train.py', wanted a list such as [python, train.py]; for shell code use `script`"),
    ("command: []\n", ":1: command: found an empty list, wanted a program and its arguments"),
    ("command: ['']\n", ":1: command: found an empty text as the program, wanted its name or path"),
    ("command: {a: 1}\n", ":1: command: found {'a': 1}, wanted a list"),
    (b"\xff\xfe", ": found bytes that are not UTF-8, wanted a YAML file"),
]  # fmt: skip

# hpcrun.toml, and what is said behind its path.
SETTINGS = [
    ("home = \n", ":1: not TOML: Invalid value"),
    ("a = 1\na = 2\n", ":2: not TOML: Cannot overwrite a value"),
    ('\nhoem = "a"\n', ":2: hoem: found an unknown key. Did you mean `home`?"),
    ('grace = "soon"\n', f":1: grace: found 'soon', {DURATION}"),
    ('cluster = "k8s"\n', ":1: cluster: found 'k8s', wanted 'auto', 'slurm' or 'local'"),
    ("home = 3\n", ":1: home: found 3, wanted text (put it in quotes)"),
    ('home = "/a\\nb"\n', ":1: home: found a control character in '/a\\nb', wanted a plain path: Slurm cannot name it"),
    ("node_pools = 3\n", ":1: node_pools: found 3, wanted a mapping of names to values"),
    ('[node_pools.a]\npartion = "x"\n', f":2: node_pools.a.partion: found an unknown key. {PARTITION}"),
    ('[node_pools.a]\nqos = "x\\ny"\n', ":2: node_pools.a.qos: found a control character in 'x\\ny', wanted a single line"),
    ("[machines.a]\ncpus = 0\n", ":2: machines.a.cpus: found 0, wanted 1 or more"),
    ('[machines.a]\nmemory = "x"\n', f":2: machines.a.memory: found 'x', {MEMORY}"),
    ("[machines.a]\nunits = 0\n", ":2: machines.a.units: found 0, wanted more than 0"),
    ('check_limits = "no"\n', ":1: check_limits: found 'no', wanted true or false"),
    ("[machines.a]\ngpus = -1\n", ":2: machines.a.gpus: found -1, wanted 0 or more"),
    ("defaults = 3\n", ":1: defaults: found 3, wanted a mapping of names to values"),
    ("[defaults]\nshardz = 2\n", ":2: shardz: found an unknown key. Did you mean `shards`?"),
    ('[defaults]\ncpus = "two"\n', ":2: cpus: found 'two', wanted a whole number"),
    ("[defaults]\nretries = -2\n", f":2: retries: found -2, {RETRIES}"),
    ("[defaults.retries]\nfailed = 1\nlost = 2\n", ":3: retries.lost: found an unknown cause. Wanted one of: failed, launch_failed, node_failed, preempted, timed_out"),
    ('prologue = "a\\u0000"\n', ":1: prologue: found a NUL byte in 'a\\x00', wanted text: no program can be given one"),
    (b"\xff", ": found bytes that are not UTF-8, wanted a TOML file"),
]  # fmt: skip

# Words behind `hpcrun`, and the whole message; `$T` is the test's own folder.
COMMAND_LINES = [
    ("submit -N x true", RUN_USAGE + "Invalid value for '-N' / '--shards' / '--parallelism' / '--total-shards': 'x' is not a valid integer."),
    ("submit -N 0 true", "--shards: found 0, wanted 1 or more"),
    ("submit --max-parallel -1 true", "--max-parallel: found -1, wanted 1 or more"),
    ("submit --mem lots true", f"--memory: found 'lots', {MEMORY}"),
    ("submit --timeout x true", f"--timeout: found 'x', {DURATION}"),
    ("submit --stderr both true", RUN_USAGE + "Invalid value for '--stderr': 'both' is not one of 'merged', 'separate'."),
    ("submit --cluster k8s true", RUN_USAGE + "Invalid value for '--cluster': 'k8s' is not one of 'auto', 'slurm', 'local'."),
    ("submit --gpus 64 true", "--gpus: found 64 a shard, and this machine has 0; lower it"),
    ("submit -P gpu true", "--node-pool: found 'gpu', wanted a [node_pools.gpu] in hpcrun.toml; there is none yet."),
    ("submit -e NOPE true", "--env: found 'NOPE', which is not set here; wanted NAME=VALUE"),
    ("submit -e SLURM_JOB_ID=3 true", "--env: found SLURM_JOB_ID, which hpcrun sets itself; wanted a name without a reserved prefix"),
    ("submit -e =3 true", "--env: found the variable name '', wanted a name without = or NUL"),
    ("submit --sbatch-option partion=x true", f"sbatch's options: found --partion, which sbatch does not have. {PARTITION}"),
    ("submit --sbatch-option partition true", "sbatch's options: found --partition without a value, wanted --partition=VALUE"),
    ("submit --array 0-3 true", "--array: found an option of sbatch's that hpcrun decides: shards decide it; use `shards` and `max_parallel` (-N, --max-parallel)"),
    ("submit --output=x true", "--output: found an option of sbatch's that hpcrun decides: hpcrun keeps one log a shard; use `hpcrun logs`"),
    ("submit --retries x true", RUN_USAGE + "Invalid value for '--retries': 'x' is not a valid integer."),
    ("submit --retries 51 true", f"--retries: found 51, {RETRIES}"),
    ("submit --backoff-limit-per-index -1 true", f"--backoff-limit-per-index: found -1, {RETRIES}"),
    ("submit --retries 1 --backoff-limit-per-index 1 true", "--backoff-limit-per-index: found it beside --retries, which says the same; wanted one of them"),
    ("submit --gang -N 2 --backoff-limit-per-index 1 true", f"--backoff-limit-per-index: {PER_INDEX}"),
    ("submit --completion-mode NonIndexed --backoff-limit-per-index 1 true", "--backoff-limit-per-index: found it beside `completionMode: NonIndexed`, whose shards have no index; wanted `retries`"),
    ("submit --set spec.retries.zzz=1 true", "--set spec.retries.zzz: found an unknown cause. Wanted one of: failed, launch_failed, node_failed, preempted, timed_out"),
    ("submit --retry never true", RUN_USAGE + "Invalid value for '--retry': 'never' is not one of 'requeue', 'in_place'."),
    ("submit --backoff x true", f"--backoff: found 'x', {DURATION}"),
    ("submit --after zzz true", "--after: no run 'zzz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("submit --after-success last true", "--after-success: no run 'last' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("submit --after-fail a, true", f"--after-fail: found ['a,'], {RUNS}"),
    ("submit --max-failed-indexes -1 true", "--max-failed-indexes: found -1, wanted 0 or more"),
    ("submit --max-failed-indexes 1 --gang -N 2 true", "--max-failed-indexes: found it beside `gang: true`, whose shards fail together"),
    ("submit --run-timeout 0 true", "--run-timeout: found '0', wanted a duration above zero"),
    ("submit --opportunistic true", f"--opportunistic: {NOT_YET_OPTION}"),
    ("submit --gang true", f"--gang: {ALONE}"),
    ("submit --topology flat true", "--topology: found flat without workers, wanted `worker`, or no topology"),
    ("submit --topology star true", RUN_USAGE + "Invalid value for '--topology': 'star' is not one of 'auto', 'flat', 'het'."),
    ("submit --start-timeout x true", f"--start-timeout: found 'x', {DURATION}"),
    ("submit --image img true", f"--image: found the image 'img', {NO_RUNTIME}"),
    ("submit --mount a true", "--mount: found 'a' in 'a', wanted an absolute path without , and :"),
    ("submit --nodes 0 true", "--nodes: found 0, wanted 1 or more"),
    ("submit --nodes 3 --ntasks 2 true", "--tasks: found 2 tasks on 3 nodes, wanted a task a node at least"),
    ("submit --ntasks-per-node 2 true", "--ntasks-per-node: found an option of sbatch's that hpcrun decides: use `tasks` and `nodes` (--tasks, --nodes)"),
    ("submit --container x true", "--container: found an option of sbatch's that hpcrun decides: use `image` (--image)"),
    ("submit --sbatch-option nodes=2 true", "sbatch's options: found --nodes, wanted the spec's own field `nodes`"),
    ("submit --codespec train a", "COMMAND: found `command` beside `codespec`, wanted one of them"),
    ("submit --codespec trian", f"--codespec: found no codespec 'trian' in {SHELF}. Did you mean `train`? {LIST}"),
    ("submit --codespec serve", "--codespec: found a codespec of kind worker, wanted one of kind job here"),
    ("submit --codespec train --version 7", f"--codespec: found no version 7 of the codespec 'train' in {SHELF}, wanted 1; {LATEST}"),
    ("submit --codespec train --version 0", "--version: found 0, wanted 1 or more"),
    ("submit --codespec train/versions/1 --version 2", "--version: found 2 beside train/versions/1, wanted one of both"),
    ("submit --version 1 true", "--version: found 1 without --codespec, wanted both of them"),
    ("submit --worker-version 1 true", "--worker-version: found 1 without --worker-codespec, wanted both of them"),
    ("submit --worker-replicas 2 true", "worker: found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there (--worker-codespec)"),
    ("submit --set worker.replicas=2 true", "--set worker.replicas: found no program for the workers, wanted `codespec: NAME` or `command: [PROGRAM, …]` there (--worker-codespec)"),
    ("submit --worker-codespec train true", "--worker-codespec: found a codespec of kind job, wanted one of kind worker here"),
    ("submit --worker-codespec ../serve true", f"--worker-codespec: found '../serve', {REFERENCE}"),
    ("submit --worker-codespec serve --worker-replicas 0 true", "--worker-replicas: found 0, wanted 1 or more"),
    ("submit --worker-codespec serve --worker-replicas 3 true", "--worker-replicas: found 3, and the codespec allows at most 2 (maxReplicas)"),
    ("submit --worker-codespec serve --worker-node-pool gpu true", "--worker-node-pool: found 'gpu', wanted a [node_pools.gpu] in hpcrun.toml; there is none yet."),
    ("submit", "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("submit nope.yaml", "nope.yaml: found no such file, wanted a spec file or a command"),
    ("submit folder.yaml", "folder.yaml: found a directory, wanted a spec file or a command"),
    ("submit good.yaml -N 4", "good.yaml: found '-N' behind the spec file; options go before it, and the program's arguments into it (or --set spec.args='[…]')"),
    ("submit --set shards true", "--set: found 'shards', wanted FIELD=VALUE such as env.A=1 or spec.shards=4"),
    ("submit --set shards=4 true", "--set shards: found the variable 'shards', which the spec has not. For the field of that name write spec.shards=…"),
    ("submit --set =1 true", "--set: found '=1', wanted FIELD=VALUE such as env.A=1 or spec.shards=4"),
    ("submit --set a..b=1 true", "--set: found 'a..b=1', wanted FIELD=VALUE such as env.A=1 or spec.shards=4"),
    ("submit --set spec.shard=4 true", "--set spec.shard: found an unknown key. Did you mean `shards`?"),
    ("submit --set spec.shards=x true", "--set spec.shards: found 'x', wanted a whole number"),
    ("submit --set env.A.B=1 true", "--set env.A.B: found {'B': 1}, wanted text (put it in quotes)"),
    ("submit --set spec.args=[ true", "--set spec.args: found '[', wanted a list"),
    ("hosts expand n[3-1]", "hostlist 'n[3-1]': column 3: found the range 3-1, wanted low-high with low <= high"),
    ("hosts count n[1-", "hostlist 'n[1-': column 2: found '[' without its ']', wanted a closed bracket"),
    ("env", "found no SLURM_JOB_ID, wanted to be called inside a Slurm job (a batch script, salloc or srun)"),
    ("status", "no run 'last' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("cancel zz", "no run 'zz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("stauts", "found no command 'stauts'. Did you mean `status`?"),
    ("retry", "found no RUN, wanted the id of a run, its beginning, the number of a job, or `last`; `hpcrun list` shows the runs there are"),
    ("cancel", "found no RUN, wanted the id of a run, its beginning, the number of a job, or `last`; `hpcrun list` shows the runs there are"),
    ("retry zz failed", "no run 'zz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("wait zz", "no run 'zz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("results zz", "no run 'zz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("usage zz", "no run 'zz' in $T/runs-home; `hpcrun list` shows the runs there are"),
    ("logs --tail -1", USAGE.format("logs", "[RUN]") + "Invalid value for '--tail': -1 is not in the range x>=0."),
    ("logs --role boss", USAGE.format("logs", "[RUN]") + "Invalid value for '--role': 'boss' is not one of 'job', 'worker', 'all'."),
    ("hosts expand n[1-99999999]", "hostlist 'n[1-99999999]': column 3: found the range 1-99999999, wanted at most 65536 hosts in a range"),
    ("codespec create A.B -- true", "codespec names must contain only lower case letters (a-z), numbers (0-9), dashes (-), underscores (_), and dots (.); found 'A.B'"),
    ("codespec create x nope.yaml", "found 'nope.yaml' behind the name; the program's words stand behind --, at the end"),
    ("compile -N 0 true", "--shards: found 0, wanted 1 or more"),
    ("run -N 0 true", "--shards: found 0, wanted 1 or more"),
    ("run", "found no program, wanted `command: [PROGRAM, ARGUMENT, …]` or `script`"),
    ("list -n 0", USAGE.format("list", "").replace(" \n", "\n") + "Invalid value for '-n' / '--limit': 0 is not in the range x>=1."),
]  # fmt: skip

# One HPCRUN_* variable, and the whole message.
VARIABLES = [
    ("HPCRUN_CLUSTER", "pbs", "HPCRUN_CLUSTER: found 'pbs', wanted 'auto', 'slurm' or 'local'"),
    ("HPCRUN_HOME", "/a\nb", "HPCRUN_HOME: found a control character in '/a\\nb', wanted a plain path: Slurm cannot name it"),
    ("HPCRUN_CONFIG", "/nope.toml", "/nope.toml: cannot read the settings: No such file or directory"),
    ("HPCRUN_NODE_PYTHON", "/nope", "the cluster refused the submission: cannot start '/nope': No such file or directory\n  set node_python in hpcrun.toml to a Python 3.9 or newer"),
]  # fmt: skip

# batch.sh in a folder of templates, and what is said behind its path.
TEMPLATES = [
    ("#!/bin/bash\n{% nope %}\n", ":2: not a template: Encountered unknown tag 'nope'."),
    ("#!/bin/bash\n{{ nodes }}\n", ": cannot render the template: 'nodes' is undefined"),
    ("exec {{ launch }}\n", ":1: found no #! line at its beginning, wanted a script such as #!/bin/bash"),
    (b"#!/bin/bash\n\xff", ": found bytes that are not UTF-8, wanted a template"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPCRUN_CLUSTER", "local")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


@pytest.fixture
def codespecs(tmp_path: Path) -> None:
    """A codespec of each kind: `train`, and `serve`, of which a run may ask for two."""
    for name, fields in (("train", {}), ("serve", {"kind": "worker", "max_replicas": 2})):
        registry.create(str(tmp_path / "runs-home" / "codespecs"), name, Source({"command": ["a"], **fields}, {}))


def put(path: Path, text: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())


def refusal(tmp_path: Path, *words: str) -> str:
    """What `hpcrun` says when it refuses `words`; it must write no run folder."""
    done = CliRunner().invoke(main, list(words), prog_name="hpcrun")
    assert done.exit_code == 2, (done.output, done.exception)
    runs = tmp_path / "runs-home" / "runs"
    assert not runs.exists() or not list(runs.iterdir())
    assert not done.stdout
    return done.stderr.removeprefix("hpcrun: error: ").removesuffix("\n")


@pytest.mark.parametrize(("lines", "said"), SPEC_LINES)
@pytest.mark.usefixtures("codespecs")
def test_spec_line(tmp_path: Path, lines: str, said: str) -> None:
    """A bad field is refused with file, line and the field as its author spelled it."""
    put(tmp_path / "spec.yaml", f"command: [a]\n{lines}\n")
    assert refusal(tmp_path, "submit", "spec.yaml") == f"spec.yaml:{said}".replace("$T", str(tmp_path))


@pytest.mark.parametrize(("text", "said"), SPEC_FILES)
@pytest.mark.usefixtures("codespecs")
def test_spec_file(tmp_path: Path, text: str | bytes, said: str) -> None:
    """A file that is no spec is refused with its name and, where there is one, the line."""
    put(tmp_path / "spec.yaml", text)
    assert refusal(tmp_path, "submit", "spec.yaml") == f"spec.yaml{said}".replace("$T", str(tmp_path))


@pytest.mark.parametrize(("text", "said"), SETTINGS)
def test_settings_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | bytes, said: str) -> None:
    """A bad hpcrun.toml is refused with its path, line and key."""
    monkeypatch.delenv("HPCRUN_HOME")
    monkeypatch.delenv("HPCRUN_CLUSTER")
    put(tmp_path / "hpcrun.toml", text)
    assert refusal(tmp_path, "submit", "--cluster", "local", "true") == f"{tmp_path}/hpcrun.toml{said}"


@pytest.mark.parametrize(("line", "said"), COMMAND_LINES)
@pytest.mark.usefixtures("codespecs")
def test_command_line(tmp_path: Path, line: str, said: str) -> None:
    """A bad command line is refused with the name of the option."""
    (tmp_path / "folder.yaml").mkdir()
    put(tmp_path / "good.yaml", "command: [a]\n")
    assert refusal(tmp_path, *line.split()) == said.replace("$T", str(tmp_path))


@pytest.mark.parametrize(("name", "value", "said"), VARIABLES)
def test_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, value: str, said: str) -> None:
    """A bad variable is refused by its name."""
    monkeypatch.setenv(name, value)
    assert refusal(tmp_path, "submit", "true") == said


def scontrol(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str) -> None:
    """Put a scontrol in PATH that says this to every question, and no other command of Slurm's."""
    put(tmp_path / "bin" / "scontrol", f"#!/bin/sh\necho '{said}'\n")
    (tmp_path / "bin" / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")


# Words behind `hpcrun submit --cluster slurm`, and what is said where the partition has limits.
LIMITS = [
    ("--time 2:00:00 true", "sbatch's options: found a time limit of 2h, and partition main allows 30m (MaxTime); wanted 30m at most, or another partition"),
    ("--timeout 1h true", "--timeout: found a time limit of 1h2m (timeout 1h), and partition main allows 30m (MaxTime); wanted a timeout of 28m50s at most, or another partition"),
    ("--nodes 3 true", "--nodes: found 3 nodes a job, and partition main allows 2 nodes (MaxNodes); wanted 2 nodes at most, or another partition"),
    ("good.yaml", "good.yaml:2: timeout: found a time limit of 1h2m (timeout 1h), and partition main allows 30m (MaxTime); wanted a timeout of 28m50s at most, or another partition"),
]  # fmt: skip


HALF_AN_HOUR = (
    "MaxArraySize = 1001\nPartitionName=main Default=YES MaxTime=00:30:00 MaxNodes=2 DefaultTime=NONE State=UP"
)


@pytest.mark.parametrize("asked", ["--sbatch-option clusters=other", "", "check_limits"])
def test_limits_that_do_not_hold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked: str) -> None:
    """Those of this cluster say nothing of another one, and a site may want none to be looked at."""
    scontrol(monkeypatch, tmp_path, HALF_AN_HOUR)
    put(tmp_path / "hpcrun.toml", "check_limits = false\n" if asked == "check_limits" else "")
    words = [*asked.removeprefix("check_limits").split(), "--time", "1:00:00", "true"]
    done = CliRunner().invoke(main, ["compile", "--cluster", "slurm", *words], prog_name="hpcrun")
    assert done.exit_code == (0 if asked else 2), done.output


@pytest.mark.parametrize(("line", "said"), LIMITS)
def test_limits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, said: str) -> None:
    """What the cluster's limits forbid is refused before anything is written, with the field that asked for it."""
    scontrol(monkeypatch, tmp_path, HALF_AN_HOUR)
    put(tmp_path / "good.yaml", "command: [a]\ntimeout: 1h\n")
    assert refusal(tmp_path, "submit", "--cluster", "slurm", *line.split()) == said


@pytest.mark.parametrize(("text", "said"), TEMPLATES)
def test_template(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | bytes, said: str) -> None:
    """A bad script template is refused with its path before anything is submitted."""
    scontrol(monkeypatch, tmp_path, "MaxArraySize = 1001")
    put(tmp_path / "site" / "batch.sh", text)
    monkeypatch.setenv("HPCRUN_TEMPLATES", "site")
    assert refusal(tmp_path, "submit", "--cluster", "slurm", "true") == f"site/batch.sh{said}"


def test_control_character_on_the_command_line(tmp_path: Path) -> None:
    """A newline in an option of sbatch's is refused, for it would end the directive."""
    said = "sbatch's options: found a control character in 'a\\nb', wanted a single line"
    assert refusal(tmp_path, "submit", "--partition", "a\nb", "true") == said


def test_unknown_pool_beside_known_ones(tmp_path: Path) -> None:
    """Where there are pools, an unknown one is answered with their names."""
    put(tmp_path / "hpcrun.toml", "[node_pools.gpu]\npartition = 'g'\n")
    said = "--node-pool: found 'gpux', wanted one of: gpu. Did you mean `gpu`?"
    assert refusal(tmp_path, "submit", "-P", "gpux", "true") == said


RUNS = [
    ("logs aa", "run 'aa' fits 2 runs (aab, aac); give more of its id"),
    ("logs aab -s 7", "found shard 7, wanted 0 to 2"),
    ("logs aab --attempt 4", "found attempt 4 of shard 0, wanted 0 to 0"),
    ("logs aab -s 3-1", "index set '3-1': column 1: found the range 3-1, wanted low-high with low <= high"),
    ("logs aab -s 1,,2", "index set '1,,2': column 3: found nothing, wanted an index, or a range such as 3-9 or 0-9:2"),
    ("logs aab -s x", "index set 'x': column 1: found 'x', wanted an index, or a range such as 3-9 or 0-9:2"),
    ("logs aab --role worker", "run aab has no workers, wanted no --replica, and no --role but job"),
    ("logs aab --task train", "found the task 'train', and run aab has no tasks; wanted its shards, by their index"),
    ("logs aab --task train -s 1", "found --task beside --shard, --role or --replica, wanted one of them"),
    ("retry aab 3-", "index set '3-': column 1: found '3-', wanted an index, or a range such as 3-9 or 0-9:2"),
    ("retry aab 7", "found shard 7, wanted 0 to 2"),
    ("retry aa failed", "run 'aa' fits 2 runs (aab, aac); give more of its id"),
    ("wait aa", "run 'aa' fits 2 runs (aab, aac); give more of its id"),
    ("cancel aab aa", "run 'aa' fits 2 runs (aab, aac); give more of its id"),
    ("submit --after aa true", "--after: run 'aa' fits 2 runs (aab, aac); give more of its id"),
    (
        "results aab -s 1",
        "found a choice of shards, and those of run aab share one folder; wanted none, or a run with `results: committed`",
    ),
    ("status ../runs/aab", "no run '../runs/aab' in $T/runs-home; `hpcrun list` shows the runs there are"),
]


@pytest.mark.parametrize(("line", "said"), RUNS)
def test_run(tmp_path: Path, line: str, said: str) -> None:
    """A run, shard or attempt that there is not, or not only once, is said with what there is."""
    for name in ("aab", "aac"):
        folder = tmp_path / "runs-home" / "runs" / name
        folder.mkdir(parents=True)
        value = dataclasses.replace(plan(shards=3), run_id=name, cluster="local").to_json()
        (folder / "plan.json").write_text(json.dumps(value))
    done = CliRunner().invoke(main, line.split(), prog_name="hpcrun")
    assert (done.exit_code, done.stderr) == (2, f"hpcrun: error: {said}\n".replace("$T", str(tmp_path)))


NO_PLAN = "wanted it as its submission wrote it: bring it back from a copy, or ask Slurm about the jobs of the run"
# What plan.json of a run folder holds, and what is said behind its path.
PLANS = [
    ("", f"found no plan (Expecting value: line 1 column 1 (char 0)), {NO_PLAN}"),
    ('{"format": ', f"found no plan (Expecting value: line 1 column 12 (char 11)), {NO_PLAN}"),
    ('{"format": 1}', f"found plan format 1, wanted {FORMAT}; ask with the hpcrun that submitted the run"),
    ('{"format": 999}', f"found plan format 999, wanted {FORMAT}; ask with the hpcrun that submitted the run"),
    (f'{{"format": {FORMAT}}}', f"found no plan ('export'), {NO_PLAN}"),
]


@pytest.mark.parametrize("command", ["status", "logs", "cancel", "retry", "wait", "results", "usage"])
@pytest.mark.parametrize(("text", "said"), PLANS)
def test_run_folder(tmp_path: Path, command: str, text: str, said: str) -> None:
    """A run folder that nobody can read is said by its path; nothing in it is touched."""
    path = tmp_path / "runs-home" / "runs" / "aab" / "plan.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    done = CliRunner().invoke(main, [command, "aab"], prog_name="hpcrun")
    assert (done.exit_code, done.stderr) == (1, f"hpcrun: error: {path}: {said}\n")
    assert [one.name for one in path.parent.iterdir()] == ["plan.json"]


UNREACHABLE = "slurm_load_ctl_conf error: Unable to contact slurm controller (connect failure)"


@pytest.mark.parametrize("command", ["submit", "run", "compile"])
@pytest.mark.parametrize("there", [True, False])
def test_without_slurm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: str, there: bool) -> None:
    """Where its commands are missing or its controller is away, that is said with what to do; there is no run."""
    (tmp_path / "bin").mkdir()
    if there:
        put(tmp_path / "bin" / "scontrol", f"#!/bin/sh\necho '{UNREACHABLE}' >&2\nexit 1\n")
        (tmp_path / "bin" / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/bin")
    done = CliRunner().invoke(main, [command, "--cluster", "slurm", "true"], prog_name="hpcrun")
    said = (
        "`scontrol` failed: Unable to contact slurm controller (connect failure); is slurmctld up? Try `scontrol ping`"
        if there
        else "found no `scontrol` on this machine; wanted Slurm's commands in PATH; without Slurm there is `hpcrun run "
        "--cluster local`"
    )
    assert (done.exit_code, done.stdout, done.stderr) == (69, "", f"hpcrun: error: {said}\n")
    assert not (tmp_path / "runs-home" / "runs").exists()
