"""The optimiser of a training: which weights get which rule, rate and decay."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from torch import nn
from torch.nn.modules.conv import _ConvNd

from ming_core.errors import BadConfig
from ming_core.model.routing import Gate
from ming_core.model.transformer import Backbone
from ming_recipes.training.muon import MuonAdamW
from ming_recipes.training.ranges import Range
from ming_recipes.training.schedules import SCHEDULES

Rate = Annotated[float, Range(0, 1, above=True)]
Share = Annotated[float, Range(0, 1)]

KINDS = ("adamw", "muon")


@dataclass
class Optimizer:
    """kind "adamw": AdamW for all weights. "muon": Muon for hidden matrices, AdamW for the rest.

    Weights that are not float32 have float32 masters, so small steps are not lost.

    Attributes:
        rate: Learning rate of AdamW.
        matrix_rate: Learning rate of Muon.
        weight_decay: Of matrices. Norms, biases, routers and embeddings do not decay.
        clip: The largest norm of all gradients together; 0 is no limit.
        schedule: "constant", "linear" or "cosine", after the warm-up.
        warmup: Steps, or a share of all steps if it is below 1.
        end: What the rate comes to at the end, as a share of it.
    """

    kind: str = "adamw"
    rate: Rate = 1e-4
    matrix_rate: Rate = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.95
    eps: Rate = 1e-8
    momentum: Share = 0.95
    weight_decay: Annotated[float, Range(0, 10)] = 0.0
    clip: Annotated[float, Range(0)] = 1.0
    schedule: str = "cosine"
    warmup: Annotated[float, Range(0)] = 0.03
    end: Share = 0.05

    def check(self) -> None:
        """Raises BadConfig for an unknown kind or schedule."""
        for name, value, known in (
            ("kind", self.kind, KINDS),
            ("schedule", self.schedule, tuple(SCHEDULES)),
        ):
            if value not in known:
                raise BadConfig(
                    f"optimizer.{name} is {value!r}; it must be one of {', '.join(known)}"
                )


def make_optimizer(
    settings: Optimizer, parts: Iterable[tuple[nn.Module, Mapping[str, float]]]
) -> MuonAdamW:
    """An optimiser of the weights that are trained.

    parts: modules, and the multiple of the learning rate of each of their trained weights.
    """
    groups: dict[tuple[bool, bool, float], list[nn.Parameter]] = {}
    for module, rates in parts:
        matrices = hidden_matrices(module)
        decaying = _decaying(module)
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and name in rates:
                muon = settings.kind == "muon" and name in matrices
                key = muon, name in decaying, rates[name]
                groups.setdefault(key, []).append(parameter)
    return MuonAdamW(
        [
            {
                "params": parameters,
                "name": f"{'muon' if muon else 'adamw'}{'' if decays else ' no decay'} {rate:g}",
                "muon": muon,
                "lr": (settings.matrix_rate if muon else settings.rate) * rate,
                "weight_decay": settings.weight_decay if decays else 0.0,
            }
            for (muon, decays, rate), parameters in groups.items()
        ],
        momentum=settings.momentum,
        betas=(settings.beta1, settings.beta2),
        eps=settings.eps,
    )


def hidden_matrices(module: nn.Module) -> set[str]:
    """Names of the weights that map one hidden vector to another: those of linear layers, and
    stacks [n, out, in] of them.

    No router, no embedding, no convolution, and not the output layer of a language model: their
    rows stand for something by themselves.
    """
    found = set()
    for prefix, owner in module.named_modules():
        outputs = owner.lm_head if isinstance(owner, Backbone) else None
        for name, child in owner.named_children():
            if isinstance(child, nn.Linear) and child is not outputs:
                found.add(_joined(prefix, name, "weight"))
        if isinstance(owner, Gate | _ConvNd | nn.Embedding):
            continue
        for name, parameter in owner.named_parameters(recurse=False):
            if parameter.dim() == 3 and parameter.shape[0] > 1:
                found.add(_joined(prefix, name))
    return found


def _decaying(module: nn.Module) -> set[str]:
    """Names of the weights that may decay: matrices and kernels, but no routers or embeddings."""
    kept: set[str] = set()
    for prefix, owner in module.named_modules():
        if isinstance(owner, Gate | nn.Embedding):
            continue
        for name, parameter in owner.named_parameters(recurse=False):
            if (parameter.dim() >= 2 and name == "weight") or parameter.dim() == 3:
                kept.add(_joined(prefix, name))
    return kept


def _joined(*names: str) -> str:
    return ".".join(name for name in names if name)
