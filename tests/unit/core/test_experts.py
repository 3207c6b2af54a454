"""The experts' grouped dispatch against a plain loop, in values and in every gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import silu

from ming_core.model.kernels.experts import swiglu
from ming_core.model.moe import MLP, Experts, ModalityMoE
from ming_core.release import backbone_of

TinyLlm = Callable[[str], dict[str, Any]]
E, D, I, K = 6, 10, 7, 3


def close(actual: Tensor, expected: Tensor) -> None:
    """Everything is float64 but for the float32 weighted sum."""
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


def experts() -> Experts:
    return Experts(E, D, I).double()


def choices(tokens: int, among: int = E) -> tuple[Tensor, Tensor]:
    """Different experts of each token out of the first `among`, and weights."""
    index = torch.stack([torch.randperm(among)[:K] for _ in range(tokens)])
    return index, torch.rand(tokens, K)


def plain(layer: Experts, x: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """One token and one expert after the other."""
    rows = []
    for token, chosen, weight in zip(x, index.tolist(), weights):
        total = torch.zeros_like(token)
        for e, w in zip(chosen, weight):
            gate, up = layer.gate_up_proj[e, :I] @ token, layer.gate_up_proj[e, I:] @ token
            total = total + w * (layer.down_proj[e] @ (silu(gate) * up))
        rows.append(total)
    return torch.stack(rows)


def gradients(output: Tensor, sources: list[Tensor]) -> list[Tensor]:
    direction = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
    return list(torch.autograd.grad((output * direction).sum(), sources))


@pytest.mark.parametrize("tokens", [1, 2, 17])
@pytest.mark.parametrize("among", [K, E])
def test_dispatch_equals_a_plain_loop_with_all_gradients(tokens: int, among: int) -> None:
    layer = experts()
    index, weights = choices(tokens, among)
    x = torch.randn(tokens, D, dtype=torch.float64, requires_grad=True)
    weights.requires_grad_()
    sources = [x, weights, layer.gate_up_proj, layer.down_proj]

    actual, expected = layer(x, index, weights), plain(layer, x, index, weights)
    close(actual, expected)
    for got, wanted in zip(gradients(actual, sources), gradients(expected, sources)):
        close(got, wanted)


def test_one_token_equals_the_same_token_among_many() -> None:
    layer = experts()
    index, weights = choices(9)
    x = torch.randn(9, D, dtype=torch.float64)
    many = layer(x, index, weights)
    alone = [layer(x[i : i + 1], index[i : i + 1], weights[i : i + 1]) for i in range(9)]
    close(torch.cat(alone), many)


@pytest.mark.parametrize("tokens", [1, 5])
def test_an_expert_without_tokens_has_a_zero_gradient(tokens: int) -> None:
    layer = experts()
    index, weights = choices(tokens, among=K)  # experts K .. E-1 stay idle
    layer(torch.randn(tokens, D, dtype=torch.float64), index, weights).sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        used = parameter.grad.flatten(1).abs().amax(dim=1) > 0
        assert used.tolist() == [e < K for e in range(E)]


def test_the_order_of_choices_and_of_tokens_does_not_matter() -> None:
    layer = experts()
    index, weights = choices(8)
    x = torch.randn(8, D, dtype=torch.float64)
    expected = layer(x, index, weights)
    close(layer(x, index.flip(1), weights.flip(1)), expected)
    order = torch.randperm(8)
    close(layer(x[order], index[order], weights[order]), expected[order])


@pytest.mark.parametrize("tokens", [1, 40])
def test_half_precision_sums_in_float32(tokens: int) -> None:
    layer = experts()
    index, weights = choices(tokens)
    x = torch.randn(tokens, D, dtype=torch.bfloat16)
    layer.to(torch.bfloat16)
    actual = layer(x, index, weights)
    assert actual.dtype == torch.bfloat16
    expected = plain(layer.double(), x.double(), index, weights.double())
    error = (actual.double() - expected).norm() / expected.norm()
    assert error < 0.01


def test_swiglu_takes_the_gate_from_the_first_half() -> None:
    x = torch.tensor([[1.0, -2.0, 3.0, 4.0]])
    expected = silu(torch.tensor([[1.0, -2.0]])) * torch.tensor([[3.0, 4.0]])
    close(swiglu(x), expected)


def test_the_mixture_adds_its_shared_experts(tiny_llm: TinyLlm) -> None:
    moe = ModalityMoE(backbone_of({"llm_config": tiny_llm("flash")}))
    x, modality = torch.randn(2, 5, 32), torch.randint(3, (2, 5))
    with torch.no_grad():
        y, routing = moe(x, modality)
        flat = x.flatten(0, 1)
        routed = moe.experts(flat, routing.index, routing.weights).view_as(x)
        assert isinstance(moe.shared_experts, MLP)
        close(y, routed + moe.shared_experts(x))


def test_a_mixture_without_shared_experts(tiny_llm: TinyLlm) -> None:
    moe = ModalityMoE(backbone_of({"llm_config": tiny_llm("lite-1.0") | {"num_shared_experts": 0}}))
    assert not any("shared" in name for name in moe.state_dict())
    y, routing = moe(torch.randn(1, 4, 32), None)
    assert y.shape == (1, 4, 32)
    assert routing.index.shape == (4, 3)
