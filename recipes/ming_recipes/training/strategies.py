"""On how many devices a training runs, and what each of them holds.

"ddp": every device has the whole model. "fsdp2": each has a share of every weight and gathers a
layer when it runs. "tensor_parallel": some devices share every layer of the language model, and
groups of them work as with "fsdp2". docs/scale.md says which one is for which machine.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import torch.distributed as dist
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import Tensor

from ming_core.errors import BadConfig
from ming_recipes.training.ranges import Range

KINDS = ("auto", "ddp", "fsdp2", "tensor_parallel")


@dataclass
class Strategy:
    """Devices of a training.

    Attributes:
        devices: On each machine; 0 is as many as torchrun or SLURM has started, else one.
        nodes: Machines; 0 is as many as torchrun or SLURM has started, else one.
        kind: How they share the work; "auto" is "ddp".
        tensor_parallel: How many devices share a layer; 0 is all of a machine. Only for the kind of
            that name.
    """

    devices: Annotated[int, Range(0, 1024)] = 0
    nodes: Annotated[int, Range(0, 4096)] = 0
    kind: str = "auto"
    tensor_parallel: Annotated[int, Range(0, 1024)] = 0


@dataclass(frozen=True)
class Layout:
    """A strategy whose numbers are known.

    kind: "one", "ddp", "fsdp2" or "tensor_parallel". tensor: devices that share a layer; data:
    groups of so many devices, each of which sees batches of its own.
    """

    kind: str
    devices: int
    nodes: int
    tensor: int

    @property
    def processes(self) -> int:
        return self.devices * self.nodes

    @property
    def data(self) -> int:
        return self.processes // self.tensor

    @property
    def sharded(self) -> bool:
        """Whether no device has the whole model."""
        return self.kind in ("fsdp2", "tensor_parallel")


def layout(strategy: Strategy, environment: Mapping[str, str] = os.environ) -> Layout:
    """What the numbers of a strategy come to here. Raises BadConfig if they do not fit together."""
    if strategy.kind not in KINDS:
        raise BadConfig(f"strategy.kind is {strategy.kind!r}; it must be one of {', '.join(KINDS)}")
    started = _started(environment)
    devices = strategy.devices or started[0]
    nodes = strategy.nodes or started[1]
    if started != (1, 1) and (devices, nodes) != started:
        raise BadConfig(
            f"strategy.devices and strategy.nodes are {devices} and {nodes}, and torchrun or SLURM "
            f"has started {started[0]} processes on each of {started[1]} machines; leave both out, "
            "and the started processes are used"
        )
    if torch.cuda.is_available() and devices > torch.cuda.device_count():
        raise BadConfig(
            f"strategy.devices is {devices}, and this machine has {torch.cuda.device_count()} GPUs"
        )
    kind = "ddp" if strategy.kind == "auto" else strategy.kind
    if kind != "tensor_parallel":
        if strategy.tensor_parallel:
            raise BadConfig(
                f"strategy.tensor_parallel is {strategy.tensor_parallel}, and strategy.kind is "
                f"{strategy.kind}; set strategy.kind=tensor_parallel, or leave it out"
            )
        return Layout("one" if kind == "ddp" and devices * nodes == 1 else kind, devices, nodes, 1)
    tensor = strategy.tensor_parallel or devices
    if devices % tensor:
        raise BadConfig(
            f"strategy.tensor_parallel is {tensor}, which does not divide the {devices} devices of "
            "a machine; the devices that share a layer must be in one machine"
        )
    return Layout(kind, devices, nodes, tensor)


def _started(environment: Mapping[str, str]) -> tuple[int, int]:
    """Processes on each machine, and machines, that torchrun or SLURM has started."""
    # An interactive shell of SLURM has its variables, too, and nothing was started there.
    slurm = "SLURM_NTASKS" in environment and environment.get("SLURM_JOB_NAME") not in (
        "bash",
        "interactive",
    )
    if "TORCHELASTIC_RUN_ID" in environment:
        each = int(environment["LOCAL_WORLD_SIZE"])
        return each, int(environment["WORLD_SIZE"]) // each
    if slurm and "SLURM_STEP_ID" in environment:
        nodes = int(environment.get("SLURM_NNODES", 1))
        return int(environment["SLURM_NTASKS"]) // nodes, nodes
    return 1, 1


class Sharded(ModelParallelStrategy):
    """Lightning's strategy; what reads and writes the states is a plugin of the trainer."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any = None
    ) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath, storage_options)

    def load_checkpoint(
        self, checkpoint_path: Any, weights_only: bool | None = None
    ) -> dict[str, Any]:
        self.checkpoint_io.load_checkpoint(checkpoint_path)  # checks it, and remembers its step
        return super().load_checkpoint(checkpoint_path, weights_only)


def trainer_arguments(plan: Layout) -> dict[str, Any]:
    """Arguments of Lightning's Trainer for a layout.

    Weights of a sharded model must be built and sharded in `configure_model`. Checkpoints are one
    file, which the process with number 0 writes.
    """
    strategy: Any = "auto"
    if plan.kind == "ddp":
        strategy = DDPStrategy(gradient_as_bucket_view=True)
    elif plan.sharded:
        strategy = Sharded(plan.data, plan.tensor, save_distributed_checkpoint=False)
    return {
        "accelerator": "auto",
        "devices": plan.devices,
        "num_nodes": plan.nodes,
        "strategy": strategy,
        # What FSDP2 gathers in inference mode could not be trained afterwards.
        "inference_mode": False,
    }


@dataclass(frozen=True)
class Ranks:
    """Where this process stands among those that see different data.

    rank: its number, of `size`. group: of them; None is all processes.
    """

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all data, in a new tensor."""
        total = value.detach().clone()
        if self.size > 1:
            dist.all_reduce(total, group=self.group)
        return total


def ranks(trainer: Trainer) -> Ranks:
    """The place of this process in a trainer whose processes have met."""
    if isinstance(trainer.strategy, ModelParallelStrategy):
        mesh = trainer.strategy.device_mesh["data_parallel"]
        return Ranks(mesh.get_local_rank(), mesh.size(), mesh.get_group())
    return Ranks(trainer.global_rank, trainer.world_size)
