"""The Whisper encoder (Lite 1.0 transcribing, Lite 1.5, Flash, nano): log-mel to hidden states.

It has two convolutions, of which the second halves the number of frames, a table of positions, and
pre-norm transformer blocks without a causal mask. Sounds of any length are packed: no sound is
padded to 30 s, and no sound sees another one.

Tensor names are those of openai-whisper; values equal those of the layers of transformers'
`WhisperEncoder` (tests/unit/audio/test_whisper.py compares them). We do not use that class: it
takes only inputs of 2 * n_ctx frames and padded batches, its tensors have other names, and to
import it takes seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.config import WhisperConfig
from ming_audio.packing import packed_conv
from ming_audio.positions import sinusoids
from ming_core.model.layers import Linear
from ming_core.model.segments import Segments, attend_segments


class WhisperTower(nn.Module):
    """Mel frames in, half as many hidden states out, both packed."""

    positional_embedding: Tensor

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        width = config.n_state
        self.conv1 = nn.Conv1d(config.n_mels, width, 3, padding=1)
        self.conv2 = nn.Conv1d(width, width, 3, stride=2, padding=1)
        # Every release has it among its tensors; fine-tuning may have changed it.
        table = torch.empty(config.n_ctx, width)
        if not table.is_meta:  # computing nothing there costs 3 s of imports
            table = sinusoids(0, config.n_ctx, width)
        self.register_buffer("positional_embedding", table)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_post = nn.LayerNorm(width)

    def forward(self, mel: Tensor, lengths: Sequence[int]) -> Tensor:
        """mel [sum(lengths), n_mels] -> [sum of hidden states, n_state].

        Raises ValueError for a sound longer than the table of positions.
        """
        halves = [self.config.hidden(length) for length in lengths]
        if max(halves) > self.config.n_ctx:
            raise ValueError(f"{max(halves)} frames, and positions for {self.config.n_ctx}")
        x = F.gelu(packed_conv(self.conv1, mel, lengths))
        x = F.gelu(packed_conv(self.conv2, x, lengths))
        x = self.place(x, halves)
        segments = Segments.of(halves, x.device)
        for block in self.blocks:
            x = block(x, segments)
        return self.ln_post(x)

    def place(self, x: Tensor, lengths: Sequence[int]) -> Tensor:
        """x [sum(lengths), n_state] plus the positions of each sound, which count from zero."""
        parts = x.split(list(lengths))
        placed = [part + self.positional_embedding[: len(part)] for part in parts]
        return torch.cat(placed).to(x.dtype)


class Block(nn.Module):
    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        width = config.n_state
        self.attn = Attention(config)
        self.attn_ln = nn.LayerNorm(width)
        self.mlp = nn.Sequential(Linear(width, 4 * width), nn.GELU(), Linear(4 * width, width))
        self.mlp_ln = nn.LayerNorm(width)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        x = x + self.attn(self.attn_ln(x), segments)
        return x + self.mlp(self.mlp_ln(x))


class Attention(nn.Module):
    """Of each sound to itself; keys have no bias."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        width = config.n_state
        self.heads = config.n_head
        self.query = Linear(width, width)
        self.key = Linear(width, width, bias=False)
        self.value = Linear(width, width)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, segments: Segments) -> Tensor:
        q, k, v = (
            layer(x).view(len(x), self.heads, -1) for layer in (self.query, self.key, self.value)
        )
        return self.out(attend_segments(q, k, v, segments).flatten(1))
