"""Recorded sound features of the reference as our encoder takes them."""

from __future__ import annotations

import torch
from torch import Tensor

from ming_audio.config import Ear
from ming_core.model.encoder import Features


def packed_sounds(feats: Tensor, lengths: Tensor, ear: Ear) -> tuple[Features, list[list[int]]]:
    """feats [B, T, F] holds the sounds of a sample one after another, lengths [B, N] theirs up to
    the first 0; also returns those lengths without zeros.
    """
    rows = [[n for n in row if n] for row in lengths.tolist()]
    counts = [n for row in rows for n in row]
    packed = torch.cat([x[: sum(row)] for x, row in zip(feats, rows, strict=True)])
    frames = torch.tensor(counts, dtype=torch.int64)[:, None]
    tensors = {ear.config.feature: packed, "frames": frames}
    return Features("audio", tensors, None, [ear.tokens(n) for n in counts]), rows
