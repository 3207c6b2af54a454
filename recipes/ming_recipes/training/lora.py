"""LoRA: small trained matrices beside frozen ones, through PEFT.

What is adapted is chosen by our names of modules, whatever the release calls them. An adapter is a
folder as PEFT writes it, and it says which model it was trained for.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from math import prod
from typing import TYPE_CHECKING, Annotated, Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from ming_core.checkpoints.writing import checkpoint_folder
from ming_core.errors import BadConfig
from ming_core.model.routing import Gate
from ming_recipes.training.ranges import Range

if TYPE_CHECKING:
    from pathlib import Path

    from ming_core.api import OmniModel
    from ming_core.checkpoints.components import Prepared
    from ming_core.model.omni import Omni

PRESETS: dict[str, str] = {
    "attention": r"backbone\.layers\.\d+\.attention\.(query_key_value|dense)",
    "dense": r"backbone\.layers\.\d+\.mlp\.(gate_up_proj|down_proj)",
    "shared_experts": r"backbone\.layers\.\d+\.mlp\.shared_experts\.(gate_up_proj|down_proj)",
    "experts": r"backbone\.layers\.\d+\.mlp\.experts\.(gate_up_proj|down_proj)",
    "routers": r"backbone\.layers\.\d+\.mlp\.(\w+_)?gate\.weight",
    "embeddings": r"backbone\.(word_embeddings|lm_head)",
    "projectors": r"encoders\.\w+\.(linear_proj|vision\.\w*merger)\w*(\.\w+)*",
    "image_tower": r"encoders\.image\.(?!linear_proj|vision\.\w*merger).+",
    "audio_tower": r"encoders\.audio\.(?!linear_proj).+",
}
"""Regular expressions of whole names: of layers, and of the matrices that no layer holds."""

ADAPTER = "default"  # PEFT's name for the only adapter of a model
WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
PREFIX = "base_model.model."  # of every name in an adapter's file
BASE = "ming_base"  # where the file's header says which model it is for

_WRAPPERS = re.compile(r"\.(base_layer|original_module)(?=\.)|\.modules_to_save\." + ADAPTER)
_ADDED = re.compile(r"\.lora_(A|B|embedding_A|embedding_B)\b")
_SAMPLE = 2048  # values of each tensor that a fingerprint reads


@dataclass
class Lora:
    """rank 0 is no LoRA.

    alpha: the change is multiplied by alpha / rank; 0 means twice the rank. targets: names of
    `PRESETS`, or regular expressions of whole names, of what gets matrices of this rank. whole:
    the same, of layers that are trained as they are and saved whole, such as "embeddings" for new
    words.
    """

    rank: Annotated[int, Range(0, 4096)] = 0
    alpha: Annotated[float, Range(0)] = 0.0
    dropout: Annotated[float, Range(0, 0.99)] = 0.0
    targets: list[str] = field(default_factory=lambda: ["attention", "shared_experts"])
    whole: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Base:
    """The model that an adapter is for: its name, and a fingerprint of each component."""

    name: str
    components: Mapping[str, str]

    @classmethod
    def of(cls, model: OmniModel, components: Iterable[str]) -> Base:
        """Reads headers and a few bytes of each tensor. components: those that are used."""
        prepared = {name: model.sources.prepare(name) for name in components}
        return cls(model.name, {name: fingerprint(part) for name, part in prepared.items()})


def fingerprint(prepared: Prepared) -> str:
    """SHA-256 over names, shapes and first values of a component's tensors as they are stored.

    Another folder, sharding or wider type of the same weights has the same fingerprint. Training
    moves the first values of every tensor, so they tell models apart.
    """
    digest = hashlib.sha256()
    tensors = {slot.name + str(slot.index): name for name, slot in prepared.match.items()}
    for place in sorted(tensors):
        info = prepared.part.tensors[tensors[place]]
        digest.update(json.dumps([place, info.shape]).encode())
        rows = max(1, _SAMPLE // max(1, prod(info.shape[1:])))
        part = (slice(0, min(rows, info.shape[0])),) if info.shape else ()
        values = prepared.part.read_part(tensors[place], part).float()
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


@dataclass(frozen=True)
class Targets:
    """Full names: modules and bare parameters that get small matrices, modules trained whole."""

    modules: list[str]
    parameters: list[str]
    whole: list[str]


def targets_of(omni: nn.Module, lora: Lora) -> Targets:
    """What the settings name in a model. Raises BadConfig for a name that fits nothing."""
    modules = [name for name, module in omni.named_modules() if type(module) in _layers()]
    layers = set(modules)
    bare = [
        name
        for name, parameter in omni.named_parameters()
        if parameter.dim() in (2, 3) and name.rpartition(".")[0] not in layers
        if isinstance(omni.get_submodule(name.rpartition(".")[0]), _holders())
    ]
    wanted = _chosen(lora.targets, [*modules, *bare], "targets")
    whole = _chosen(lora.whole, modules, "whole")
    twice = sorted(set(wanted) & set(whole))
    if twice:
        raise BadConfig(
            f"lora.targets and lora.whole both name {twice[0]}; a layer gets small matrices or is "
            "trained whole, so remove it from one of them"
        )
    return Targets(
        [name for name in wanted if name in layers],
        [name for name in wanted if name not in layers],
        whole,
    )


@cache
def _layers() -> tuple[type, ...]:
    from ming_core.model.layers import Linear

    return Linear, nn.Linear, nn.Embedding


@cache
def _holders() -> tuple[type, ...]:
    """Modules that hold matrices themselves and use them in their `forward`."""
    from ming_core.model.moe import Experts

    return Experts, Gate


def _chosen(wanted: list[str], names: list[str], field: str) -> list[str]:
    found: set[str] = set()
    for each in wanted:
        try:
            pattern = re.compile(PRESETS.get(each, each))
        except re.error as error:
            raise BadConfig(f"lora.{field} has {each!r}, which is no pattern: {error}") from error
        fits = [name for name in names if pattern.fullmatch(name)]
        if not fits:
            raise BadConfig(_fits_nothing(each, field, names))
        found.update(fits)
    return [name for name in names if name in found]


def _fits_nothing(wanted: str, field: str, names: list[str]) -> str:
    if wanted in PRESETS:
        return f"lora.{field} has {wanted!r}, but this model has nothing of that kind; remove it"
    near = get_close_matches(wanted, [*PRESETS, *names], n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"presets: {', '.join(PRESETS)}"
    return f"lora.{field} has {wanted!r}, which fits no layer of this model; {hint}"


def inject(omni: Omni, lora: Lora, seed: int = 0) -> None:
    """Put small matrices beside what `lora` names, and freeze everything else.

    The model gives the same values as before until they are trained. `omni` may be on the meta
    device; then call `initialise` when it has memory. Raises BadConfig.
    """
    from peft import LoraConfig, LoraModel

    wanted = targets_of(omni, lora)
    if not (wanted.modules or wanted.parameters or wanted.whole):
        raise BadConfig("lora.targets and lora.whole name nothing to train; add 'attention'")
    if lora.dropout and wanted.parameters:
        raise BadConfig(
            f"lora.dropout is {lora.dropout:g}, and {wanted.parameters[0]} is among the targets; "
            "PEFT has no dropout for experts and routers, so set lora.dropout to 0"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha or 2 * lora.rank,  # type: ignore[arg-type]  # any number will do
        lora_dropout=lora.dropout,
        target_modules=_pattern(wanted.modules),
        target_parameters=wanted.parameters or None,
        modules_to_save=wanted.whole or None,
    )
    config._register_custom_module({Gate: _router_layer()})
    LoraModel(omni, config, ADAPTER)
    if not next(omni.parameters()).is_meta:
        initialise(omni, seed)


def _pattern(names: list[str]) -> str | list[str]:
    """One expression of whole names, in which all layers share their number."""
    if not names:
        return []
    alike = dict.fromkeys(re.sub(r"\\\.\d+(?=\\\.)", r"\\.\\d+", re.escape(name)) for name in names)
    return "|".join(alike)


@cache
def _router_layer() -> type:
    from peft.tuners.lora.layer import ParamWrapper

    class AdaptedGate(ParamWrapper):
        """A router with small matrices. It is called without an input and gives its weight."""

        @property
        def expert_bias(self) -> Tensor | None:
            return cast(Gate, self.get_base_layer()).expert_bias

        def forward(self) -> Tensor:  # type: ignore[override]
            gate = self.get_base_layer()
            if self.disable_adapters or self.merged:
                return gate()
            with self._activate_lora(self.active_adapters):
                return gate()

    return AdaptedGate


def name_before(name: str) -> str | None:
    """What a parameter was called before `inject`; None for one that `inject` has added.

    A layer that is trained whole has two parameters with one name before: the frozen one and its
    trained copy.
    """
    return None if _ADDED.search(name) else _WRAPPERS.sub("", name)


@torch.no_grad()
def initialise(omni: Omni, seed: int) -> None:
    """First values of what `inject` has added: a function of their names and the seed alone.

    So they are the same for any number of processes. Layers that are trained whole begin as they
    are, so the weights must be there.
    """
    parameters = dict(omni.named_parameters())
    for name, parameter in parameters.items():
        if match := _ADDED.search(name):
            first = match[1] in ("A", "embedding_B")
            _set(parameter, _first_values(name, parameter, seed) if first else None)
        elif ".modules_to_save." in name:
            frozen = name.replace(f"modules_to_save.{ADAPTER}", "original_module")
            _set(parameter, parameters[frozen])


def _first_values(name: str, parameter: Tensor, seed: int) -> Tensor:
    """Uniform with the spread of torch's own first values of a layer."""
    key = int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:7])
    values = torch.empty(parameter.shape, dtype=torch.float32)
    bound = parameter.shape[1] ** -0.5
    return values.uniform_(-bound, bound, generator=torch.Generator().manual_seed(key))


def _set(parameter: Tensor, values: Tensor | None) -> None:
    if values is None:
        parameter.zero_()
    elif isinstance(parameter, DTensor) and not isinstance(values, DTensor):
        values = values.to(parameter.device, parameter.dtype)
        parameter.copy_(distribute_tensor(values, parameter.device_mesh, parameter.placements))
    else:
        parameter.copy_(values)


def adapter_tensors(omni: Omni) -> dict[str, Tensor]:
    """What an adapter's file holds, on the CPU. If tensors are sharded, every process calls it."""
    from peft.utils import get_peft_model_state_dict

    state = get_peft_model_state_dict(omni, save_embedding_layers=False)
    return {PREFIX + name: _whole(tensor) for name, tensor in sorted(state.items())}


def _whole(tensor: Tensor) -> Tensor:
    tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return tensor.detach().cpu().contiguous()


def save_adapter(omni: Omni, folder: str | Path, base: Base, write: bool = True) -> None:
    """Write what was trained as a folder in PEFT's format, which says what it is for.

    write: with several processes, whether this one writes. The folder appears at once, complete,
    or not at all. Raises BadCheckpoint if it exists and is not empty, or cannot be written.
    """
    from safetensors.torch import save

    tensors = adapter_tensors(omni)
    if not write:
        return
    config: Any = cast(Any, omni).peft_config[ADAPTER]
    config.base_model_name_or_path, config.inference_mode = base.name, True
    about = {"format": "pt", BASE: json.dumps(dict(base.components))}
    with checkpoint_folder(folder) as beside:
        config.save_pretrained(str(beside))
        (beside / WEIGHTS).write_bytes(save(tensors, about))


def load_adapter(omni: Omni, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of an adapter's file into a model with the same targets."""
    from peft.utils import set_peft_model_state_dict

    state = {name.removeprefix(PREFIX): tensor for name, tensor in tensors.items()}
    set_peft_model_state_dict(omni, state)


def added(omni: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """The parameters that an adapter trains, by name."""
    for name, parameter in omni.named_parameters():
        if _ADDED.search(name) or ".modules_to_save." in name:
            yield name, parameter
