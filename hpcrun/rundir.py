"""Every path of a run.

A run's folder is ``$HPCRUN_HOME/runs/<run-id>/``, mode 0700, on a file system that the nodes share. Each file in
it has exactly one writing process, because appends from several nodes are not atomic on NFS:

    spec.yaml               the spec as it was given                                     (submission)
    payload                 the function that it calls, and what with; where it does     (submission)
    slurm_script            the batch script that it carries out; where it does, under
                            the name that slurmd gives its copy                          (submission)
    plan.json               what was decided                                             (submission)
    start.py, node.pyz      the runtime that the nodes run                               (submission)
    scripts/K.sh            what was given to sbatch for batch K, K.R.sh in round R of
                            its retries by hand                                          (submission)
    submission.jsonl        who submits, intents and job ids                             (submission, then retries)
    claims/K, claims/K.R    the id of the one job that may run batch K (in round R),
                            or `nobody`: a retry has given its shards to another         (the job's first, or a retry)
    claims/round.R          the process that began round R of the retries by hand        (retry)
    claims/round.R.shards   which shards round R of the retries by hand has              (retry)
    records/A/BBB/S.jsonl   when attempt A of shard S started and ended                  (the shard's supervisor)
    records/A/BBB/S.silent  its end, where its supervisor could not write it             (the first to see it)
    logs/A/BBB/S.log        its output, both streams (S.out and S.err when kept apart)   (the program)
    logs/A/BBB/S.worker/BBB/R.log   the output of worker R of shard S                    (the worker)
    returned/A/BBB/S        what the calls of a function have returned                   (the shard's program)
    rendezvous/S.A          where the workers of an attempt find its supervisor, and its
                            secret; there while the attempt lasts                        (the shard's supervisor)
    workers/S.A.json        nodes and endpoints of an attempt's workers, for its job     (the shard's supervisor)
    tasks/A.jsonl           what the tasks of a workflow did in attempt A, a line a change (its supervisor)
    logs/A/tasks/NAME.log   the output of one of them, of rank R of several NAME@R.log   (the task)
    slurm/J_T.out           what Slurm itself wrote for the element; removed when empty  (slurmstepd)
    pytest-shards/K/        what the shards of a test suite agree on, and how long their tests took (its shards)
    results/                for the program, as HPCRUN_RESULTS_DIR                       (the program)
    results/BBB/S/          or, where results are committed, those of shard S            (its first attempt to succeed)
    results/.attempts/A/BBB/S/   and those of an attempt that runs or has failed         (the program)
    failed/S                there where shard S has failed for good, and that is counted (the shard's supervisor)
    scripts/finish.sh       what tells how the run has ended, finish.R.sh with round R;
                            there where runs wait for this one                           (the first one's submission)
    outcome.json            how it has ended, as those that wait are told, and with
                            round R outcome.R.json                                       (the finaliser)
    dependants/RUN          the folder of a run that waits for this one                  (its submission)
    claims/upstream         there once the runs before it have let this run start        (its first shard)
    cancelled               the word that nothing more may start, whose, and why         (the first to say it)
    local/                  the local cluster's lock, shard states and messages          (its supervisor)

BBB is shard // 500 (or worker // 500) with three digits or more, so that no folder holds over 1,000 entries.
"""

from __future__ import annotations

import os

SHARDS_A_FOLDER = 500  # twice that many entries with stderr kept apart


class RunDir:
    """The paths of the run in the folder `path`. Nothing is touched on disk."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.run_id = os.path.basename(path)
        self.spec = os.path.join(path, "spec.yaml")
        self.payload = os.path.join(path, "payload")
        self.plan = os.path.join(path, "plan.json")
        self.batch_script = os.path.join(path, "slurm_script")
        self.start = os.path.join(path, "start.py")
        self.node = os.path.join(path, "node.pyz")
        self.submission = os.path.join(path, "submission.jsonl")
        self.cancelled = os.path.join(path, "cancelled")
        self.failed = os.path.join(path, "failed")
        self.dependants = os.path.join(path, "dependants")
        self.let_start = os.path.join(path, "claims", "upstream")
        self.results = os.path.join(path, "results")
        self.slurm = os.path.join(path, "slurm")
        self.local_lock = os.path.join(path, "local", "lock")
        self.local_states = os.path.join(path, "local", "states")
        self.local_messages = os.path.join(path, "local", "messages.log")

    def script(self, batch: int, in_round: int = 0) -> str:
        """The sbatch script of batch `batch`, as submitted in the round `in_round` of the run's retries by hand."""
        return os.path.join(self.path, "scripts", f"{_round_of(batch, in_round)}.sh")

    def claim(self, batch: int, in_round: int = 0) -> str:
        """The file that holds the id of the one job that may run `batch` in this round."""
        return os.path.join(self.path, "claims", _round_of(batch, in_round))

    def finish_script(self, in_round: int) -> str:
        """The sbatch script of the finaliser, which tells how the run has ended, of one round."""
        return os.path.join(self.path, "scripts", f"{_round_of('finish', in_round)}.sh")

    def outcome(self, in_round: int) -> str:
        """How the run had ended with this round, as the runs that wait for it are told."""
        return os.path.join(self.path, f"{_round_of('outcome', in_round)}.json")

    def round_claim(self, in_round: int) -> str:
        """The file that says who has begun a round of retries by hand; there is none of a round that nobody has."""
        return os.path.join(self.path, "claims", f"round.{in_round}")

    def round(self, in_round: int) -> str:
        """The file that holds the shards of a round of retries by hand, as an index set."""
        return os.path.join(self.path, "claims", f"round.{in_round}.shards")

    def records(self, attempt: int) -> str:
        """The folder of all records of one attempt number."""
        return os.path.join(self.path, "records", str(attempt))

    def record(self, shard: int, attempt: int) -> str:
        """The record of one attempt of one shard."""
        return f"{self.path}/records/{attempt}/{_folder(shard)}/{shard}.jsonl"  # a status asks for 100,000 of them

    def silence(self, shard: int, attempt: int) -> str:
        """The end of an attempt whose supervisor fell silent, as the rest of its gang saw it."""
        return os.path.join(self.records(attempt), _folder(shard), f"{shard}.silent")

    def log(self, shard: int, attempt: int, stream: str = "log", *, role: str = "job", replica: int = 0) -> str:
        """The output of one attempt; `stream` is ``log`` (both), or ``out`` or ``err`` where they are kept apart."""
        base = os.path.join(self.path, "logs", str(attempt), _folder(shard), str(shard))
        if role == "job":
            return f"{base}.{stream}"
        return os.path.join(f"{base}.{role}", _folder(replica), f"{replica}.{stream}")

    def committed(self, shard: int) -> str:
        """The results of a shard, where each has a folder of its own; it is there once the shard has succeeded."""
        return os.path.join(self.results, _folder(shard), str(shard))

    def uncommitted(self, shard: int, attempt: int) -> str:
        """What an attempt leaves for as long as it is not known to be the shard's success."""
        return os.path.join(self.results, ".attempts", str(attempt), _folder(shard), str(shard))

    def returned(self, shard: int, attempt: int) -> str:
        """What the calls of one attempt of a shard have returned or raised."""
        return os.path.join(self.path, "returned", str(attempt), _folder(shard), str(shard))

    def rendezvous(self, shard: int, attempt: int) -> str:
        """Where the processes of a gang's attempt find their supervisor; `shard` is the first of the gang."""
        return os.path.join(self.path, "rendezvous", f"{shard}.{attempt}")

    def workers(self, shard: int, attempt: int) -> str:
        """What the job of an attempt is told of its workers, as JSON."""
        return os.path.join(self.path, "workers", f"{shard}.{attempt}.json")

    def tasks(self, attempt: int) -> str:
        """What the tasks of a workflow did in one attempt."""
        return os.path.join(self.path, "tasks", f"{attempt}.jsonl")

    def task_log(self, attempt: int, task: str, rank: int = 0) -> str:
        """The output of a task of a workflow, all tries of it; of several processes each has its own."""
        return os.path.join(self.path, "logs", str(attempt), "tasks", f"{task}@{rank}.log" if rank else f"{task}.log")

    def slurm_output(self, job: str, task: int | None) -> str:
        """What Slurm itself wrote for one array element, or for a job that is no array."""
        return os.path.join(self.slurm, f"{job}_{task}.out" if task is not None else f"{job}.out")

    def folders(self, shards: int) -> list[str]:
        """Every folder that must exist before `shards` shards are submitted.

        Slurm loses a job's output without a word when its folder is missing.
        """
        tops = [
            os.path.join(self.path, name) for name in ("scripts", "claims", "slurm", "results", "local", "rendezvous")
        ]
        buckets = [_folder(first) for first in range(0, shards, SHARDS_A_FOLDER)]
        return tops + [os.path.join(self.path, kind, "0", bucket) for kind in ("records", "logs") for bucket in buckets]


def _round_of(what: int | str, in_round: int) -> str:
    return f"{what}.{in_round}" if in_round else str(what)


def _folder(shard: int) -> str:
    return f"{shard // SHARDS_A_FOLDER:03d}"
