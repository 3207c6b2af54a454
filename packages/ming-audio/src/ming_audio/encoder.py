"""Sounds to backbone embeddings: tower, projector, unit length, for each ear of the release."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ming_audio.config import AudioConfig, Ear, WhisperConfig
from ming_audio.packing import packed_conv
from ming_audio.processing import AudioProcessor
from ming_audio.sanm import SanmTower
from ming_audio.whisper import WhisperTower
from ming_core.model.encoder import Features
from ming_core.model.layers import Linear


class AudioEncoder(nn.Module):
    """The encoders of a release, tensors `audio.*` and `linear_proj_audio.*`; Lite 1.0 has
    `whisper_encoder.*` and `linear_proj_whisper.*` as well.

    No buffer is missing in a checkpoint, so a module built on `meta` is complete once its weights
    are assigned.
    """

    modality = "audio"

    def __init__(self, config: AudioConfig, processor: AudioProcessor) -> None:
        super().__init__()
        self.config = config
        self.processor = processor
        for ear in config.ears:
            self.add_module(ear.tower, tower(ear))
            sizes = config.hidden_size, config.mlp_depth, ear.kernel, ear.stride
            self.add_module(ear.projector, Projector(ear.config.width, *sizes))

    @classmethod
    def from_config(cls, config: Mapping[str, Any], preprocessor: Mapping[str, Any]) -> Self:
        """From a whole released config.json and preprocessor_config.json (or {}).

        Raises BadConfig.
        """
        audio = AudioConfig.from_dict(config)
        return cls(audio, AudioProcessor.from_config(audio, preprocessor))

    def forward(self, features: Features) -> Tensor:
        """Packed frames of each ear and who heard what -> embeddings [sum(tokens), hidden_size].

        Of a sound that gives more tokens than `features.tokens` says, the first ones are taken:
        that is how padded sounds come in (`released_padding`).
        """
        frames = features.tensors["frames"].tolist()
        heard: dict[int, Tensor] = {}
        for column, ear in enumerate(self.config.ears):
            items = [item for item, row in enumerate(frames) if row[column]]
            if items:
                lengths = [frames[item][column] for item in items]
                tokens = self.hear(ear, features.tensors[ear.config.feature], lengths)
                sizes = [ear.tokens(length) for length in lengths]
                heard.update(zip(items, tokens.split(sizes), strict=True))
        return torch.cat([heard[item][:count] for item, count in enumerate(features.tokens)])

    def hear(self, ear: Ear, frames: Tensor, lengths: Sequence[int]) -> Tensor:
        """Through one ear: frames [sum(lengths), F] -> [sum of tokens, hidden_size]."""
        hidden = self.get_submodule(ear.tower)(frames, lengths)
        states = [ear.config.hidden(length) for length in lengths]
        tokens = self.get_submodule(ear.projector)(hidden, states)
        return unit_length(tokens) if self.config.unit_length else tokens


class Projector(nn.ModuleList):
    """A convolution, then (depth - 1) times exact GELU and Linear; named as in every release.

    The released ones transpose before the GELU, which takes the number 1.
    """

    def __init__(self, width: int, hidden_size: int, depth: int, kernel: int, stride: int) -> None:
        """width: channels of a hidden state; hidden_size: those of the backbone."""
        conv = nn.Conv1d(width, hidden_size, kernel, stride, padding=kernel // 2)
        layers: list[nn.Module] = [conv, nn.Identity()]
        for _ in range(depth - 1):
            layers += [nn.GELU(), Linear(hidden_size, hidden_size)]
        super().__init__(layers)

    def forward(self, hidden: Tensor, lengths: Sequence[int]) -> Tensor:
        """hidden [sum(lengths), C] -> [sum of the convolved lengths, hidden_size]."""
        conv, *rest = self
        assert isinstance(conv, nn.Conv1d)
        x = packed_conv(conv, hidden, lengths)
        for layer in rest:
            x = layer(x)
        return x


def tower(ear: Ear) -> WhisperTower | SanmTower:
    """Packed frames [sum(lengths), F] and the lengths to packed hidden states."""
    if isinstance(ear.config, WhisperConfig):
        return WhisperTower(ear.config)
    return SanmTower(ear.config)


def unit_length(x: Tensor) -> Tensor:
    """Every token [..., D] at L2 norm 1, the scale at which the backbones met sounds."""
    return F.normalize(x, dim=-1, eps=1e-12)
