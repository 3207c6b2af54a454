"""Balancing losses and the bias rule: known values, invariances and their gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ming_core.model.routing import grouped_sigmoid_topk, softmax_topk
from ming_core.training.balance import (
    bias_update,
    expert_counts,
    router_balance_losses,
    router_z_loss,
    sample_balance_loss,
    sequence_balance_loss,
    switch_balance_loss,
)


def random_routing(*shape: int, experts: int = 6, k: int = 2) -> tuple[Tensor, Tensor]:
    logits = torch.randn(*shape, experts, dtype=torch.float64)
    return logits, logits.topk(k, dim=-1).indices


def test_counts_leave_out_padding() -> None:
    index = torch.tensor([[0, 1], [1, 2], [2, 3]])
    keep = torch.tensor([True, True, False])
    assert expert_counts(index, 4, keep).tolist() == [1, 2, 1, 0]


def test_even_use_gives_one_and_collapse_gives_the_number_of_experts() -> None:
    keep = torch.ones(4, dtype=torch.bool)
    index = torch.arange(4).unsqueeze(1)
    assert switch_balance_loss(torch.zeros(4, 4), index, keep).item() == pytest.approx(1)
    collapsed = torch.tensor([40.0, 0, 0, 0]).expand(4, -1)
    zeros = torch.zeros(4, 1, dtype=torch.long)
    assert switch_balance_loss(collapsed, zeros, keep).item() == pytest.approx(4)


def test_even_use_gives_top_k_in_the_ming_form() -> None:
    index = torch.tensor([[0, 1], [2, 3]]).expand(3, -1, -1)
    keep = torch.ones(3, 2, dtype=torch.bool)
    assert sample_balance_loss(torch.zeros(3, 2, 4), index, keep).item() == pytest.approx(2)


@pytest.mark.parametrize("loss", [switch_balance_loss, sequence_balance_loss, sample_balance_loss])
def test_padding_changes_no_loss(loss) -> None:
    logits, index = random_routing(2, 5)
    keep = torch.tensor([[True] * 3 + [False] * 2] * 2)
    expected = loss(logits[:, :3], index[:, :3], keep[:, :3])
    torch.testing.assert_close(loss(logits, index, keep), expected)


def test_per_router_losses_equal_the_loss_of_each_modality_alone() -> None:
    logits, index = random_routing(12)
    modality = torch.tensor([0, 2] * 6)
    keep = torch.ones(12, dtype=torch.bool)
    keep[-1] = False
    losses, tokens = router_balance_losses(logits, index, modality, keep)
    assert tokens.tolist() == [6, 0, 5]
    assert losses[1] == 0
    for router in (0, 2):
        own = keep & (modality == router)
        alone = switch_balance_loss(logits[own], index[own], own[own])
        torch.testing.assert_close(losses[router], alone)


def test_gradient_lowers_the_probability_of_the_crowded_expert() -> None:
    logits = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.tensor([[0], [0], [0], [1]])
    switch_balance_loss(logits, index, torch.ones(4, dtype=torch.bool)).backward()
    assert logits.grad is not None
    crowded, used, idle = logits.grad.sum(0).tolist()
    assert crowded > 0 > idle
    assert idle < used < crowded
    assert crowded + used + idle == pytest.approx(0)


def test_z_loss_of_zero_logits_is_the_squared_log_of_experts() -> None:
    keep = torch.tensor([True, False, True])
    logits = torch.zeros(3, 8)
    logits[1] = 100  # padding
    assert router_z_loss(logits, keep).item() == pytest.approx(torch.tensor(8.0).log().item() ** 2)


def test_sequences_without_tokens_do_not_dilute_the_mean() -> None:
    logits, index = random_routing(2, 4)
    keep = torch.tensor([[True] * 4, [False] * 4])
    alone = sequence_balance_loss(logits[:1], index[:1], keep[:1])
    torch.testing.assert_close(sequence_balance_loss(logits, index, keep), alone)


def test_bias_rises_for_idle_experts_and_stays_without_tokens() -> None:
    counts = torch.tensor([[4, 2, 0], [0, 0, 0]])
    bias = torch.full((2, 3), 0.5)
    updated = bias_update(bias, counts, 0.001)
    torch.testing.assert_close(updated, torch.tensor([[0.499, 0.5, 0.501], [0.5, 0.5, 0.5]]))


def test_bias_rule_is_exact_for_counts_beyond_float32() -> None:
    mean = 2**40
    counts = torch.tensor([mean + 1, mean, mean - 1])
    assert bias_update(torch.zeros(3), counts, 1.0).tolist() == [-1, 0, 1]


def test_zero_mean_steps_keep_the_sum_of_biases() -> None:
    counts = torch.tensor([9, 1, 1, 1])
    plain = bias_update(torch.zeros(4), counts, 0.1)
    centred = bias_update(torch.zeros(4), counts, 0.1, zero_mean=True)
    assert plain.sum().item() == pytest.approx(0.2)
    assert centred.sum().item() == pytest.approx(0, abs=1e-7)
    torch.testing.assert_close(centred - plain, (centred - plain).mean().expand(4))


def test_bias_rule_evens_out_a_skewed_router() -> None:
    logits = torch.randn(256, 8) + torch.linspace(-2, 2, 8)
    keep = torch.ones(256, dtype=torch.bool)
    bias = torch.zeros(8)
    loads = []
    for _ in range(200):
        _, index = grouped_sigmoid_topk(logits, bias, 2, 1, 1, 1.0)
        counts = expert_counts(index, 8, keep)
        loads.append(counts.max().item() / (256 * 2 / 8))
        bias = bias_update(bias, counts, 0.01, zero_mean=True)
    assert loads[0] > 2.5
    assert loads[-1] < 1.3


def test_switch_loss_evens_out_a_skewed_router_by_gradient() -> None:
    logits = torch.randn(256, 8) + torch.linspace(-2, 2, 8)
    shift = torch.zeros(8, requires_grad=True)
    keep = torch.ones(256, dtype=torch.bool)
    optimizer = torch.optim.SGD([shift], lr=1.0)
    losses = []
    for _ in range(60):
        _, index = softmax_topk(logits + shift, 2)
        loss = switch_balance_loss(logits + shift, index, keep)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] > 1.8
    assert losses[-1] < 1.1
