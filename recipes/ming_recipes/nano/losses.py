"""A loss that several parts of this recipe use."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cross_entropy_where_asked(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of logits [N, C] where the target [N] is not -1; 0 if it is nowhere."""
    total = F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="sum")
    return total / (targets >= 0).sum().clamp(min=1)
