"""Training losses as pure functions.

Labels are aligned with the input ids; these functions shift them. Logits in half precision are cast
to float32 first.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ming_core.training.labels import IGNORED


def token_losses(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p of each token given those before it, 0 where its label is IGNORED.

    logits [B, T, V], labels [B, T] -> [B, T - 1], entry t for the label t + 1.
    """
    targets = labels[:, 1:]
    kept = targets != IGNORED
    # Half of a training row is prompt: its logits are not worth a softmax over the vocabulary.
    wanted = logits[:, :-1][kept]
    if wanted.dtype in (torch.float16, torch.bfloat16):
        wanted = wanted.float()
    losses = cross_entropy(wanted, targets[kept], reduction="none")
    return losses.new_zeros(targets.shape).masked_scatter(kept, losses)


def next_token_loss(
    logits: Tensor,
    labels: Tensor,
    reduction: Literal["token", "sequence"] = "token",
    segment_ids: Tensor | None = None,
) -> Tensor:
    """Mean next-token loss; 0, with a gradient of 0, if there is no label.

    The mean "token" gives every label the same weight. The mean "sequence" averages inside each
    sequence first, and then over the sequences that have labels. A sequence is a row, or, with
    segment_ids [B, T] (-1 for padding), a segment of a row.
    logits [B, T, V], labels [B, T] with IGNORED at the first token of every sequence.
    """
    losses = token_losses(logits, labels)
    kept = labels[:, 1:] != IGNORED
    if reduction == "token":
        return losses.sum() / kept.sum().clamp(min=1)
    if segment_ids is None:
        segment_ids = torch.zeros_like(labels)
    # Numbers every sequence of the batch; padding has no labels and may share a number.
    segments = segment_ids[:, 1:].clamp(min=0)
    width = int(segments.max()) + 1
    rows = torch.arange(len(labels), device=labels.device).unsqueeze(1)
    sequence = (rows * width + segments)[kept]
    totals = losses.new_zeros(len(labels) * width).index_add(0, sequence, losses[kept])
    counts = torch.bincount(sequence, minlength=len(totals))
    return (totals / counts.clamp(min=1)).sum() / (counts > 0).sum().clamp(min=1)
