"""Routers: the rules by hand and by brute force, one router per modality, float32 throughout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.config import RouterConfig
from ming_core.model.routing import Gate, grouped_sigmoid_topk, route, softmax_topk

SOFTMAX = RouterConfig("softmax", top_k=3)
SIGMOID = RouterConfig("grouped_sigmoid", top_k=3, n_group=4, topk_group=2, scaling=2.5)
BOTH = pytest.mark.parametrize("router", [SOFTMAX, SIGMOID], ids=lambda r: r.kind)


def gates(router: RouterConfig, width: int = 6, experts: int = 8) -> list[Gate]:
    made = [Gate(width, experts, router.kind == "grouped_sigmoid") for _ in range(3)]
    for gate in made:
        if gate.expert_bias is not None:
            gate.expert_bias.normal_(std=0.3)
    return made


def grouped_by_hand(row: Tensor, bias: Tensor, router: RouterConfig) -> dict[int, float]:
    """Expert -> weight of one token, by sorting Python lists."""
    score = row.double().sigmoid()
    choice = (score + bias.double()).tolist()
    size = len(choice) // router.n_group
    groups = [range(g * size, (g + 1) * size) for g in range(router.n_group)]
    best = sorted(groups, key=lambda g: -sum(sorted((choice[e] for e in g), reverse=True)[:2]))
    allowed = [e for group in best[: router.topk_group] for e in group]
    chosen = sorted(allowed, key=lambda e: -choice[e])[: router.top_k]
    total = sum(float(score[e]) for e in chosen)
    return {e: float(score[e]) / total * router.scaling for e in chosen}


def test_softmax_by_hand() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    weights, index = softmax_topk(logits, 2)
    assert index.tolist() == [[1, 3]]
    torch.testing.assert_close(weights, torch.tensor([[4 / 7, 3 / 7]]))
    torch.testing.assert_close(softmax_topk(logits, 2, norm=False)[0], torch.tensor([[0.4, 0.3]]))
    # A single choice keeps its probability: normalised to 1 it would get no gradient.
    torch.testing.assert_close(softmax_topk(logits, 1)[0], torch.tensor([[0.4]]))


@pytest.mark.parametrize(
    ("experts", "n_group", "topk_group", "k"),
    [(8, 4, 2, 3), (8, 4, 1, 2), (8, 1, 1, 3), (8, 4, 4, 5), (6, 6, 3, 2), (256, 8, 4, 8)],
)
def test_grouped_sigmoid_equals_brute_force(
    experts: int, n_group: int, topk_group: int, k: int
) -> None:
    router = RouterConfig("grouped_sigmoid", k, True, n_group, topk_group, 2.5)
    logits, bias = torch.randn(20, experts), torch.randn(experts) * 0.2
    weights, index = grouped_sigmoid_topk(logits, bias, k, n_group, topk_group, 2.5)
    for row, chosen, weight in zip(logits, index.tolist(), weights.tolist()):
        expected = grouped_by_hand(row, bias, router)
        assert dict(zip(chosen, weight)) == pytest.approx(expected, rel=1e-5)
        assert len({e // (experts // n_group) for e in chosen}) <= topk_group
        assert sum(weight) == pytest.approx(2.5, rel=1e-5)


def test_groups_can_exclude_the_best_expert() -> None:
    """Group (0, 1) has the greatest score, groups (2, 3) and (4, 5) the better pairs."""
    logits = torch.tensor([[3.0, -9.0, 1.0, 1.0, 2.0, 0.0]])
    _, index = grouped_sigmoid_topk(logits, torch.zeros(6), 2, 3, 1, 1.0)
    assert sorted(index[0].tolist()) == [2, 3]
    _, index = grouped_sigmoid_topk(logits, torch.zeros(6), 2, 3, 3, 1.0)
    assert sorted(index[0].tolist()) == [0, 4]


def test_the_bias_changes_the_selection_and_not_the_weights() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]], requires_grad=True)
    bias = torch.tensor([0.0, 0.0, 0.0, 0.9])
    weights, index = grouped_sigmoid_topk(logits, bias, 2, 1, 1, 1.0)
    assert index.tolist() == [[3, 0]]
    score = logits.detach().sigmoid()[0, [3, 0]]
    torch.testing.assert_close(weights.detach()[0], score / score.sum())
    # The same selection without a bias has the same weights and the same gradient.
    (gradient,) = torch.autograd.grad(weights[0, 0], logits)
    again = logits[:, [3, 0]].sigmoid()
    (expected,) = torch.autograd.grad((again / again.sum())[0, 0], logits)
    torch.testing.assert_close(gradient, expected)


def test_all_scores_negative_with_the_bias_are_still_ranked() -> None:
    """A kept group of negative choices must win against the excluded groups."""
    logits = torch.randn(50, 8)
    _, index = grouped_sigmoid_topk(logits, torch.full((8,), -5.0), 2, 4, 1, 1.0)
    assert torch.equal(index[:, 0] // 2, index[:, 1] // 2)


@BOTH
def test_each_modality_has_its_own_router(router: RouterConfig) -> None:
    three = gates(router)
    x = torch.randn(30, 6)
    ids = torch.randint(3, (30,))
    mixed = route(x, three, router, ids)
    for modality in (TEXT, IMAGE, AUDIO):
        own = route(x, [three[modality]], router, None)
        rows = ids == modality
        torch.testing.assert_close(mixed.logits[rows], own.logits[rows])
        assert torch.equal(mixed.index[rows], own.index[rows])
        torch.testing.assert_close(mixed.weights[rows], own.weights[rows])
    text = route(x, three, router, None)
    assert torch.equal(text.index, route(x, three[:1], router, None).index)


@BOTH
def test_one_router_ignores_the_modality(router: RouterConfig) -> None:
    x, gate = torch.randn(9, 6), gates(router)[:1]
    ids = torch.randint(3, (9,))
    assert torch.equal(route(x, gate, router, ids).logits, route(x, gate, router, None).logits)


@BOTH
def test_a_router_learns_from_its_own_tokens_only(router: RouterConfig) -> None:
    three = gates(router)
    x = torch.randn(12, 6)
    ids = torch.tensor([TEXT, AUDIO] * 6)
    (route(x, three, router, ids).weights * torch.randn(12, 3)).sum().backward()
    text, image, audio = (gate.weight.grad for gate in three)
    assert text is not None
    assert image is not None  # the same parameters in every step, as distributed training needs
    assert audio is not None
    assert text.abs().max() > 0
    assert image.abs().max() == 0
    assert audio.abs().max() > 0


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_everything_is_float32_whatever_the_model_is(
    router: RouterConfig, dtype: torch.dtype
) -> None:
    three = [gate.to(dtype) for gate in gates(router)]
    x = torch.randn(7, 6, dtype=dtype)
    with torch.autocast("cpu", torch.bfloat16):
        routing = route(x, three, router, torch.randint(3, (7,)))
    assert routing.logits.dtype == routing.weights.dtype == torch.float32
    assert routing.index.dtype == torch.int64
    text = route(x, three[:1], router, None).logits
    torch.testing.assert_close(text, x.float() @ three[0].weight.float().T)


def test_a_bias_survives_casts_and_loading() -> None:
    gate = Gate(6, 8, biased=True)
    bias = torch.randn(8)
    gate.load_state_dict({"weight": torch.randn(8, 6), "expert_bias": bias})
    for cast in (torch.bfloat16, torch.float16, torch.float64, torch.float32):
        gate.to(cast)
        assert gate.weight.dtype == cast
        assert gate.expert_bias is not None
        assert gate.expert_bias.dtype == torch.float32
        assert torch.equal(gate.expert_bias, bias)
    gate.half().to("meta")
    assert gate.expert_bias.device.type == "meta"
    assert Gate(6, 8, biased=False).expert_bias is None


def test_weights_without_normalisation_are_probabilities() -> None:
    plain = replace(SOFTMAX, norm=False)
    gate = gates(plain)[:1]
    routing = route(torch.randn(5, 6), gate, plain, None)
    expected = routing.logits.softmax(dim=-1).gather(-1, routing.index)
    torch.testing.assert_close(routing.weights, expected)
