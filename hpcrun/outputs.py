"""Where Slurm writes the output of a job: into the run folder, or, of a script of sbatch's kind, where that says."""

from __future__ import annotations

from hpcrun.plan import Plan
from hpcrun.rundir import RunDir
from hpcrun.slurm import owner, user_name


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
            user=user_name(owner(run)),
            node=node,
            cwd=plan.job.cwd,
        )
        for pattern in (script.output, script.error)
        if pattern
    ]
