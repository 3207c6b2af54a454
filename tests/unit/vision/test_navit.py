"""The NaViT encoder: timm's transformer on packed patches, and training."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ming_core.errors import MissingPlugin
from ming_core.model.encoder import Features
from ming_vision.navit import NavitTower
from ming_vision.processing import patchify

PATCH, FRAMES = 4, 2


def test_packed_patches_equal_the_picture_itself(navit_tower: Any) -> None:
    """The transformer sees the same picture whether it cuts the patches or we do."""
    tower = cast(NavitTower, navit_tower.make().vision)
    frames = torch.randn(FRAMES, 3, 4 * PATCH, 6 * PATCH)
    rows, grid = patchify(frames.numpy(), PATCH, 2, FRAMES)
    with torch.no_grad():
        packed = tower(torch.from_numpy(rows), torch.tensor([grid]))
        # timm's own patches have the channels last; its weight is turned accordingly.
        proj = cast(nn.Linear, tower.vit.embeds.proj)
        weight = proj.weight.unflatten(1, (3 * FRAMES, PATCH, PATCH)).permute(0, 2, 3, 1)
        proj.weight.copy_(weight.flatten(1))
        picture = frames.transpose(0, 1).flatten(0, 1)[None]  # [1, 3 * frames, H, W]
        whole = cast(Tensor, tower.vit.forward_features(picture))
    blocks = whole.view(2, 2, 3, 2, 32).transpose(1, 2).reshape(-1, 4 * 32)
    torch.testing.assert_close(packed, blocks, rtol=0, atol=1e-5)


def test_a_few_steps_learn_where_the_bright_spot_is(navit_tower: Any) -> None:
    encoder = navit_tower.make()
    target = torch.nn.functional.normalize(torch.randn(4, 24), dim=-1)
    pixels = torch.zeros(4, 16, 3 * FRAMES * PATCH**2)
    for sample in range(4):
        pixels[sample, 4 * sample : 4 * sample + 4] = 1  # one of the four tokens of a 4 x 4 grid
    grid = torch.tensor([[1, 4, 4]] * 4)
    features = Features("image", {"pixel_values": pixels.flatten(0, 1)}, grid, [4] * 4)
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=3e-3)
    losses = []
    for _ in range(100):
        first = encoder(features).view(4, 4, 24)[:, 0]  # the same token of each picture
        loss = 1 - (first * target).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 < 0.5 < losses[0]


def test_without_timm(navit_tower: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", cast(Any, None))
    sentence = "the encoder 'navit' needs 'ming-vision.timm.': pip install 'ming-vision.timm.'"
    with pytest.raises(MissingPlugin, match=sentence):
        navit_tower.make()
