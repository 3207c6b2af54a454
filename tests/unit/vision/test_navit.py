"""The NaViT encoder: timm's transformer on packed patches, batched against one by one, training."""

from __future__ import annotations

import sys
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from ming_core.checkpoints.reading import on_meta
from ming_core.errors import MissingPlugin
from ming_core.model.encoder import Features
from ming_vision.navit import NavitEncoder, NavitTower
from ming_vision.processing import patchify

PATCH, FRAMES = 4, 2
VISION = {
    "model_type": "navit",
    "depth": 2,
    "hidden_size": 32,
    "num_heads": 2,
    "intermediate_size": 48,
    "patch_size": PATCH,
}
CONFIG = {"vision_config": VISION, "llm_config": {"hidden_size": 24}, "mlp_depth": 2}
GRIDS = [(1, 4, 6), (1, 10, 8), (2, 4, 6), (1, 2, 2), (1, 2, 12)]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def make() -> NavitEncoder:
    return NavitEncoder.from_config(CONFIG, {})


def batch() -> Features:
    pixels = torch.randn(sum(t * h * w for t, h, w in GRIDS), 3 * FRAMES * PATCH**2)
    tokens = [t * h * w // 4 for t, h, w in GRIDS]
    return Features("image", {"pixel_values": pixels}, torch.tensor(GRIDS), tokens)


def split(features: Features) -> list[Features]:
    pixels = features.tensors["pixel_values"].split([t * h * w for t, h, w in GRIDS])
    return [
        Features("image", {"pixel_values": rows}, torch.tensor([grid]), [len(rows) // 4])
        for grid, rows in zip(GRIDS, pixels)
    ]


def test_batched_equals_one_by_one_in_values_and_gradients() -> None:
    encoder = make()
    features = batch()
    weight = torch.randn(sum(features.tokens), 24)

    together = encoder(features)
    (together * weight).sum().backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters()}
    encoder.zero_grad()

    single = torch.cat([encoder(one) for one in split(features)])
    (single * weight).sum().backward()
    torch.testing.assert_close(together, single, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.norm(dim=-1), torch.ones(len(together)))
    for name, p in encoder.named_parameters():
        assert gradients[name] is not None, name
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-5)


def test_packed_patches_equal_the_picture_itself() -> None:
    """The transformer sees the same picture whether it cuts the patches or we do."""
    tower = cast(NavitTower, make().vision)
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


def test_a_few_steps_learn_where_the_bright_spot_is() -> None:
    encoder = make()
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


def test_built_on_meta_and_assigned_equals_built_directly() -> None:
    encoder = make()
    with on_meta():
        shell = make()
    assert all(p.is_meta for p in shell.parameters())
    shell.load_state_dict(encoder.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*shell.parameters(), *shell.buffers()))
    features = batch()
    with torch.no_grad():
        assert torch.equal(shell(features), encoder(features))


def test_without_timm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", cast(Any, None))
    sentence = "the encoder 'navit' needs 'ming-vision.timm.': pip install 'ming-vision.timm.'"
    with pytest.raises(MissingPlugin, match=sentence):
        make()
