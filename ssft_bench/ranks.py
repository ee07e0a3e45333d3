"""Several devices inside one run: `--devices N`, by Fabric's own processes or by torchrun.

Every rank does the same run on its part of each micro-batch; gradients are averaged, so the number of
updates and the effective batch are those of one device. Rank 0 alone holds the lease and writes files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ssft_bench.errors import UsageError

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def rank() -> int:
    """This process' number among those of the run; 0 where it is the only one. Needs no torch."""
    return int(os.environ.get("RANK") or os.environ.get("LOCAL_RANK") or 0)


def fabric_for(accelerator: str, devices: int, precision: Any) -> Fabric:
    """Fabric, launched: with several devices all of a run's processes have met when it returns.

    Raises UsageError for devices that are not there, and where torchrun has started another number of
    processes than `devices` on each machine.
    """
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    started = int(os.environ.get("LOCAL_WORLD_SIZE", devices))  # torchrun's
    if started != devices:
        raise UsageError(f"torchrun started {started} processes: say --devices {started}")
    nodes = int(os.environ.get("GROUP_WORLD_SIZE", 1))
    # What learns need not take part in each update: layers that are dropped, an encoder still frozen.
    several = DDPStrategy(find_unused_parameters=True)
    try:
        fabric = Fabric(
            accelerator=accelerator, devices=devices, num_nodes=nodes, precision=precision,
            strategy=several if devices * nodes > 1 else "auto",
            # Not Slurm's: its one task for this run is not one of the run's ranks.
            plugins=None if TorchElasticEnvironment.detect() else LightningEnvironment(),
        )  # fmt: skip
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        if devices == 1:
            raise
        raise UsageError(f"--devices {devices} on {accelerator}: {error}") from error
    fabric.launch()
    return fabric


def weight(count: int, rank: int, world: int) -> float:
    """What a rank's mean over its part of a micro-batch of `count` utterances counts.

    Rank r has every world-th utterance from r on. The plain mean of the ranks' means would give those of a
    smaller part too much; a rank without any (it computes one of another's, to stay in step) counts 0.
    """
    return len(range(rank, count, world)) * world / count


def mean_over_ranks(numbers: Mapping[str, float]) -> dict[str, float]:
    """Mean of each number over the ranks that have it."""
    from torch import distributed

    found: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(found, dict(numbers))
    keys = dict.fromkeys(key for own in found for key in own)
    every = {key: [own[key] for own in found if key in own] for key in keys}
    return {key: sum(values) / len(values) for key, values in every.items()}


def meet() -> None:
    """Wait for all ranks: what rank 0 has written is there for the others."""
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
