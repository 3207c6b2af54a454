"""The SANM tower: packed against one by one, and the precision of its positions."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ming_audio.config import SanmConfig
from ming_audio.sanm import SanmTower
from ming_core.errors import BadConfig

CONFIG = SanmConfig(
    input_size=28, output_size=32, attention_heads=4, linear_units=48, num_blocks=3, kernel_size=5
)
LENGTHS = [19, 1, 7, 3, 7]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_packed_equals_one_by_one(shift: int) -> None:
    tower = SanmTower(replace(CONFIG, sanm_shfit=shift))
    x = torch.randn(sum(LENGTHS), 28)
    with torch.no_grad():
        single = [tower(part, [len(part)]) for part in x.split(LENGTHS)]
        torch.testing.assert_close(tower(x, LENGTHS), torch.cat(single), rtol=1e-5, atol=1e-5)


def test_the_memory_reaches_as_far_as_its_window() -> None:
    """Its weights alone: with attention and all else at zero, a frame sees two on either side."""
    attention = SanmTower(CONFIG).encoders[0].self_attn
    v, mask = torch.zeros(1, 9, 32), torch.ones(1, 9, dtype=torch.bool)
    v[0, 4] = 1
    with torch.no_grad():
        heard = attention.memory(v, mask)[0].abs().sum(-1)  # type: ignore[operator,union-attr]
    assert [i for i, value in enumerate(heard.tolist()) if value] == [2, 3, 4, 5, 6]


def test_every_parameter_learns() -> None:
    tower = SanmTower(CONFIG)
    (tower(torch.randn(sum(LENGTHS), 28), LENGTHS) * torch.randn(37, 32)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in tower.parameters())


def test_bfloat16_positions_are_exact_unless_the_released_blur_is_asked_for() -> None:
    """Behind position 256 bfloat16 rounds; our default computes positions in float32."""
    tower = SanmTower(CONFIG).bfloat16()
    silence = torch.zeros(1, 1000, 28, dtype=torch.bfloat16)
    exact = SanmTower(CONFIG).place(silence.float())

    def error() -> float:
        return (tower.place(silence) - exact)[0, 500:].abs().max().item()

    assert error() < 0.004  # one rounding of a number up to 1
    tower.position_dtype = None
    assert error() > 0.5


def test_bfloat16_stays_close() -> None:
    tower, x = SanmTower(CONFIG), torch.randn(sum(LENGTHS), 28)
    with torch.no_grad():
        expected = tower(x, LENGTHS)
        actual = tower.bfloat16()(x.bfloat16(), LENGTHS)
    assert actual.dtype == torch.bfloat16
    assert F.cosine_similarity(actual.float(), expected).min() > 0.998


def test_a_window_that_leaves_out_the_present_is_refused() -> None:
    with pytest.raises(BadConfig, match="sanm_shfit 3 moves the window of 5 frames"):
        replace(CONFIG, sanm_shfit=3)
