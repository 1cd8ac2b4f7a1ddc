"""Where Slurm writes the output of a job: into the run folder, or, of a script of sbatch's kind, where that says."""

from __future__ import annotations

import os
import pwd

from hpcrun.plan import Plan
from hpcrun.rundir import RunDir


def slurm_outputs(plan: Plan, run: RunDir, job: str, task: int | None, node: str = "") -> list[str]:
    """The files of one array element (``job_task``) or job: one, or two where standard error is kept apart.

    `node` is the first of its nodes, where it is known.
    """
    script = plan.batch_script
    if script is None:
        return [run.slurm_output(job, task)]
    from hpcrun.sbatch_line import output_path  # of use to scripts of sbatch's kind only

    return [
        output_path(
            pattern,
            job=job,
            array_job=None if task is None else job,
            task=task,
            name=plan.name,
            user=_owner(run),
            node=node,
            cwd=plan.job.cwd,
        )
        for pattern in (script.output, script.error)
        if pattern
    ]


def _owner(run: RunDir) -> str:
    uid = os.stat(run.path).st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
