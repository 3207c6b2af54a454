"""A model that no process holds whole: built without memory, sharded, then read part by part."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict
from torch.distributed.device_mesh import DeviceMesh

from ming_core.checkpoints.components import Loaded
from ming_core.checkpoints.saving import save_model
from ming_core.errors import BadConfig, CannotWrite
from ming_core.loading import Sources, open_sources
from ming_core.model.omni import Omni
from ming_core.presets import BACKBONE
from ming_recipes.training import plans
from ming_recipes.training.lora import added, initialise
from ming_recipes.training.module import OmniModule
from ming_recipes.training.shards import Cut, Gathering, Place, read_shards
from ming_recipes.training.tensor_parallel import cuts_of


class ShardedModel:
    """The language model and encoders of a checkpoint, in the shards of a device mesh.

    Give its methods to an `OmniModule`: `build`, `shard` and `fill`, in this order. Then `save`
    writes the whole model.
    """

    def __init__(
        self, sources: Sources, encoders: tuple[str, ...], compute: torch.dtype, seed: int = 0
    ) -> None:
        """encoders: modalities. compute: dtype of the products; see `plans.shard`. seed: of the
        first values of an adapter."""
        self.sources, self.compute, self.seed = sources, compute, seed
        self.prepared = {name: sources.prepare(name) for name in (BACKBONE, *encoders)}
        self.bytes_read = 0
        self.mesh: DeviceMesh | None = None

    @classmethod
    def open(
        cls,
        model: str | Path,
        encoders: tuple[str, ...],
        compute: torch.dtype = torch.bfloat16,
        seed: int = 0,
    ) -> ShardedModel:
        """Read the headers of a preset or a folder. Raises as `ming_core.load`."""
        return cls(open_sources(model, "cpu", compute, None), encoders, compute, seed)

    def build(self) -> Omni:
        """The model on `meta`."""
        modules = {name: part.module for name, part in self.prepared.items()}
        backbone = modules.pop(BACKBONE)
        return Omni(backbone, modules)  # type: ignore[arg-type]

    def shard(self, module: OmniModule) -> None:
        """Shard what `build` made, and the rest of the module in which it lies."""
        assert module.device_mesh is not None, "the strategy of the trainer does not shard"
        self.mesh = module.device_mesh
        if self.mesh["tensor_parallel"].size() > 1 and any(added(module.model)):
            raise BadConfig(
                "LoRA does not work with strategy.kind=tensor_parallel; use strategy.kind=fsdp2"
            )
        plans.shard(module, module.model, self.mesh, self.compute)

    def fill(self, omni: Omni) -> None:
        """Read this process's share of the weights of `omni`; an adapter gets its first values."""
        place, device = _place(self._mesh), _device(self._mesh)
        for name, part in self.prepared.items():
            self.bytes_read += read_shards(part, self._cuts(name), place, device)
        initialise(omni, self.seed)

    def save(self, folder: str | Path, dtype: torch.dtype | None = torch.bfloat16) -> None:
        """Write the whole model in the released layout; every process must call it.

        Tensors come to the process with number 0 one by one. dtype: that of floating-point tensors,
        but for those that are float32 in every release; None is what is trained. Raises
        BadCheckpoint in process 0, and CannotWrite in the others, if it cannot be written.
        """
        parts = {name: (part.module, part.slots) for name, part in self.prepared.items()}
        cuts = {name: self._cuts(name) for name in parts}
        gathering = Gathering(parts, cuts, _places(self._mesh), _device(self._mesh), dtype)
        if dist.get_rank():
            if not gathering.serve():
                raise CannotWrite(f"process 0 cannot write {folder}; its message says why")
            return
        loaded = {
            name: Loaded(part.component.folder, part.component.weights, part.module, part.slots)
            for name, part in self.prepared.items()
        }
        done = False
        try:
            save_model(loaded, self.sources, folder, gathering.entries)
            done = True
        finally:
            gathering.end(done)

    def restore(self, module: OmniModule, state: Mapping[str, Tensor]) -> None:
        """Put whole tensors of a state, by name in `module`, into its shards."""
        options = StateDictOptions(full_state_dict=True, strict=False)
        set_model_state_dict(module, dict(state), options=options)

    @property
    def _mesh(self) -> DeviceMesh:
        if self.mesh is None:
            raise RuntimeError("the model is not sharded yet")
        return self.mesh

    def _cuts(self, name: str) -> dict[str, Cut]:
        if name != BACKBONE:
            return {}
        return cuts_of(self.sources.backbone_config, self._mesh["tensor_parallel"].size())


def _place(mesh: DeviceMesh) -> Place:
    data, tensor = mesh["data_parallel"], mesh["tensor_parallel"]
    return Place(data.get_local_rank(), data.size(), tensor.get_local_rank(), tensor.size())


def _places(mesh: DeviceMesh) -> list[Place]:
    """Of all processes, by number: the dimensions of the mesh count like the digits of it."""
    data, tensor = mesh["data_parallel"].size(), mesh["tensor_parallel"].size()
    return [Place(r // tensor, data, r % tensor, tensor) for r in range(data * tensor)]


def _device(mesh: DeviceMesh) -> torch.device:
    if mesh.device_type == "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device(mesh.device_type)
