"""How the learning rate moves over a training: a linear warm-up, times a curve."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "linear": lambda progress: 1.0 - progress,
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
}
"""Progress from 0 to 1 -> from 1 to 0, but for "constant"."""


def schedule(
    kind: str, steps: int, warmup: float = 0.0, end: float = 0.0, before: int = 0, after: int = 0
) -> Callable[[int], float]:
    """The multiple of the learning rate in each step.

    steps: of this training. warmup: steps, or a share of `steps` if it is below 1. end: what the
    curve comes to. before, after: steps of other trainings that share the curve with this one.
    """
    warm = max(1.0, warmup * steps if warmup < 1 else warmup)
    curve, total = SCHEDULES[kind], max(1, before + steps + after)

    def multiple(step: int) -> float:
        progress = min(1.0, (before + step) / total)
        return min(1.0, (step + 1) / warm) * (end + (1 - end) * curve(progress))

    return multiple
