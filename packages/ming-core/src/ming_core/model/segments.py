"""Attention inside the runs of a packed sequence, as encoders of every modality need it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ming_core.model.kernels.attention import attend


@dataclass(frozen=True)
class Segments:
    """Consecutive runs of a packed sequence. The tokens of a run attend only to that run.

    Attributes:
        lengths: Length of each run, in order.
        rows: For each distinct length, the places [runs, length] of its runs. Empty if all lengths
            are equal, because then a reshape is enough.
        inverse: [N], puts the concatenation of all `rows` back in order; None if `rows` is empty.
    """

    lengths: tuple[int, ...]
    rows: tuple[Tensor, ...]
    inverse: Tensor | None

    @classmethod
    def of(cls, lengths: Sequence[int], device: torch.device) -> Segments:
        """Group runs of equal length, so that each length costs one attention call."""
        if len(set(lengths)) <= 1:
            return cls(tuple(lengths), (), None)
        size = torch.tensor(lengths, device="cpu")
        start = size.cumsum(0) - size
        rows = tuple(
            start[size == length, None] + torch.arange(length, device="cpu")
            for length in sorted(set(lengths))
        )
        inverse = torch.cat([index.flatten() for index in rows]).argsort()
        return cls(tuple(lengths), tuple(index.to(device) for index in rows), inverse.to(device))


def attend_segments(q: Tensor, k: Tensor, v: Tensor, segments: Segments) -> Tensor:
    """q, k, v [N, H, d] -> [N, H, d]; one attention call for each distinct segment length."""

    def run(*batch: Tensor) -> Tensor:  # three times [runs, L, H, d]
        heads = (x.transpose(1, 2) for x in batch)
        return attend(*heads, mask=None, causal=False).transpose(1, 2).flatten(0, 1)

    if segments.inverse is None:
        return run(*(x.unflatten(0, (len(segments.lengths), -1)) for x in (q, k, v)))
    parts = [run(q[rows], k[rows], v[rows]) for rows in segments.rows]
    return torch.cat(parts).index_select(0, segments.inverse)
