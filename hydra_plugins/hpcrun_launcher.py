"""Hydra's launcher ``hydra/launcher=submitit_hpcrun``: hydra-submitit-launcher's, with hpcrun as its executor.

Hydra imports every module of this namespace in every program that uses it. Where hydra-submitit-launcher is not
installed this launcher is not there, and nobody has to hear of it.
"""

# Annotations are what they are: Hydra executes this module before it is in sys.modules, where others are looked up.
from dataclasses import dataclass, field
from typing import Any, Dict, Optional  # noqa: UP035

try:
    from hydra.core.config_store import ConfigStore
    from hydra_plugins.hydra_submitit_launcher import config, submitit_launcher  # type: ignore[import-untyped]
except ImportError:
    pass
else:

    @dataclass
    class HpcrunQueueConf(config.SlurmQueueConf):  # type: ignore[misc]  # it has no types
        """The fields of the launcher ``submitit_slurm``, and hpcrun's own two."""

        _target_: str = "hydra_plugins.hpcrun_launcher.HpcrunLauncher"
        cluster: Optional[str] = None  # noqa: UP045  # OmegaConf reads this, and older ones know no other spelling
        """``auto``, ``slurm`` or ``local``."""
        spec: Dict[str, Any] = field(default_factory=dict)  # noqa: UP006
        """Further fields of the run's spec."""

    class HpcrunLauncher(submitit_launcher.BaseSubmititLauncher):  # type: ignore[misc]
        """A sweep as one run of hpcrun, each job of it a shard."""

        _EXECUTOR = "hpcrun"

    ConfigStore.instance().store(
        group="hydra/launcher", name="submitit_hpcrun", node=HpcrunQueueConf(), provider="hpcrun"
    )
