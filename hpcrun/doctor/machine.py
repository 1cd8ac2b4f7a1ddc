"""The machine on which hpcrun is called: its settings, Slurm's commands, variables, the locale. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from hpcrun.doctor.facts import MACHINE, Facts, Finding, Machine, State

NEEDED = ("sbatch", "squeue", "scontrol", "scancel")
"""Slurm's commands without which there are no runs."""
USED = ("sacct", "srun")
"""Those that some runs need."""
_OPTIONS = {"account": "account", "partition": "partition", "qos": "qos", "constraint": "constraint"}


def examine(facts: Facts) -> Iterator[Finding]:
    """Every finding on this machine."""
    machine = facts.machine
    yield _settings(machine)
    yield _finding("python", "ok", f"Python {machine.python} on {machine.host}")
    yield _slurm(facts)
    if facts.site is not None:
        yield _variables(machine)
        yield _pyslurm(machine)
    if machine.locale:
        yield _finding(
            "locale",
            "note",
            f"the locale that is set is not there: {machine.locale}",
            "hpcrun reads and writes UTF-8 all the same; perl and R complain of it in every shard's log.",
            "export LC_ALL=C.UTF-8",
        )
    if facts.trial is not None:
        yield _trial(facts)


def _finding(name: str, state: State, found: str, meaning: str = "", todo: str = "") -> Finding:
    return Finding(MACHINE, name, state, found, meaning, todo)


def _settings(machine: Machine) -> Finding:
    if machine.unread:
        return _finding(
            "settings",
            "problem",
            machine.unread,
            "No command works until this is mended; what follows is checked with the defaults.",
        )
    if not machine.settings:
        return _finding("settings", "ok", "no hpcrun.toml, the defaults hold")
    last = " (the last one wins)" if len(machine.settings) > 1 else ""
    return _finding("settings", "ok", ", ".join(machine.settings) + last)


def _slurm(facts: Facts) -> Finding:
    machine, name = facts.machine, "slurm commands"
    if facts.site is None and machine.cluster == "local" and machine.commands.get("sbatch"):
        return _finding(
            name,
            "note",
            "there is a Slurm, and the local cluster is chosen (`cluster` in hpcrun.toml, or --cluster): runs stay on "
            "this machine",
        )
    if facts.site is None:
        return _finding(name, "ok", f"no sbatch in PATH: there is no Slurm here, and runs stay on {machine.host}")
    missing = [command for command in NEEDED if not machine.commands.get(command)]
    if missing:
        return _finding(
            name,
            "problem",
            f"no {', '.join(missing)} in PATH",
            "No run can be submitted, followed or cancelled from here.",
            "module load slurm, or add the folder of Slurm's commands to PATH",
        )
    if machine.script:
        return _finding(
            name,
            "note",
            f"{machine.commands['sbatch']} is a script of the site's ({machine.script})",
            "hpcrun calls it as people do. What it prints beside the job's id is skipped; if it submits a changed copy "
            "of the script, runs are told by the job's comment.",
        )
    lacking = [command for command in USED if not machine.commands.get(command)]
    if lacking:
        return _finding(
            name,
            "note",
            f"no {', '.join(lacking)} in PATH",
            "Without srun there are no ranks and no workers; without sacct ended jobs are known by their records.",
        )
    return _finding(name, "ok", f"sbatch is {machine.commands['sbatch']}")


def _variables(machine: Machine) -> Finding:
    ours = {name: value for name, value in machine.environ.items() if name.startswith(("SBATCH_", "SLURM_CLUSTERS"))}
    if not ours:
        inside = machine.environ.get("SLURM_JOB_ID")
        return _finding(
            "variables",
            "ok",
            f"inside of job {inside}; its SLURM_* do not reach runs" if inside else "no SBATCH_* is set",
        )
    named = {name.removeprefix("SBATCH_").lower(): value for name, value in ours.items()}
    lines = [f'{option} = "{named[option]}"' for option in _OPTIONS if option in named]
    export = "SBATCH_EXPORT" in ours
    return _finding(
        "variables",
        "note",
        f"set, and ignored for runs: {', '.join(f'{name}={value}' for name, value in sorted(ours.items()))}",
        "sbatch obeys these before a script's own lines, so a forgotten one would change a run behind its spec's back."
        + (" Programs get the whole environment of the submission; `export: NONE` in a spec changes that." * export),
        f"In hpcrun.toml:\n[defaults]\nsbatch = {{ {', '.join(lines)} }}" if lines else "",
    )


def _pyslurm(machine: Machine) -> Finding:
    if not machine.pyslurm and machine.poller != "pyslurm":
        return _finding("pyslurm", "ok", "not installed; the queue is asked by squeue")
    if not machine.unfit:
        return _finding("pyslurm", "ok", f"pyslurm {machine.pyslurm} fits this Slurm (poller: {machine.poller})")
    if machine.poller != "pyslurm":
        return _finding("pyslurm", "ok", f"installed and not asked for (poller: squeue); {machine.unfit}")
    return _finding(
        "pyslurm",
        "note",
        f"the settings ask for it, and it cannot be used: {machine.unfit}",
        "The queue is asked by squeue in its stead.",
        'In hpcrun.toml: poller = "squeue", or install the one that fits',
    )


def _trial(facts: Facts) -> Finding:
    assert facts.trial is not None
    if facts.trial.error:
        return _finding(
            "a run",
            "problem",
            f"a run of one shard failed here: {facts.trial.error}",
            "No run works on this machine.",
            f"{facts.machine.node_python} --version   # wanted: 3.9 or "
            "newer; node_python in hpcrun.toml chooses another",
        )
    return _finding("a run", "ok", f"one shard ran here in {facts.trial.seconds:.1f} s")
