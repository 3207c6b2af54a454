"""The Whisper tower: convolutions, positions, residual stream.

Released code pads a batch and masks nothing; here that is a packed batch of sounds that are all as
long as the longest, the zeros included.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import gelu

from ming_audio.config import WhisperConfig
from ming_audio.packing import packed_conv
from ming_audio.whisper import WhisperTower
from ming_core.testing import Check, GoldenCase

from ._common import in_bfloat16


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    with torch.device("meta"):
        tower = WhisperTower(WhisperConfig.from_dict(case.config["whisper_encoder_config"]))
    tower.load_state_dict(case.weights, assign=True)
    batch, time, _ = case.inputs["mel"].shape
    mel = case.inputs["mel"].flatten(0, 1)
    if in_bfloat16(case):
        tower, mel = tower.bfloat16(), mel.bfloat16()
        # The reference casts its weights where it uses them, and this table nowhere.
        tower.positional_embedding = case.weights["positional_embedding"]

    lengths, halves = [time] * batch, [tower.config.hidden(time)] * batch
    actual: dict[str, Tensor] = {}
    for i, block in enumerate(tower.blocks):
        block.register_forward_hook(
            lambda _module, _inputs, output, name=f"block{i}": actual.update({name: output})
        )
    actual["last_hidden"] = tower(mel, lengths)
    actual["conv1"] = packed_conv(tower.conv1, mel, lengths)
    actual["conv2"] = packed_conv(tower.conv2, gelu(actual["conv1"]), lengths)
    actual["embed"] = tower.place(gelu(actual["conv2"]), halves)
    for name, expected in case.outputs.items():
        value = actual[name].unflatten(0, (batch, -1)).float()
        yield Check(name, value.mT if name.startswith("conv") else value, expected)
