"""The judgement of `hpcrun doctor`: facts in, findings out. Pure; `hpcrun.checkup` asks.

docs/doctor.md tells what is checked and what each finding means.
"""

from __future__ import annotations

from hpcrun.doctor import folder, machine, report, site
from hpcrun.doctor.facts import Facts, Finding

__all__ = ["Facts", "Finding", "examine"]


def examine(facts: Facts) -> tuple[Finding, ...]:
    """What is well and what is not, in the order in which it is shown."""
    return (*machine.examine(facts), *folder.examine(facts), *site.examine(facts), *report.examine(facts))
