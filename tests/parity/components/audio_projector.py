"""The projector of sounds, element by element, and the unit length of its tokens."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from ming_audio.encoder import Projector, unit_length
from ming_audio.packing import packed_conv
from ming_core.testing import Check, GoldenCase


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    config, (batch, time, width) = case.config, case.inputs["hidden"].shape
    prefix = next(iter(case.weights)).partition(".")[0]
    section = config["whisper_config" if prefix == "linear_proj_whisper" else "audio_config"]
    sizes = config["llm_config"]["hidden_size"], config["mlp_depth"]
    projector = Projector(width, *sizes, section["ds_kernel_size"], section["ds_stride"])
    projector.load_state_dict({k.removeprefix(f"{prefix}."): v for k, v in case.weights.items()})

    hidden, lengths = case.inputs["hidden"].flatten(0, 1), [time] * batch
    conv, *rest = projector
    assert isinstance(conv, nn.Conv1d)
    steps = [packed_conv(conv, hidden, lengths)]
    for layer in rest:
        steps.append(layer(steps[-1]))
    steps.append(steps[-1])  # the released sequence ends by transposing back
    projected = projector(hidden, lengths)
    actual = {f"step{i}": step for i, step in enumerate(steps)}
    actual |= {"projected": projected, "normalized": unit_length(projected)}
    for name, expected in case.outputs.items():
        value = actual[name].unflatten(0, (batch, -1))
        released_channels_first = name in ("step0", f"step{len(steps) - 1}")
        yield Check(name, value.mT if released_channels_first else value, expected)
