"""What every encoder of packed patches promises: batches, unit length, meta, half precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ming_core.checkpoints.reading import on_meta
from ming_core.errors import BadConfig


def gradients(encoder: Any) -> dict[str, Tensor]:
    found = {k: p.grad.clone() for k, p in encoder.named_parameters() if p.grad is not None}
    encoder.zero_grad()
    return found


def test_packed_equals_one_by_one_in_values_and_gradients(tower: Any) -> None:
    encoder = tower.make()
    batch = tower.features()
    weight = torch.randn(sum(batch.tokens), 24)

    packed = encoder(batch)
    (packed * weight).sum().backward()
    expected = gradients(encoder)
    dormant = {name for name, _ in encoder.named_parameters() if "deepstack" in name}
    assert expected.keys() == {name for name, _ in encoder.named_parameters()} - dormant

    single = torch.cat([encoder(one) for one in tower.split(batch)])
    (single * weight).sum().backward()
    torch.testing.assert_close(packed, single, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients(encoder).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5)


def test_an_image_is_blind_to_the_others_in_its_batch(tower: Any) -> None:
    encoder = tower.make()
    batch = tower.features()
    changed = batch.tensors["pixel_values"].clone()
    changed[: 4 * 6] += 1  # the first image
    with torch.no_grad():
        before, after = encoder(batch), encoder(tower.features(pixels=changed))
    assert not torch.allclose(before[:6], after[:6], atol=1e-3)
    torch.testing.assert_close(before[6:], after[6:])


def test_every_token_has_unit_length(tower: Any) -> None:
    with torch.no_grad():
        embeds = tower.make()(tower.features())
    torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))


def test_built_on_meta_and_assigned_equals_built_directly(tower: Any) -> None:
    encoder = tower.make()
    with on_meta():
        shell = tower.make()
    assert all(p.is_meta for p in shell.parameters())
    shell.load_state_dict(encoder.state_dict(), assign=True)
    assert not any(t.is_meta for t in (*shell.parameters(), *shell.buffers()))
    batch = tower.features()
    with torch.no_grad():
        assert torch.equal(shell(batch), encoder(batch))


def test_bfloat16_stays_close_and_keeps_its_dtype(tower: Any) -> None:
    encoder = tower.make()
    batch = tower.features()
    with torch.no_grad():
        expected = encoder(batch)
        actual = encoder.bfloat16()(batch.to("cpu", torch.bfloat16))
    assert actual.dtype == torch.bfloat16
    cosine = torch.nn.functional.cosine_similarity(actual.float(), expected)
    assert cosine.min() > 0.999


@pytest.mark.parametrize(
    ("kind", "change", "sentence"),
    [
        ("lite", {"depth": None}, "vision_config lacks the field 'depth'; take the files"),
        ("lite", {"hidden_act": "relu"}, "vision_config.hidden_act is 'relu'; only 'silu' is"),
        ("lite", {"num_heads": 3}, "hidden_size 32 must be a multiple of 4 [*] num_heads"),
        ("lite", {"window_size": 4}, "window_size 4 must hold at least one merged token of 8"),
        ("flash", {"num_position_embeddings": None}, "lacks the field 'num_position_embeddings'"),
        ("flash", {"hidden_act": "gelu"}, "hidden_act is 'gelu'; only 'gelu_pytorch_tanh' is"),
        ("flash", {"num_heads": 3}, "hidden_size 32 must be a multiple of 4 [*] num_heads"),
        ("flash", {"num_position_embeddings": 24}, "embeddings 24 must be a square number"),
    ],
)
def test_bad_configuration(
    request: pytest.FixtureRequest, kind: str, change: dict[str, Any], sentence: str
) -> None:
    tower = request.getfixturevalue(f"{kind}_tower")
    with pytest.raises(BadConfig, match=sentence):
        tower.make(**change)


def test_a_config_without_sight(lite_tower: Any) -> None:
    with pytest.raises(BadConfig, match=r"config\.json has no 'vision_config'"):
        lite_tower.kind.from_config({"llm_config": {"hidden_size": 8}, "mlp_depth": 2}, {})


@pytest.mark.gpu
def test_a_gpu_gives_the_same(tower: Any, gpu: torch.device) -> None:
    encoder, batch = tower.make(), tower.features()
    weight = torch.randn(sum(batch.tokens), 24)
    expected = encoder(batch)
    (expected * weight).sum().backward()
    wanted = gradients(encoder)
    values = encoder.to(gpu)(batch.to(gpu, torch.float32))
    (values * weight.to(gpu)).sum().backward()
    torch.testing.assert_close(values.cpu(), expected, rtol=1e-4, atol=1e-5)
    for name, gradient in gradients(encoder).items():
        torch.testing.assert_close(gradient.cpu(), wanted[name], rtol=1e-3, atol=1e-4)
    half = encoder.bfloat16()(batch.to(gpu, torch.bfloat16))
    assert half.dtype == torch.bfloat16
    assert torch.cosine_similarity(half.float().cpu(), expected).min() > 0.98
