"""The SANM encoder (preview, and Lite 1.0 listening): stacked filter banks to hidden states.

It is FunASR's `SANMEncoder`: attention whose values also go through a depthwise convolution over
time, the "memory". With 17 frames a second, packing would save little, so batches are padded and
masked.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.config import SanmConfig
from ming_audio.positions import sinusoids
from ming_core.model.kernels.attention import attend
from ming_core.model.layers import Linear

NORM_EPS = 1e-12


class SanmTower(nn.Module):
    """Frames in, as many hidden states out, both packed.

    position_dtype: in what the positions are computed. None is the dtype of the input, as in
    released inference; bfloat16 then blurs all of them behind the first quarter minute.
    """

    def __init__(self, config: SanmConfig) -> None:
        super().__init__()
        self.config = config
        self.position_dtype: torch.dtype | None = torch.float32
        width = config.output_size
        self.encoders0 = nn.ModuleList([Layer(config, config.input_size)])
        self.encoders = nn.ModuleList(Layer(config, width) for _ in range(config.num_blocks - 1))
        self.after_norm = nn.LayerNorm(width, NORM_EPS)

    def forward(self, frames: Tensor, lengths: Sequence[int]) -> Tensor:
        """frames [sum(lengths), input_size] -> [sum(lengths), output_size]."""
        parts = frames.split(list(lengths))
        x = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
        size = torch.tensor(lengths, device=frames.device)
        hidden = self.padded(x, size)
        return hidden[present(size, x.shape[1])]

    def padded(self, x: Tensor, lengths: Tensor) -> Tensor:
        """x [B, T, input_size] with zeros behind each length -> [B, T, output_size].

        Rows behind a length hold values without meaning.
        """
        mask = present(lengths, x.shape[1])
        x = self.place(x)
        for layer in (*self.encoders0, *self.encoders):
            x = layer(x, mask)
        return self.after_norm(x)

    def place(self, x: Tensor) -> Tensor:
        """x [B, T, input_size] scaled, plus positions that count from one."""
        positions = sinusoids(1, x.shape[1], x.shape[2], self.position_dtype or x.dtype, x.device)
        return (x * self.config.output_size**0.5 + positions).to(x.dtype)


class Layer(nn.Module):
    def __init__(self, config: SanmConfig, width: int) -> None:
        """width: channels of the input; those of the output are `output_size`."""
        super().__init__()
        self.norm1 = nn.LayerNorm(width, NORM_EPS)
        self.self_attn = Attention(config, width)
        self.norm2 = nn.LayerNorm(config.output_size, NORM_EPS)
        self.feed_forward = FeedForward(config)
        self.residual = width == config.output_size

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        y = self.self_attn(self.norm1(x), mask)
        x = x + y if self.residual else y
        return x + self.feed_forward(self.norm2(x))


class Attention(nn.Module):
    """Attention plus memory, which is added behind the output projection."""

    def __init__(self, config: SanmConfig, width: int) -> None:
        super().__init__()
        out, kernel = config.output_size, config.kernel_size
        self.heads = config.attention_heads
        self.linear_q_k_v = Linear(width, 3 * out)
        self.linear_out = Linear(out, out)
        self.fsmn_block = nn.Conv1d(out, out, kernel, groups=out, bias=False)
        left = (kernel - 1) // 2 + config.sanm_shfit
        self.around = left, kernel - 1 - left

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """x [B, T, width], mask bool [B, T] -> [B, T, output_size]."""
        q, k, v = self.linear_q_k_v(x).chunk(3, dim=-1)
        heads = (y.unflatten(-1, (self.heads, -1)).transpose(1, 2) for y in (q, k, v))
        y = attend(*heads, mask=mask[:, None, None], causal=False)
        return self.linear_out(y.transpose(1, 2).flatten(2)) + self.memory(v, mask)

    def memory(self, v: Tensor, mask: Tensor) -> Tensor:
        """v [B, T, D] and what the convolution makes of it; zero where there is no frame."""
        v = v * mask.unsqueeze(-1)
        seen = self.fsmn_block(F.pad(v.transpose(1, 2), self.around)).transpose(1, 2)
        return (seen + v) * mask.unsqueeze(-1)


class FeedForward(nn.Module):
    def __init__(self, config: SanmConfig) -> None:
        super().__init__()
        self.w_1 = Linear(config.output_size, config.linear_units)
        self.w_2 = Linear(config.linear_units, config.output_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.w_2(F.relu(self.w_1(x)))


def present(lengths: Tensor, size: int) -> Tensor:
    """lengths [B] -> bool [B, size], true below each length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]
