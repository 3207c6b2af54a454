"""Packing: the plan, the packed tensors, and that packed rows compute what single samples do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ming_core.errors import BadConfig
from ming_core.model.kernels.attention import SPANS_FROM
from ming_core.model.masks import prefix_segment_mask, segment_mask
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_core.training.labels import IGNORED
from ming_core.training.losses import next_token_loss, token_losses
from ming_core.training.packing import Packed, Placement, Sample, pack, plan_packing, plan_samples

VOCAB = 40
ATOL = 1e-5  # float32 inside routers, norms and rotary tables; a leak between samples is > 1e-2


def backbone(kind: str) -> Backbone:
    """A random two-layer backbone in float64 with three routers: Lite 1.5 or Flash in small."""
    config = {
        "vocab_size": VOCAB,
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1e4,
        "num_experts": 8,
        "num_experts_per_tok": 3,
        "num_shared_experts": 1,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    }
    if kind == "flash":
        config |= {
            "model_type": "bailing_moe_v2",
            "rope_scaling": {"type": "video_rope"},
            "n_group": 4,
            "topk_group": 2,
            "router_type": "MultiRouter",
        }
    else:
        config |= {
            "model_type": "bailing_moe",
            "rope_scaling": {"type": "3D"},
            "multi_gate": True,
        }
    return Backbone(backbone_of({"llm_config": config})).double()


def sample(length: int, start: int = 0) -> Sample:
    """Random tokens whose positions differ on every axis, as those of images do."""
    ids = torch.randint(1, VOCAB, (length,))
    steps = torch.arange(start, start + length)
    positions = torch.stack((steps, steps // 2, steps % 3))
    return Sample(ids, ids.clone(), positions, torch.randint(0, 3, (length,)))


def concatenate(first: Sample, second: Sample) -> Sample:
    return Sample(
        torch.cat((first.input_ids, second.input_ids)),
        torch.cat((first.labels, second.labels)),
        torch.cat((first.position_ids, second.position_ids), dim=1),
        torch.cat((first.modality_ids, second.modality_ids)),
    )


def run_alone(model: Backbone, one: Sample) -> Tensor:
    out = model(
        model.embed(one.input_ids[None]),
        one.position_ids[:, None],
        modality_ids=one.modality_ids[None],
    )
    return out.hidden[0]


def run_packed(model: Backbone, packed: Packed, mask: Tensor | None = None) -> Tensor:
    out = model(
        model.embed(packed.input_ids),
        packed.position_ids,
        modality_ids=packed.modality_ids,
        segment_ids=packed.segment_ids if mask is None else None,
        mask=mask,
    )
    return out.hidden


def gradients(model: Backbone, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_plan_is_first_fit_decreasing() -> None:
    assert plan_packing([5, 3, 7, 2, 9], 12) == [(1, 0), (0, 0), (1, 5), (2, 0), (0, 3)]


def test_plan_refuses_a_sample_longer_than_a_row() -> None:
    with pytest.raises(BadConfig, match="sample 1 has 9 tokens and a packed row holds 8"):
        plan_packing([4, 9], 8)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=40))
def test_plan_fills_rows_without_gaps_or_overlap(lengths: list[int]) -> None:
    used: dict[int, list[tuple[int, int]]] = {}
    for length, (row, offset) in zip(lengths, plan_packing(lengths, 20)):
        used.setdefault(row, []).append((offset, offset + length))
    for spans in used.values():
        spans.sort()
        assert [start for start, _ in spans] == [0, *(end for _, end in spans[:-1])]
        assert spans[-1][1] <= 20
    # First fit leaves at most one row half empty.
    assert sum(spans[-1][1] <= 10 for spans in used.values()) <= 1


def test_pack_copies_every_field_to_its_place() -> None:
    samples = [sample(4), sample(3), sample(5)]
    packed = pack(samples, plan_packing([4, 3, 5], 8), 8, pad_id=39)

    assert packed.segment_ids.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1], [0, 0, 0, 0, -1, -1, -1, -1]]
    assert packed.cu_seqlens.tolist() == [[0, 3, 8], [0, 4, -1]]
    assert packed.cu_seqlens.dtype == torch.int32
    assert packed.max_seqlen == 5
    assert packed.input_ids[1].tolist() == [*samples[0].input_ids.tolist(), 39, 39, 39, 39]
    assert packed.labels[0].tolist() == [
        IGNORED,
        *samples[1].labels[1:].tolist(),
        IGNORED,
        *samples[2].labels[1:].tolist(),
    ]
    assert torch.equal(packed.position_ids[:, 0, 3:], samples[2].position_ids)
    assert torch.equal(packed.modality_ids[0, :3], samples[1].modality_ids)


@pytest.mark.parametrize("kind", ["lite", "flash"])
def test_packed_values_and_gradients_equal_unpacked(kind: str) -> None:
    model = backbone(kind)
    lengths = [7, 4, 9, 1, 6]
    samples = [sample(n) for n in lengths]
    plan = plan_packing(lengths, 16)
    packed = pack(samples, plan, 16)

    hidden = run_packed(model, packed)
    alone = [run_alone(model, one) for one in samples]
    for (row, offset), length, expected in zip(plan, lengths, alone):
        torch.testing.assert_close(
            hidden[row, offset : offset + length], expected, rtol=0, atol=ATOL
        )

    together = next_token_loss(model.lm_head(hidden), packed.labels)
    sums = [
        token_losses(model.lm_head(h)[None], one.labels[None]).sum()
        for h, one in zip(alone, samples)
    ]
    separate = torch.stack(sums).sum() / (sum(lengths) - len(lengths))
    torch.testing.assert_close(together, separate)
    expected_gradients = gradients(model, separate)
    actual_gradients = gradients(model, together)
    assert actual_gradients.keys() == expected_gradients.keys()
    for name, gradient in actual_gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], rtol=0, atol=ATOL)


@pytest.mark.parametrize("kind", ["lite", "flash"])
def test_long_rows_attend_segment_by_segment(kind: str) -> None:
    """Rows beyond SPANS_FROM: values and gradients as with a mask, padding included in neither."""
    model = backbone(kind)
    lengths = [150, 1, 90, 200, 20]
    packed = pack([sample(n) for n in lengths], plan_packing(lengths, SPANS_FROM), SPANS_FROM)
    mask, found = segment_mask(packed.segment_ids), []
    for by in (None, mask):
        hidden = run_packed(model, packed, by)
        assert hidden.isfinite().all()
        loss = next_token_loss(model.lm_head(hidden), packed.labels)
        found.append((hidden[packed.segment_ids >= 0], gradients(model, loss)))
    (values, slopes), (expected, other) = found
    torch.testing.assert_close(values, expected, rtol=0, atol=ATOL)
    for name, gradient in slopes.items():
        torch.testing.assert_close(gradient, other[name], rtol=0, atol=ATOL)


def test_explicit_segment_mask_equals_segment_ids() -> None:
    model = backbone("flash")
    packed = pack([sample(5), sample(6)], plan_packing([5, 6], 13), 13)
    valid = packed.segment_ids >= 0
    by_mask = run_packed(model, packed, segment_mask(packed.segment_ids))
    assert torch.equal(run_packed(model, packed)[valid], by_mask[valid])


def test_segment_mask_by_hand() -> None:
    mask = segment_mask(torch.tensor([[0, 0, 1, -1]]))[0, 0]
    assert mask.int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]


def test_prefix_segment_mask_by_hand() -> None:
    mask = prefix_segment_mask(torch.tensor([[0, 0, 1, 2, 2, -1]]))[0, 0]
    assert mask.int().tolist() == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [1, 1, 0, 1, 0, 0],
        [1, 1, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 0],
    ]


@pytest.mark.parametrize("kind", ["lite", "flash"])
def test_questions_behind_a_shared_prefix_equal_separate_runs(kind: str) -> None:
    model = backbone(kind)
    prefix = sample(6)
    questions = [sample(n, start=6) for n in (4, 3, 5)]  # positions go on after the prefix
    offsets = [6, 10, 13]
    placements = [Placement(0, n) for n in (0, *offsets)]
    packed = pack([prefix, *questions], placements, 20)

    hidden = run_packed(model, packed, prefix_segment_mask(packed.segment_ids))
    for question, offset in zip(questions, offsets):
        alone = run_alone(model, concatenate(prefix, question))
        length = len(question.input_ids)
        torch.testing.assert_close(hidden[0, :6], alone[:6], rtol=0, atol=ATOL)
        torch.testing.assert_close(
            hidden[0, offset : offset + length], alone[6:], rtol=0, atol=ATOL
        )


def shared(prefix: Sample, tails: list[Sample], group: int) -> list[Sample]:
    """Samples that go on from one prefix, which holds no target."""
    whole = [concatenate(prefix, tail) for tail in tails]
    for one in whole:
        one.labels[: len(prefix) + 1] = IGNORED
    weights = [torch.rand(len(one)) for one in whole]
    return [
        replace(one, prefix=len(prefix), group=group, weights=weight)
        for one, weight in zip(whole, weights)
    ]


@pytest.mark.parametrize("kind", ["lite", "flash"])
def test_shared_prefixes_beside_other_samples_equal_separate_runs(kind: str) -> None:
    """Two groups and a sample of its own in one row: values, targets, weights and gradients."""
    model = backbone(kind)
    samples = [
        *shared(sample(6), [sample(n, start=6) for n in (4, 3)], 0),
        sample(5),
        *shared(sample(4), [sample(n, start=4) for n in (3, 2, 5)], 1),
    ]
    placements = plan_samples(samples, 40)
    packed = pack(samples, placements, 40)
    assert {row for row, _ in placements} == {0}
    # Each prefix is stored once: 6 + 4 + 3, 5, and 4 + 3 + 2 + 5.
    assert int((packed.segment_ids >= 0).sum()) == 32
    assert packed.mask is not None

    hidden = run_packed(model, packed, packed.mask)
    losses = token_losses(model.lm_head(hidden), packed.labels) * packed.weights[:, 1:]
    together = losses.sum() / packed.weights.sum()
    separate, total = [], 0.0
    for number, one in enumerate(samples):
        alone = run_alone(model, one)
        own = packed.sample_ids[0] == number
        torch.testing.assert_close(hidden[0, own], alone[-int(own.sum()) :], rtol=0, atol=ATOL)
        weights = torch.ones(len(one)) if one.weights is None else one.weights
        lost = token_losses(model.lm_head(alone)[None], one.labels[None])[0] * weights[1:]
        separate.append(lost.sum())
        total += float(weights[1:][one.labels[1:] != IGNORED].sum())
    apart = torch.stack(separate).sum() / total
    torch.testing.assert_close(together, apart, rtol=0, atol=ATOL)
    expected, found = gradients(model, apart), gradients(model, together)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=ATOL)


def test_a_group_of_one_is_an_ordinary_sample() -> None:
    alone = shared(sample(4), [sample(3)], 0)
    packed = pack(alone, plan_samples(alone, 9), 9)
    assert packed.mask is None
    assert packed.segment_ids.tolist() == [[0] * 7 + [-1] * 2]


def test_a_group_in_two_rows_has_its_prefix_in_both() -> None:
    samples = shared(sample(4), [sample(3), sample(3), sample(2)], 0)
    packed = pack(samples, [Placement(0, 0), Placement(0, 7), Placement(1, 0)], 10)
    assert packed.segment_ids.tolist() == [[0] * 4 + [1] * 3 + [2] * 3, [0] * 6 + [-1] * 4]
    assert packed.order == [0, 1, 2]
    assert torch.equal(packed.input_ids[1, :6], samples[2].input_ids)


def test_a_shared_prefix_has_no_target() -> None:
    samples = shared(sample(4), [sample(3), sample(3)], 0)
    samples[1].labels[4] = 1
    with pytest.raises(ValueError, match="sample 1 has targets among its first 5 tokens"):
        pack(samples, plan_samples(samples, 12), 12)
