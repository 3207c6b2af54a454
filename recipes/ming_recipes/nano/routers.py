"""The bias rule: it moves the routers towards even use of the experts, without a gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.routing import Gate, Routing
from ming_core.training.balance import bias_update, expert_counts
from ming_recipes.nano.data import PackedBatch

SETTLING = 0.96
"""Each step of `settle_routers`, in multiples of the one before."""


def tokens_per_expert(batch: OmniBatch, modality: int, routed: Routing) -> Tensor:
    """How many tokens of a modality came to each expert of its router, float32 [E]."""
    assert batch.segment_ids is not None
    own = (batch.segment_ids >= 0) & (batch.modality_ids == modality)
    return expert_counts(routed.index, routed.logits.shape[-1], own.flatten()).float()


def move_bias(gate: Gate, counts: Tensor, rate: float) -> None:
    """One step of the rule, if the gate has a selection bias; counts [E] of the whole batch."""
    if gate.expert_bias is not None:
        gate.expert_bias.copy_(bias_update(gate.expert_bias, counts, rate, zero_mean=True))


@torch.no_grad()
def settle_routers(omni: Omni, batches: Iterable[PackedBatch], rate: float) -> None:
    """Let the bias rule alone go on, where no loss holds a router: in the last layer, at pictures
    and sounds.

    The output of the last layer at these tokens is used by no answer, so no answer changes. Parts
    that are trained in front of the backbone may use it, and should find no idle expert. The steps
    shrink from `rate` on: a step of training is larger than the differences between the scores of
    these experts.
    """
    mixture = omni.backbone.mixtures[-1]
    for number, batch in enumerate(batches):
        inputs = batch.omni.to("cpu", torch.bfloat16)
        routed = omni(inputs).routing[-1]
        for id in (IMAGE, AUDIO):
            counts = tokens_per_expert(inputs, id, routed)
            move_bias(mixture.gates[id], counts, rate * SETTLING**number)
