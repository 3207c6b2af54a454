"""Convolutions over sounds of different lengths, packed one after another.

A packed batch [N, C] holds no padding. Linear layers and norms read it as it is, attention works
on its segments (`ming_core.model.segments`), and convolutions come here: each sound gets a slot in
one long sequence, with zeros around it, so that no output sees two sounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.lengths import convolved


def packed_conv(conv: nn.Conv1d, x: Tensor, lengths: Sequence[int]) -> Tensor:
    """`conv`, whose padding is half its kernel, over each sound alone.

    x [sum(lengths), C] -> [sum of the convolved lengths, D].
    """
    kernel, stride = conv.kernel_size[0], conv.stride[0]
    size, into, out = _slots(tuple(lengths), kernel, stride, x.device)
    spread = x.new_zeros(size, x.shape[1]).index_copy(0, into, x)
    y = F.conv1d(spread.T.unsqueeze(0), conv.weight, conv.bias, stride, groups=conv.groups)
    return y[0].T.index_select(0, out)


@lru_cache(maxsize=64)
def _slots(
    lengths: tuple[int, ...], kernel: int, stride: int, device: torch.device
) -> tuple[int, Tensor, Tensor]:
    """Length of the long sequence, the place in it of every input, and which outputs count.

    Slots begin at multiples of the stride; the zeros before a sound also end the one before it.
    The tensors are shared: never write to them.
    """
    padding, start = kernel // 2, 0
    into, out = [], []
    # A cached inference tensor could not take part in a later backward pass.
    with torch.inference_mode(False), torch.device("cpu"):
        for length in lengths:
            into.append(torch.arange(length, device="cpu") + start + padding)
            out.append(
                torch.arange(convolved(length, kernel, stride), device="cpu") + start // stride
            )
            start += -(-(length + padding) // stride) * stride
        # Behind the last slot: what the window of the last output still covers.
        size = start + kernel
        return size, torch.cat(into).to(device), torch.cat(out).to(device)
