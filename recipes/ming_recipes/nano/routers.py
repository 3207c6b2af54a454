"""The bias rule: it moves the routers towards even use of the experts, without a gradient."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.omni import Omni
from ming_core.training.balance import bias_update, expert_counts
from ming_recipes.training.batch import Batch

SETTLING = 0.96
"""Each step of `settle_routers`, in multiples of the one before."""


@torch.no_grad()
def settle_routers(omni: Omni, batches: Iterable[Batch], rate: float) -> None:
    """Let the bias rule alone go on, where no loss holds a router: in the last layer, at pictures
    and sounds.

    The output of the last layer at these tokens is used by no answer, so no answer changes. Parts
    that are trained in front of the backbone may use it, and should find no idle expert. The steps
    shrink from `rate` on: a step of training is larger than the differences between the scores of
    these experts.
    """
    mixture, weight = omni.backbone.mixtures[-1], next(omni.parameters())
    for number, batch in enumerate(batches):
        inputs = batch.omni.to(weight.device, weight.dtype)
        routed = omni(inputs).routing[-1]
        for id in (IMAGE, AUDIO):
            segments, bias = inputs.segment_ids, mixture.gates[id].expert_bias
            assert segments is not None
            assert bias is not None
            own = (segments >= 0) & (inputs.modality_ids == id)
            counts = expert_counts(routed.index, routed.logits.shape[-1], own.flatten()).float()
            bias.copy_(bias_update(bias, counts, rate * SETTLING**number, zero_mean=True))
