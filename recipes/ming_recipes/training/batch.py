"""What one step of training is given: packed samples, their targets, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ming_core.model.omni import OmniBatch


@dataclass(frozen=True)
class SampleInfo:
    """Where a sample comes from: its id, and the name of its data set."""

    id: str
    dataset: str = ""


@dataclass(frozen=True)
class Batch:
    """A micro-batch of B packed rows of T tokens.

    step_weight, step_tokens: sums of `weights`, and number of tokens, of all micro-batches that
    this process adds up to one step of the optimiser; None if this is the only one. So a mean over
    a step does not depend on how the step was cut into micro-batches.
    extra: what objectives of a recipe need besides; it is moved if it has a method `to`.
    """

    omni: OmniBatch
    labels: Tensor  # [B, T], aligned with the ids; IGNORED for what is no target
    weights: Tensor  # [B, T] float32: what each target counts in the loss
    sample_ids: Tensor  # [B, T] index into `samples`, -1 for padding and shared prefixes
    samples: Sequence[SampleInfo] = ()
    step_weight: float | None = None
    step_tokens: float | None = None
    extra: Any = None

    @property
    def tokens(self) -> int:
        """Tokens that are no padding."""
        segments = self.omni.segment_ids
        return self.places if segments is None else int((segments >= 0).sum())

    @property
    def places(self) -> int:
        """B x T: tokens with the padding."""
        return self.omni.input_ids.numel()

    def to(self, device: torch.device | str, dtype: torch.dtype) -> Batch:
        """Moved to `device`; what encoders read is cast to `dtype`."""
        extra = self.extra.to(device, dtype) if hasattr(self.extra, "to") else self.extra
        return replace(
            self,
            omni=self.omni.to(device, dtype),
            labels=self.labels.to(device),
            weights=self.weights.to(device),
            sample_ids=self.sample_ids.to(device),
            extra=extra,
        )
