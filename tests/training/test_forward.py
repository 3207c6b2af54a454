"""One forward of packed rows: it computes what single samples do, and no batch lacks a gradient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from ming_core.model.omni import Omni
from ming_core.training.balance import router_balance_losses
from ming_recipes.training import objectives
from ming_recipes.training.batch import Batch
from ming_recipes.training.forward import run
from ming_recipes.training.objectives import Answers, Balance

MIX = ["text", "red color", "video", "sound", "red count", "both", "longer text", "red talk"]
ATOL = 1e-5
RNG = torch.Generator()


def answers(omni: Omni, batch: Batch, present: tuple[str, ...] = ()) -> tuple[Tensor, Tensor]:
    """Total and count of the losses."""
    term = Answers()(omni, run(omni, batch.omni, present=present), batch, RNG)["answers"]
    return term.total, torch.as_tensor(term.count)


def gradients(omni: Omni, loss: Tensor) -> dict[str, Tensor]:
    omni.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in omni.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("shared", [False, True])
def test_packed_rows_equal_single_samples(
    omni: Omni, batch_of: Callable[..., Batch], shared: bool
) -> None:
    """Values and gradients, with pictures, videos and sounds, with and without shared prefixes."""
    packed = batch_of(MIX, shared)
    assert (packed.omni.mask is not None) == shared
    total, count = answers(omni, packed)
    found = gradients(omni, total / count)
    single = [answers(omni, batch_of([name])) for name in MIX]
    apart = torch.stack([t for t, _ in single]).sum() / torch.stack([c for _, c in single]).sum()
    expected = gradients(omni, apart)
    torch.testing.assert_close(total / count, apart, rtol=1e-5, atol=ATOL)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=ATOL)


def test_a_shared_picture_is_encoded_once(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    names = ["red color", "red count", "red talk"]
    apart, shared = batch_of(names, capacity=200), batch_of(names, True, capacity=200)
    assert len(run(omni, apart.omni).encoded["image"]) == 3 * len(
        run(omni, shared.omni).encoded["image"]
    )
    assert shared.tokens < apart.tokens


@pytest.mark.parametrize("names", [["text"], ["text", "sound"], ["video", "text"], ["both"]])
def test_every_weight_gets_a_gradient_in_any_mix(
    omni: Omni, batch_of: Callable[..., Batch], names: list[str]
) -> None:
    batch = batch_of(names)
    total, _ = answers(omni, batch, present=("image", "audio"))
    found = gradients(omni, total)
    assert found.keys() == dict(omni.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())
    alone, _ = answers(omni, batch)
    torch.testing.assert_close(total, alone, rtol=0, atol=0)


def test_a_frozen_encoder_keeps_nothing_for_a_gradient(
    omni: Omni, batch_of: Callable[..., Batch]
) -> None:
    omni.encoders["image"].requires_grad_(False)
    forward = run(omni, batch_of(["both"]).omni, present=("audio",))
    assert not forward.encoded["image"].requires_grad
    assert forward.encoded["audio"].requires_grad


def test_encoders_alone(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    """keep=None runs no backbone, and submodules can be watched."""
    omni.backbone.layers[0].register_forward_pre_hook(lambda *_: pytest.fail("the backbone ran"))
    watch = ["encoders.image.vision", "encoders.audio.audio"]
    forward = run(omni, batch_of(["red color"]).omni, None, present=("image", "audio"), watch=watch)
    assert forward.hidden is None
    assert list(forward.states) == watch[:1]  # nothing of the batch is heard
    found = gradients(omni, forward.encoded["image"].square().sum())
    assert {name.split(".")[1] for name in found} == {"image", "audio"}


def test_kept_layers(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    forward = run(omni, batch_of(["text"]).omni, (1, "last"))
    assert set(forward.kept) == {1, "last"}
    assert forward.hidden is forward.kept["last"]


def test_answers_of_each_data_set(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    batch = batch_of(MIX)
    terms = Answers()(omni, run(omni, batch.omni), batch, RNG)
    parts = {name: term for name, term in terms.items() if "/" in name}
    assert set(parts) == {
        f"answers/{n}" for n in ("text", "longer", "red", "video", "sound", "both")
    }
    total = sum(float(term.total) for term in parts.values())
    assert total == pytest.approx(float(terms["answers"].total.detach()), rel=1e-5)
    alone = batch_of(["sound"])
    term = Answers()(omni, run(omni, alone.omni), alone, RNG)["answers"]
    assert float(parts["answers/sound"].total) == pytest.approx(
        float(term.total.detach()), rel=1e-4
    )


def test_a_batch_without_targets_has_a_gradient_of_zero(
    omni: Omni, batch_of: Callable[..., Batch]
) -> None:
    batch = batch_of(["text"])
    batch.labels.fill_(-100)
    total, count = answers(omni, batch)
    assert (float(total.detach()), float(count)) == (0.0, 0.0)
    assert all(not gradient.any() for gradient in gradients(omni, total).values())


def test_balance_of_a_softmax_router_is_the_switch_form(
    omni: Omni, batch_of: Callable[..., Batch]
) -> None:
    """Of each modality over its own tokens; padding counts nowhere."""
    batch = batch_of(MIX)
    backbone = omni.backbone
    softmax = replace(backbone.config.router, kind="softmax")
    backbone.config = replace(backbone.config, router=softmax)
    for mixture in backbone.mixtures:
        mixture.router = softmax
    assert batch.omni.segment_ids is not None
    keep, modality = (batch.omni.segment_ids >= 0).flatten(), batch.omni.modality_ids.flatten()
    by_hand = []
    for routed in run(omni, batch.omni).routing:
        losses, tokens = router_balance_losses(routed.logits, routed.index, modality, keep)
        by_hand.append(losses[tokens > 0].mean())
    expected = torch.stack(by_hand).mean()
    term = Balance()(omni, run(omni, batch.omni), batch, RNG)["balance"]
    torch.testing.assert_close(term.total / term.count, expected)
    wanted = gradients(omni, expected)
    for name, gradient in gradients(omni, term.total / term.count).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6)


def test_the_bias_rule_counts_all_micro_batches(omni: Omni, batch_of: Callable[..., Batch]) -> None:
    """Two batches before a step move the biases as one batch with both; padding counts nowhere."""
    whole, halves = batch_of(MIX), [batch_of(MIX[:4]), batch_of(MIX[4:])]
    biases = [gate.expert_bias for m in omni.backbone.mixtures for gate in m.gates]
    found = []
    for batches in ([whole], halves):
        for bias in biases:
            assert bias is not None
            bias.zero_()
        balance = Balance(rate=0.5)
        for batch in batches:
            balance(omni, run(omni, batch.omni), batch, RNG)
        balance.after_step(omni, lambda value: value)
        found.append(torch.stack([bias for bias in biases if bias is not None]))
    one, other = found
    assert torch.equal(one, other)
    assert one.any(dim=-1).all()


def test_a_loss_in_pieces_is_the_whole_loss(
    omni: Omni, batch_of: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logits of a large vocabulary are never held all at once."""
    batch = batch_of(MIX)
    total, _ = answers(omni, batch)
    expected = gradients(omni, total)
    rows: list[int] = []
    omni.backbone.lm_head.register_forward_hook(lambda m, i, out: rows.append(len(out)))
    monkeypatch.setattr(objectives, "LOGITS", 7 * omni.backbone.config.vocab_size)
    again, _ = answers(omni, batch)
    assert max(rows) == 7
    torch.testing.assert_close(again, total, rtol=1e-6, atol=0)
    for name, gradient in gradients(omni, again).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6)
