"""Next-token loss: the shift, ignored labels, both reductions, precision."""

from __future__ import annotations

import torch
from torch.nn.functional import cross_entropy

from ming_core.training.labels import IGNORED
from ming_core.training.losses import next_token_loss, token_losses


def case() -> tuple[torch.Tensor, torch.Tensor]:
    logits = torch.randn(2, 5, 7, dtype=torch.float64)
    labels = torch.randint(0, 7, (2, 5))
    labels[0, 2] = labels[1, 3] = labels[1, 4] = IGNORED
    return logits, labels


def test_token_mean_equals_cross_entropy_of_the_shifted_labels() -> None:
    logits, labels = case()
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(next_token_loss(logits, labels), expected)


def test_the_first_label_is_never_predicted() -> None:
    logits, labels = case()
    other = labels.clone()
    other[:, 0] = 0
    assert next_token_loss(logits, labels) == next_token_loss(logits, other)


def test_token_losses_are_zero_at_ignored_labels() -> None:
    logits, labels = case()
    losses = token_losses(logits, labels)
    assert losses.shape == (2, 4)
    assert torch.equal(losses == 0, labels[:, 1:] == IGNORED)
    torch.testing.assert_close(losses[0, 0], -logits[0, 0].log_softmax(-1)[labels[0, 1]])


def test_sequence_mean_gives_rows_and_segments_equal_weight() -> None:
    logits, labels = case()
    rows = torch.stack([next_token_loss(logits[i : i + 1], labels[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(next_token_loss(logits, labels, "sequence"), rows.mean())

    segments = torch.tensor([[0, 0, 1, 1, 1], [0, 0, 0, -1, -1]])
    labels[0, 2] = IGNORED  # the first token of segment 1
    parts = (token_losses(logits, labels)[0, :1], token_losses(logits, labels)[0, 2:])
    last = next_token_loss(logits[1:], labels[1:])
    expected = torch.stack((parts[0].mean(), parts[1].mean(), last)).mean()
    actual = next_token_loss(logits, labels, "sequence", segments)
    torch.testing.assert_close(actual, expected)


def test_no_labels_give_zero_loss_and_zero_gradient() -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    for reduction in ("token", "sequence"):
        loss = next_token_loss(logits, torch.full((1, 3), IGNORED), reduction)
        loss.backward()
        assert loss.item() == 0
        assert logits.grad is not None
        assert logits.grad.abs().max() == 0


def test_half_precision_logits_are_raised_to_float32() -> None:
    logits, labels = case()
    half = logits.bfloat16()
    loss = next_token_loss(half, labels)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, next_token_loss(half.float(), labels), rtol=0, atol=0)
