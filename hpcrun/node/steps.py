"""Starting the processes of a gang on their nodes: by srun inside a Slurm allocation, as plain processes locally."""

from __future__ import annotations

import os
import sys

from hpcrun.node import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Mapping, Sequence

    from hpcrun.allocation import Allocation
    from hpcrun.plan import Plan, Role, Task
    from hpcrun.rundir import RunDir
else:
    import _signal as signal  # without the enums that `signal` wraps it in

_SHAPING = (
    "SLURM_NTASKS", "SLURM_NPROCS", "SLURM_NNODES", "SLURM_JOB_NUM_NODES", "SLURM_CPUS_PER_TASK", "SLURM_TRES_PER_TASK",
    "SLURM_MEM_PER_CPU", "SLURM_MEM_PER_NODE", "SLURM_MEM_PER_GPU", "SLURM_GPUS", "SLURM_GPUS_PER_TASK",
    "SLURM_GPUS_PER_NODE", "SLURM_NTASKS_PER_NODE", "SLURM_DISTRIBUTION", "SLURM_EXACT", "SLURM_OVERLAP",
    "SLURM_WHOLE", "SLURM_HINT", "SLURM_GRES", "SLURM_STEP_GRES", "SLURM_MPI_TYPE", "SLURM_OUTPUT", "SLURM_HOSTFILE",
)  # fmt: skip
"""What srun would take from the batch script's environment (its manual, INPUT ENVIRONMENT VARIABLES): every step here
says all of it itself."""


_SRUN = ("srun", "--input=none", "--kill-on-bad-exit=0", "--wait=0", "--mpi=none", "--export=ALL")
AFTER_GRACE = 5.0
"""Seconds beyond the grace in which everybody must have gone."""


class Steps:
    """Starts agents for one attempt; `processes` has the process ids of what it started, with the seats they carry."""

    def __init__(self, plan: Plan, run: RunDir, allocation: Allocation, meeting: str) -> None:
        self._plan, self._run, self._allocation, self._meeting = plan, run, allocation, meeting
        self.processes: dict[int, tuple[str, int, int]] = {}

    def start(self, role: Role, count: int) -> None:
        """Start `count` agents of `role`; process id → (role, first rank, ranks).

        Raises OSError where what starts them cannot be started.
        """
        agent = [sys.executable or "python3", "-I", "-S", self._run.start, "agent", self._meeting, role.name]
        if self._plan.cluster == "local":
            for rank in range(count):
                self.processes[_spawn([*agent, str(rank)], os.environ)] = (role.name, rank, 1)
            return
        agent[0] = self._plan.node_python
        environ = without_shape(os.environ)
        step = _srun(self._plan, role, count, self._allocation)
        self.processes[_spawn([*step, *agent], environ)] = (role.name, 0, count)

    def start_task(self, task: Task, called: str, nodes: Sequence[str], log: str) -> int:
        """Start the agents of one try of a workflow's task, which goes by the name `called`; the process that did.

        What srun has to say goes to the task's `log`. Raises OSError where what starts them cannot be started.
        """
        agent = [sys.executable or "python3", "-I", "-S", self._run.start, "agent", self._meeting, called]
        if self._plan.cluster == "local":
            process = _spawn([*agent, "0"], os.environ, log)
        else:
            agent[0] = self._plan.node_python
            process = _spawn([*_task_step(self._plan, task, nodes), *agent], without_shape(os.environ), log)
        self.processes[process] = (called, 0, len(nodes))
        return process

    def end(self, wait: Callable[[Callable[[], bool], float], None]) -> None:
        """End what still runs of what was started; `wait` waits for a condition for so many seconds at most."""
        gone = lambda: not self.processes  # noqa: E731
        wait(gone, AFTER_GRACE)
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in self.processes:
                os.killpg(process, number)
            wait(gone, AFTER_GRACE)


def _task_step(plan: Plan, task: Task, nodes: Sequence[str]) -> list[str]:
    """The srun that starts an agent on each of a task's `nodes`, in their order."""
    role = task.role
    known = all(one.role.memory for one in plan.tasks)
    return [
        *_SRUN, f"--job-name={task.name}", f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1",
        f"--nodelist={','.join(nodes)}",
        # Where one step names no memory, it would have all of it, and the others nothing.
        f"--mem={role.memory}M" if known else "--mem=0",
        *(["--overlap"] if task.overlaps else ["--exact", f"--cpus-per-task={role.cpus}"]),
        f"--gpus-per-node={_gpus(role)}" if role.gpus else "--gres=none",
    ]  # fmt: skip


def without_shape(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without what would shape a step behind its options' back."""
    return {name: value for name, value in environ.items() if name not in _SHAPING}


def _srun(plan: Plan, role: Role, count: int, allocation: Allocation) -> list[str]:
    """The srun that starts `count` agents of `role` in rank order."""
    return [*_SRUN, *_place(plan, role, count, allocation), *amounts(role)]


def _place(plan: Plan, role: Role, count: int, allocation: Allocation) -> list[str]:
    if plan.shape == "het":
        group = 1 if role.name == "worker" else 0
        nodes = len(allocation.components[group])
        return [f"--het-group={group}", f"--nodes={nodes}", f"--ntasks={count}", "--distribution=block", "--exact"]
    if plan.shape == "flat":
        slots = ",".join(_slots(plan, role, allocation)[:count])
        return [f"--ntasks={count}", "--distribution=arbitrary", f"--nodelist={slots}", "--exact"]
    return [f"--nodes={len(allocation.nodes)}", f"--ntasks={count}", "--distribution=block", "--exact"]


def _slots(plan: Plan, role: Role, allocation: Allocation) -> list[str]:
    """The nodes of the slots of a flat allocation that are this role's: jobs have the first ones."""
    slots = [node for node, count in zip(allocation.nodes, allocation.tasks) for _ in range(count)]
    jobs = plan.shards if plan.gang else 1
    return slots[jobs:] if role.name == "worker" else slots[:jobs]


def amounts(role: Role) -> list[str]:
    """What each task of a step gets."""
    found = [f"--cpus-per-task={role.cpus}"]
    if role.memory:
        found.append(f"--mem-per-cpu={-(-role.memory // role.cpus)}M")
    if role.gpus:
        found.append(f"--gpus-per-task={_gpus(role)}")
    else:
        found.append("--gres=none")
    return found


def _gpus(role: Role) -> str:
    return f"{role.gpu_type}:{role.gpus}" if role.gpu_type else str(role.gpus)


def ranks(role: Role, plan: Plan, command: Sequence[str]) -> list[str]:
    """`command` as a parallel program: all tasks of one copy, started together."""
    if plan.cluster == "local":
        return ["mpirun", "-n", str(role.tasks), *command]
    nodes = [f"--nodes={role.nodes}"] if role.nodes else []
    group = ["--het-group=0"] if plan.shape == "het" else []
    mpi = [f"--mpi={role.mpi}"] if role.mpi else []
    options = ["--input=none", "--kill-on-bad-exit=1", "--export=ALL", "--exact"]
    return ["srun", *options, *group, *nodes, f"--ntasks={role.tasks}", *mpi, *amounts(role), *command]


def _spawn(argv: Sequence[str], environ: Mapping[str, str], log: str = "") -> int:
    files: list[tuple[int | str, ...]] = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]
    if log:
        files.append((os.POSIX_SPAWN_OPEN, 2, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
    return program.spawn(
        program.found(argv[0], environ.get("PATH", os.defpath)), argv, environ,
        file_actions=files, setsid=True, setsigmask=(), setsigdef=(),
    )  # fmt: skip
