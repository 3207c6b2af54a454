"""What a model is trained for. An objective reads one `Forward` and gives named terms of the loss.

`Answers` and `Balance` are those of every recipe; a recipe adds its own in the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

from ming_core.modalities import MODALITY_IDS
from ming_core.model.omni import Omni
from ming_core.model.routing import Routing
from ming_core.model.transformer import Backbone, Layer
from ming_core.training.balance import (
    bias_update,
    expert_counts,
    router_z_loss,
    sequence_balance_loss,
)
from ming_core.training.labels import IGNORED
from ming_recipes.training.batch import Batch
from ming_recipes.training.forward import Forward


@dataclass(frozen=True)
class Term:
    """A part of the loss: total / count, both summed over all processes.

    total: a scalar with its gradient. count: what it is the sum of, such as the weights of all
    targets of this micro-batch in this process. of_step: the count of all micro-batches of this
    process in this step of the optimiser; None: each micro-batch has a mean of its own, and the
    step takes the mean of these.
    """

    total: Tensor
    count: Tensor | float
    of_step: float | None = None


Terms = dict[str, Term]
"""By name. One with a slash, such as "answers/my-data", is a part of another term: it is written
down, and adds nothing to the loss. All processes give the other terms under the same names."""


class Objective(Protocol):
    """A plain class, or an `nn.Module` if it has weights of its own.

    A class of yours derives from `Objective`, or has what it has.
    """

    keep: Collection[Layer] | None = ()
    """Layers whose hidden states it reads; None: it reads nothing of the backbone."""
    watch: Collection[str] = ()
    """Submodules of `Omni` whose output it reads, such as "encoders.audio.audio"."""
    terms: Collection[str] = ()
    """Names of its terms of the loss."""

    def __call__(
        self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator
    ) -> Terms: ...

    def after_step(self, model: Omni, over_ranks: Callable[[Tensor], Tensor]) -> None:
        """Called after each step of the optimiser; over_ranks: as in `Forward`."""


class Answers(Objective):
    """Next token: the weighted mean of -log p over all targets of a step.

    "answers/NAME" is the same of the data set NAME alone.
    """

    terms = ("answers",)

    def __call__(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        assert forward.hidden is not None
        targets = batch.labels[:, 1:]
        wanted = targets != IGNORED
        errors = _errors(model.backbone, forward.hidden[:, :-1][wanted], targets[wanted])
        weights = batch.weights[:, 1:][wanted]
        errors = errors * weights
        terms = {"answers": Term(errors.sum(), weights.sum(), batch.step_weight)}
        names = sorted({sample.dataset for sample in batch.samples} - {""})
        if names:
            of_sample = [names.index(s.dataset) if s.dataset else -1 for s in batch.samples]
            of_token = torch.tensor([*of_sample, -1], device=errors.device)[
                batch.sample_ids[:, 1:][wanted]
            ]
            for number, name in enumerate(names):
                own = of_token == number
                total, count = (errors.detach() * own).sum(), (weights * own).sum()
                terms[f"answers/{name}"] = Term(total, count)
        return terms


LOGITS = 2**26
"""Logits that are held at once: 256 MB in float32. Beyond it they are computed in pieces, twice."""


def _errors(backbone: Backbone, hidden: Tensor, targets: Tensor) -> Tensor:
    """-log p of targets [n] after hidden states [n, D], in float32."""

    def errors(hidden: Tensor, targets: Tensor) -> Tensor:
        return cross_entropy(backbone.lm_head(hidden).float(), targets, reduction="none")

    size = max(1, LOGITS // backbone.config.vocab_size)
    # All processes gather a sharded layer equally often, whatever the number of their targets.
    if len(targets) <= size or isinstance(backbone.lm_head.weight, DTensor):
        return errors(hidden, targets)
    pieces = zip(hidden.split(size), targets.split(size), strict=True)
    return torch.cat([checkpoint(errors, h, t, use_reentrant=False) for h, t in pieces])


class Balance(Objective):
    """Even use of the experts: a loss, the z-loss of the routers, and the bias rule.

    The loss is that of the kind of router. A softmax router has the Switch form, for each modality
    over its own tokens in all processes and in all micro-batches of the step so far; the term is
    the mean over the modalities that have tokens. A sigmoid router has the form of DeepSeek-V3, for
    each row; the term is the mean over the rows. Both are means over the layers.

    After each step, the rule moves the selection bias of every sigmoid router by `rate`. It counts
    the tokens of all micro-batches and processes.
    """

    terms = ("balance", "z")

    def __init__(self, rate: float = 0.001, zero_mean: bool = True) -> None:
        """zero_mean: the biases of a router keep their mean, see `bias_update`."""
        self.rate, self.zero_mean = rate, zero_mean
        self.loads: Tensor | None = None  # [layers, modalities, E] of the step so far

    def __call__(self, model: Omni, forward: Forward, batch: Batch, rng: torch.Generator) -> Terms:
        if not forward.routing:
            zero = batch.weights.new_zeros(())
            return {"balance": Term(zero, 1.0), "z": Term(zero, 1.0)}
        modality = batch.omni.modality_ids
        segments = batch.omni.segment_ids
        keep = torch.ones_like(modality, dtype=torch.bool) if segments is None else segments >= 0
        router = model.backbone.config.router
        loads = torch.stack([_loads(r, modality, keep) for r in forward.routing])
        if router.kind == "softmax":
            loads = forward.over_ranks(loads)  # the loss below needs those of all
        if torch.is_grad_enabled():
            self.loads = loads if self.loads is None else self.loads + loads
        terms = {
            "balance": self._softmax(model, forward, modality, keep, loads, batch)
            if router.kind == "softmax"
            else _sigmoid(forward.routing, keep),
            "z": _z_loss(forward.routing, keep, batch),
        }
        names = MODALITY_IDS if model.backbone.config.multi_gate else {"all": None}
        for name, id in names.items():
            own = loads.sum(1) if id is None else loads[:, id]
            own = own.float() / own.float().mean(-1, keepdim=True).clamp(min=1e-9)
            there = (own.sum() > 0).float()
            terms[f"balance/{name} most"] = Term(own.amax(-1).mean(), there)
            terms[f"balance/{name} unused"] = Term((own == 0).float().mean() * there, there)
        return terms

    def _softmax(
        self,
        model: Omni,
        forward: Forward,
        modality: Tensor,
        keep: Tensor,
        loads: Tensor,
        batch: Batch,
    ) -> Term:
        """Sum over tokens of their parts of the mean over the routers of E sum_e f_e P_e."""
        seen = self.loads if torch.is_grad_enabled() and self.loads is not None else loads
        ids, kept = modality.flatten(), keep.flatten()
        if not model.backbone.config.multi_gate:
            ids, loads, seen = ids * 0, loads.sum(1, keepdim=True), seen.sum(1, keepdim=True)
        top = forward.routing[0].index.shape[-1]
        tokens = loads[0].sum(-1) / top  # [R] of this micro-batch in all processes
        there = tokens > 0
        # Each router with tokens counts the same, whatever the number of its tokens.
        share = tokens.sum() / (there.sum().clamp(min=1) * tokens.clamp(min=1))
        totals = []
        for routed, counts in zip(forward.routing, seen, strict=True):
            fraction = counts.float() / counts.sum(-1, keepdim=True).clamp(min=1)
            scores = routed.logits.softmax(dim=-1)
            each = (scores * fraction[ids]).sum(-1) * scores.shape[-1]
            totals.append((each * share[ids] * kept).sum())
        return Term(torch.stack(totals).mean(), kept.sum(), batch.step_tokens)

    @torch.no_grad()
    def after_step(self, model: Omni, over_ranks: Callable[[Tensor], Tensor]) -> None:
        loads, self.loads = self.loads, None
        mixtures = model.backbone.mixtures
        if loads is None or model.backbone.config.router.kind == "softmax":
            return
        loads = over_ranks(loads)
        for mixture, counts in zip(mixtures, loads, strict=True):
            gates = mixture.gates
            for gate, own in zip(gates, counts if len(gates) > 1 else [counts.sum(0)]):
                if gate.expert_bias is not None:
                    moved = bias_update(gate.expert_bias, own.float(), self.rate, self.zero_mean)
                    gate.expert_bias.copy_(moved)


def _loads(routed: Routing, modality: Tensor, keep: Tensor) -> Tensor:
    """How many kept tokens of each modality chose each expert, int64 [modalities, E]."""
    ids = modality.flatten()
    own = [(ids == id) & keep.flatten() for id in MODALITY_IDS.values()]
    return torch.stack([expert_counts(routed.index, routed.logits.shape[-1], k) for k in own])


def _sigmoid(routing: Collection[Routing], keep: Tensor) -> Term:
    shape = (*keep.shape, -1)
    losses = [
        sequence_balance_loss(r.logits.view(shape), r.index.view(shape), keep) for r in routing
    ]
    rows = keep.any(-1).sum()
    return Term(torch.stack(losses).mean() * rows, rows)


def _z_loss(routing: Collection[Routing], keep: Tensor, batch: Batch) -> Term:
    kept = keep.flatten()
    losses = [router_z_loss(routed.logits, kept) for routed in routing]
    count = kept.sum()
    return Term(torch.stack(losses).mean() * count, count, batch.step_tokens)


def weighted(terms: Mapping[str, Term], weights: Mapping[str, float]) -> dict[str, float]:
    """The weight of each term in the loss: 1 if nobody says another, 0 for parts of terms."""
    return {name: 0.0 if "/" in name else weights.get(name, 1.0) for name in terms}
