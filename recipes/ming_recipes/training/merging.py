"""Adapters become part of the weights: in memory, and as a folder in the released layout.

A merged weight is W + alpha / rank B A, computed in float32 and rounded once, to the type in which
the model stores W. So a model in memory has the same bits as the folder that `export` writes.
PEFT is not needed here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import torch
from torch import Tensor

from ming_core.api import OmniModel, load
from ming_core.checkpoints.components import Prepared
from ming_core.checkpoints.files import read_json
from ming_core.checkpoints.formats import open_weights
from ming_core.checkpoints.knowledge import SECTION
from ming_core.errors import BadCheckpoint
from ming_core.loading import TEXT, open_sources
from ming_core.presets import BACKBONE
from ming_recipes.training.lora import BASE, PREFIX, SETTINGS, WEIGHTS, fingerprint

_PLAIN = {
    "use_dora": False,
    "use_rslora": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "bias": "none",
    "fan_in_fan_out": False,
    "lora_bias": False,
}
"""Settings of PEFT that change what is computed, as `lora.inject` leaves them."""

_FIRST = re.compile(
    r"(?P<module>.+?)(?P<depth>(\.base_layer)*)\.lora_(?P<kind>embedding_)?A(?P<end>(\.weight)?)"
)
"""The first of the two matrices of a change."""


@dataclass(frozen=True)
class Adapter:
    """A folder with an adapter.

    tensors: by PEFT's names. scale: alpha / rank. parameters: full names of the bare parameters
    among its targets. base: the model it was trained for; components: their fingerprints.
    """

    folder: Path
    tensors: Mapping[str, Tensor]
    scale: float
    parameters: tuple[str, ...]
    base: str
    components: Mapping[str, str]


def read_adapter(folder: str | Path) -> Adapter:
    """Of its folder, or of the run that trained it.

    Raises BadCheckpoint for a folder that this toolkit did not write, or that is damaged.
    """
    folder = Path(folder)
    if (folder / "adapter" / SETTINGS).is_file():
        folder = folder / "adapter"
    if not (folder / SETTINGS).is_file():
        raise BadCheckpoint(
            f"{folder} has no {SETTINGS}; give the folder of an adapter, or of a run that "
            "has trained one"
        )
    settings = read_json(folder / SETTINGS)
    other = [name for name, plain in _PLAIN.items() if (settings.get(name) or plain) != plain]
    if settings.get("peft_type") != "LORA" or other:
        kind = f"LoRA with {other[0]}" if other else settings.get("peft_type")
        raise BadCheckpoint(
            f"{folder} is an adapter of another kind ({kind}); only plain LoRA can be merged"
        )
    rank, alpha = settings.get("r"), settings.get("lora_alpha")
    if not isinstance(rank, int) or not isinstance(alpha, int | float) or rank < 1:
        raise BadCheckpoint(f"{folder / SETTINGS} has no usable r and lora_alpha; copy it again")
    weights = open_weights(folder / WEIGHTS)
    tensors = {name.removeprefix(PREFIX): weights.read(name) for name in weights.tensors}
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise BadCheckpoint(f"{folder} has values in {broken[0]} that are not finite; train again")
    return Adapter(
        folder,
        tensors,
        alpha / rank,
        tuple(settings.get("target_parameters") or ()),
        str(settings.get("base_model_name_or_path")),
        _components(folder / WEIGHTS),
    )


def _components(path: Path) -> Mapping[str, str]:
    """The fingerprints of components in the header of an adapter's file."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    try:
        return dict(json.loads(header["__metadata__"][BASE]))
    except (KeyError, TypeError, ValueError):
        raise BadCheckpoint(
            f"{path} does not say which model it is for; only adapters that this toolkit has "
            "written can be merged"
        ) from None


@dataclass(frozen=True)
class Change:
    """What an adapter does to the parameter `name` of `Omni`.

    pair: the matrices [rank, in] and [out, rank] whose product is added, or None; whole: what takes
    the parameter's place then.
    """

    name: str
    pair: tuple[Tensor, Tensor] | None = None
    whole: Tensor | None = None

    def of(self, parameter: Tensor) -> Tensor:
        """The new values, float32. Raises RuntimeError for shapes that do not fit."""
        if self.pair is None:
            assert self.whole is not None
            return self.whole.to(parameter.device).float().view_as(parameter)
        a, b = (matrix.to(parameter.device).float() for matrix in self.pair)
        if parameter.dim() == 3:  # of E matrices: a [E rank, in], b [out, rank E]
            experts = len(parameter)
            a = a.view(experts, -1, a.shape[-1])
            b = b.view(len(b), -1, experts).permute(2, 0, 1)
        return parameter.float() + (b @ a).view_as(parameter)


@torch.no_grad()
def merge(model: OmniModel, folder: str | Path) -> None:
    """Add an adapter to the weights of a loaded model, which then answers as the tuned one.

    Raises BadCheckpoint if the adapter was trained for another model, or does not fit; nothing is
    changed then.
    """
    adapter = read_adapter(folder)
    prepared = {name: model.sources.prepare(name) for name in adapter.components}
    for name, part in prepared.items():
        if fingerprint(part) != adapter.components[name]:
            raise BadCheckpoint(
                f"{adapter.folder} was trained for another model, {adapter.base!r}: the "
                f"{_called(name)} of {model.name!r} differs; use the model that it was trained for"
            )
    weights = {}
    for name, part in prepared.items():
        types = {slot.name: part.part.tensors[at].dtype for at, slot in part.match.items()}
        outer = name if name == BACKBONE else f"encoders.{name}"
        for at, parameter in model.component(name).named_parameters():
            weights[f"{outer}.{at}"] = parameter, types[at]
    changes = list(_changes(adapter, list(weights)))
    for change in changes:
        try:
            change.of(weights[change.name][0].to("meta"))
        except (KeyError, RuntimeError):
            raise BadCheckpoint(
                f"{adapter.folder} does not fit {model.name!r}, which has no {change.name} of this "
                "shape; copy the adapter again, or use the model that it was trained for"
            ) from None
    for change in changes:
        parameter, dtype = weights[change.name]
        parameter.copy_(change.of(parameter).to(dtype))
    forget_knowledge(model)


def forget_knowledge(model: OmniModel) -> None:
    """What the base knows is not what the tuned model knows."""
    config = {key: value for key, value in model.sources.config.items() if key != SECTION}
    model.sources = replace(model.sources, config=config)
    vars(model).pop("knowledge", None)


def export(base: str | Path, folder: str | Path, out: str | Path) -> Path:
    """Write a model with an adapter merged into it as a new folder in the released layout.

    Every weight keeps the type in which the base stores it. Raises what `load` and `merge` raise,
    and BadCheckpoint if `out` exists and is not empty, or cannot be written.
    """
    adapter = read_adapter(folder)
    sources = open_sources(base, "cpu", "auto", parts=None)
    types = {_part(name): stored_type(sources.prepare(name)) for name in adapter.components}
    model = load(base, device="cpu", dtype=types)
    merge(model, folder)
    return model.save(out)


def _part(component: str) -> str:
    return TEXT if component == BACKBONE else component


def _called(component: str) -> str:
    return "language model" if component == BACKBONE else f"part for {component}"


def stored_type(prepared: Prepared) -> torch.dtype:
    """The least type that holds all weights of a component as they are stored."""
    tensors = prepared.part.tensors
    stored = [tensors[name].dtype for name, slot in prepared.match.items() if slot.dtype is None]
    return reduce(torch.promote_types, [dtype for dtype in stored if dtype.is_floating_point])


def _changes(adapter: Adapter, names: Sequence[str]) -> Iterator[Change]:
    """names: of all parameters of the model, in its order."""
    tensors, bare = adapter.tensors, set(adapter.parameters)
    for name, tensor in tensors.items():
        found = _FIRST.fullmatch(name)
        if found is None:
            if ".lora_" not in name:
                yield Change(name, whole=tensor)
            continue
        module, depth, kind = found["module"], found["depth"], found["kind"] or ""
        other = tensors.get(f"{module}{depth}.lora_{kind}B{found['end']}")
        if other is None:
            raise BadCheckpoint(f"{adapter.folder} lacks the second half of {name}; copy it again")
        second = other.float() * adapter.scale
        # Several bare parameters of a module: PEFT's wrapper of the last one lies outside.
        own = [at for at in names if at in bare and at.rpartition(".")[0] == module]
        inner = depth.count(".")
        target = own[-1 - inner] if inner < len(own) else f"{module}.weight"
        yield Change(target, (second.T, tensor.T) if kind else (tensor, second))
