"""What the probes share: a linear reader, and terms of the loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_recipes.training.objectives import Term


class Reader(nn.Module):
    """A linear map to classes, initialised as torch does it.

    It is no `nn.Linear`: its rows stand for classes by themselves, so Muon must leave it alone.
    """

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        drawn = nn.Linear(width, classes)
        self.weight, self.bias = drawn.weight, drawn.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def asked(logits: Tensor, targets: Tensor) -> Term:
    """Mean cross-entropy of logits [N, C] where the target [N] is not -1."""
    total = F.cross_entropy(logits.float(), targets, ignore_index=-1, reduction="sum")
    return Term(total, (targets >= 0).sum())


def nothing(like: Tensor) -> Term:
    """The term of a batch that holds nothing of its kind."""
    return Term(torch.zeros((), device=like.device), 0.0)


def share_right(logits: Tensor, targets: Tensor) -> Term:
    """How often the best class is the target; it is written down and not trained."""
    right = (logits.detach().argmax(-1) == targets).sum()
    return Term(right, float(len(targets)))
