"""The fast products of the experts against torch's `linear`, in values and gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from ming_core.model.kernels import experts as experts_module
from ming_core.model.kernels import products as products_module
from ming_core.model.kernels.experts import _by_expert
from ming_core.model.kernels.products import linear
from ming_core.model.moe import Experts

E, D, I, K = 8, 32, 24, 3


def routing(tokens: int) -> tuple[Tensor, Tensor]:
    weights, index = torch.randn(tokens, E).softmax(dim=-1).topk(K, dim=-1)
    return index, weights


@pytest.fixture(autouse=True)
def _even_small_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products_module, "_SMALL", 1)


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-4)


def gradients(y: Tensor, sources: list[Tensor]) -> list[Tensor]:
    slope = torch.linspace(-1, 1, y.numel(), device=y.device).view_as(y)
    return list(torch.autograd.grad((y.float() * slope).sum(), sources))


@pytest.mark.parametrize("rows", [0, 1, 2, 47, 300])
@pytest.mark.parametrize(("width", "out"), [(1, 1), (7, 5), (33, 65), (192, 256)])
@pytest.mark.parametrize("biased", [False, True])
def test_linear_of_any_shape(rows: int, width: int, out: int, biased: bool) -> None:
    sources = [torch.randn(rows, width), torch.randn(out, width)]
    sources += [torch.randn(out)] * biased
    expected = functional.linear(*sources)
    with torch.inference_mode():
        close(linear(*sources), expected)
    for source in sources:
        source.requires_grad_()
    y, expected = linear(*sources), functional.linear(*sources)
    close(y, expected)
    for got, wanted in zip(gradients(y, sources), gradients(expected, sources)):
        close(got, wanted)


@torch.inference_mode()
def test_linear_of_views() -> None:
    stack, wide = torch.randn(4, 12, 20), torch.randn(3, 5, 2, 20)
    weights = (stack[2], stack[1, 4:], stack[:, :, :6].transpose(0, 2)[:, 3])
    for weight in weights:
        for x in (wide[:, :, 1], wide.transpose(0, 1)[2:4], wide[:1].expand(6, -1, -1, -1)):
            x = x[..., : weight.shape[1]]
            close(linear(x, weight), functional.linear(x, weight))


def test_only_gradients_that_are_wanted() -> None:
    x, weight = torch.randn(2, 5, 8, requires_grad=True), torch.randn(6, 8)
    linear(x, weight).sum().backward()
    assert x.grad is not None
    close(x.grad, weight.sum(0).expand(2, 5, -1))
    x.grad = None
    linear(x.detach(), weight.requires_grad_()).sum().backward()
    assert weight.grad is not None
    close(weight.grad, x.detach().sum((0, 1)).expand(6, -1))


def test_autocast_decides_the_precision() -> None:
    x, weight = torch.randn(5, 8), torch.randn(6, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


def test_rows_that_nobody_reads_change_nothing() -> None:
    """600 tokens are enough for counts to be rounded up, to multiples of 4."""
    layer, x, (index, weights) = Experts(E, D, I), torch.randn(600, D), routing(600)
    counts = torch.bincount(_by_expert(index, E)[0], minlength=E)
    assert (counts % 4 == 0).all()
    assert 1800 < counts.sum() < 1800 + 4 * E

    actual = sums(layer, x, index, weights)
    gate, up = torch.einsum("nd,eid->eni", x, layer.gate_up_proj).chunk(2, dim=-1)
    every = torch.einsum("eni,edi->ned", functional.silu(gate) * up, layer.down_proj)
    own = every.gather(1, index[..., None].expand(-1, -1, D))
    y = (own * weights[..., None]).sum(1)
    expected = [y.detach(), *gradients(y, [x, weights, *layer.parameters()])]
    for got, wanted in zip(actual, expected, strict=True):
        close(got, wanted)


@pytest.mark.parametrize("tokens", [0, 1, 2, 60, 600])
def test_inference_equals_training(tokens: int) -> None:
    layer, x, chosen = Experts(E, D, I), torch.randn(tokens, D), routing(tokens)
    trained = layer(x, *chosen)
    with torch.inference_mode():
        inferred = layer(x, *chosen)
    assert inferred.shape == (tokens, D)
    torch.testing.assert_close(inferred, trained.detach(), rtol=1e-5, atol=1e-5)


def sums(layer: Experts, x: Tensor, index: Tensor, weights: Tensor) -> list[Tensor]:
    """Output, and gradients of x, the weights of the choices and both stacks."""
    sources = [x.requires_grad_(), weights.requires_grad_(), *layer.parameters()]
    y = layer(x, index, weights)
    return [y.detach(), *gradients(y, sources)]


@pytest.mark.parametrize("tokens", [2, 60])
def test_grouped_products_equal_the_loop(tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Experts(E, D, I).bfloat16()
    x, (index, weights) = torch.randn(tokens, D).bfloat16(), routing(tokens)
    grouped = sums(layer, x, index, weights)
    monkeypatch.setattr(experts_module, "_grouped", lambda *operands: False)
    for actual, expected in zip(grouped, sums(layer, x, index, weights), strict=True):
        torch.testing.assert_close(actual, expected, rtol=2e-2, atol=2e-2)


def test_products_that_cannot_be_grouped() -> None:
    """Rows of 14 bytes and of two dtypes."""
    layer = Experts(E, 7, 5).bfloat16()
    x, (index, weights) = torch.randn(9, 7).bfloat16(), routing(9)
    y = layer(x, index, weights)
    wide = layer.float()(x.float(), index, weights)
    torch.testing.assert_close(y.float(), wide, rtol=5e-2, atol=5e-2)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x.float(), index, weights).shape == (9, 7)


@pytest.mark.gpu
@pytest.mark.parametrize("tokens", [1, 60])
def test_a_gpu_gives_the_same_and_never_waits_for_the_host(tokens: int) -> None:
    layer = Experts(E, D, I).bfloat16()
    x, (index, weights) = torch.randn(tokens, D).bfloat16(), routing(tokens)
    expected = sums(layer, x, index, weights)
    layer.cuda()
    operands = x.detach().cuda(), index.cuda(), weights.detach().cuda()
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.inference_mode():
            layer(*operands)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for got, wanted in zip(sums(layer, *operands), expected, strict=True):
        torch.testing.assert_close(got.cpu(), wanted, rtol=2e-2, atol=2e-2)
