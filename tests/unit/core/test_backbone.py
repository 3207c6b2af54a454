"""The decoder of every generation: cached, padded, cast and trained, it computes the same model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import pytest
import torch
from torch import Tensor

from ming_core.modalities import AUDIO, IMAGE, TEXT
from ming_core.model.cache import Cache
from ming_core.model.config import RopeConfig
from ming_core.model.kernels.attention import PLAIN_UP_TO, attend, plain_attention
from ming_core.model.moe import ModalityMoE
from ming_core.model.rotary import Rotary, frequency_axes, rotate
from ming_core.model.transformer import Backbone
from ming_core.release import backbone_of
from ming_core.training.losses import next_token_loss

Make = Callable[[dict[str, Any]], Backbone]
TinyLlm = Callable[[str], dict[str, Any]]
ATOL = 2e-5  # float32 sums in another order; another mask or position moves values by > 1e-2
CHUNKS = [(1,) * 13, (13,), (7, 6), (5, 1, 1, 4, 2)]


@dataclass
class Tokens:
    """Input of one row: ids [T], positions [3, T] that differ by axis, modality [T]."""

    ids: Tensor
    positions: Tensor
    modality: Tensor

    def __len__(self) -> int:
        return len(self.ids)


def random_tokens(length: int, vocab: int = 48) -> Tokens:
    steps = torch.arange(length)
    positions = torch.stack((steps, steps // 2 - 3, steps % 4))  # may be negative, as in Flash
    modality = torch.tensor([TEXT, IMAGE, AUDIO, IMAGE, TEXT])[steps % 5]
    return Tokens(torch.randint(vocab, (length,)), positions, modality)


def run(backbone: Backbone, tokens: Tokens) -> Tensor:
    """Hidden states [T, D] of one row alone."""
    return run_part(backbone, tokens, 0, len(tokens), None)


def run_part(
    backbone: Backbone, tokens: Tokens, start: int, end: int, cache: Cache | None
) -> Tensor:
    out = backbone(
        backbone.embed(tokens.ids[None, start:end]),
        tokens.positions[:, None, start:end],
        modality_ids=tokens.modality[None, start:end],
        cache=cache,
    )
    return out.hidden[0]


def padded(rows: list[Tokens], side: str) -> dict[str, Tensor]:
    """The rows as one batch, padded to a common length with junk that must not matter."""
    length = max(map(len, rows))
    batch = {
        "ids": torch.randint(48, (len(rows), length)),
        "position_ids": torch.randint(50, (3, len(rows), length)),
        "modality_ids": torch.randint(3, (len(rows), length)),
        "segment_ids": torch.full((len(rows), length), -1),
    }
    for i, row in enumerate(rows):
        place = slice(length - len(row), None) if side == "left" else slice(len(row))
        batch["ids"][i, place] = row.ids
        batch["position_ids"][:, i, place] = row.positions
        batch["modality_ids"][i, place] = row.modality
        batch["segment_ids"][i, place] = 0
    return batch


def close(actual: Tensor, expected: Tensor, atol: float = ATOL) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@torch.no_grad()
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_cached_equals_uncached(backbone: Backbone, chunks: tuple[int, ...]) -> None:
    tokens = random_tokens(sum(chunks))
    cache, parts, start = Cache(), [], 0
    for size in chunks:
        parts.append(run_part(backbone, tokens, start, start + size, cache))
        start += size
        assert cache.length == start
    close(torch.cat(parts), run(backbone, tokens))


@torch.no_grad()
def test_a_cropped_cache_continues_with_other_tokens(backbone: Backbone) -> None:
    first, second = random_tokens(9), random_tokens(12)
    second.ids[:5] = first.ids[:5]
    cache = Cache()
    run_part(backbone, first, 0, 9, cache)
    cache.crop(5)
    close(run_part(backbone, second, 5, 12, cache), run(backbone, second)[5:])


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_each_row_alone(backbone: Backbone, side: str) -> None:
    rows = [random_tokens(n) for n in (11, 4, 1, 8)]
    rows[1].modality.fill_(TEXT)
    rows[3].modality.fill_(AUDIO)
    batch = padded(rows, side)
    out = backbone(backbone.embed(batch.pop("ids")), **batch)
    assert out.hidden.isfinite().all()
    for i, row in enumerate(rows):
        close(out.hidden[i][batch["segment_ids"][i] == 0], run(backbone, row))


@torch.no_grad()
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("sizes", [(1, 1, 1), (3,), (2, 1)], ids=str)
def test_a_padded_cache_continues_every_row(
    backbone: Backbone, side: str, sizes: tuple[int, ...]
) -> None:
    rows = [random_tokens(n + 3) for n in (8, 3, 6)]
    heads = [Tokens(r.ids[:-3], r.positions[:, :-3], r.modality[:-3]) for r in rows]
    batch, cache = padded(heads, side), Cache()
    backbone(backbone.embed(batch.pop("ids")), **batch, cache=cache)
    parts = []
    for end, size in zip(accumulate(sizes), sizes):
        place = slice(end - size - 3, (end - 3) or None)
        out = backbone(
            backbone.embed(torch.stack([r.ids[place] for r in rows])),
            torch.stack([r.positions[:, place] for r in rows], dim=1),
            modality_ids=torch.stack([r.modality[place] for r in rows]),
            cache=cache,
        )
        parts.append(out.hidden)
    for hidden, row in zip(torch.cat(parts, dim=1), rows):
        close(hidden, run(backbone, row)[-3:])


@torch.no_grad()
def test_a_later_token_changes_nothing_before_it(backbone: Backbone) -> None:
    tokens = random_tokens(10)
    before = run(backbone, tokens)
    tokens.ids[7] = (tokens.ids[7] + 1) % 48
    after = run(backbone, tokens)
    close(after[:7], before[:7])
    assert (after[7:] - before[7:]).abs().amax(dim=1).min() > 1e-2


@torch.no_grad()
def test_only_the_distance_of_positions_matters(backbone: Backbone) -> None:
    tokens = random_tokens(10)
    expected = run(backbone, tokens)
    tokens.positions += torch.tensor([[5], [11], [2]])
    close(run(backbone, tokens), expected)
    tokens.positions[:, 6:] += 1
    assert (run(backbone, tokens)[6:] - expected[6:]).abs().max() > 1e-2


@torch.no_grad()
def test_which_axes_of_the_positions_matter(backbone: Backbone) -> None:
    tokens = random_tokens(10)
    expected = run(backbone, tokens)
    for axis in range(3):
        moved = Tokens(tokens.ids, tokens.positions.clone(), tokens.modality)
        moved.positions[axis, 5:] += 2
        change = (run(backbone, moved) - expected).abs().max()
        if axis == 0 or backbone.config.rope.kind != "1d":
            assert change > 1e-2
        else:
            assert change == 0


@torch.no_grad()
def test_positions_of_text_may_be_given_once(backbone: Backbone) -> None:
    embeds = backbone.embed(torch.randint(48, (2, 6)))
    positions = torch.arange(6).expand(2, -1)
    once = backbone(embeds, positions).hidden
    assert torch.equal(once, backbone(embeds, positions.expand(3, -1, -1)).hidden)


@torch.no_grad()
def test_ids_outside_the_vocabulary_are_clipped(backbone: Backbone) -> None:
    rows = backbone.embed(torch.tensor([-1, 48, 99]))
    weight = backbone.word_embeddings.weight
    assert torch.equal(rows, weight[[0, 47, 47]])


def test_routing_is_reported_for_mixture_layers_only(backbone: Backbone) -> None:
    out = backbone(torch.randn(2, 5, 32), torch.arange(5).expand(2, -1))
    assert len(out.routing) == 2
    assert backbone.config.num_hidden_layers - 2 == backbone.config.first_k_dense_replace
    for routing in out.routing:
        assert routing.logits.shape == (10, 8)
        assert routing.index.shape == routing.weights.shape == (10, 3)


def test_gradients_reach_every_parameter_and_every_expert(backbone: Backbone) -> None:
    backbone.train()
    rows = [random_tokens(140), random_tokens(133)]
    rows[0].ids[:48] = torch.arange(48)
    batch = padded(rows, "right")
    labels = batch["ids"].masked_fill(batch["segment_ids"] < 0, -100)
    out = backbone(backbone.embed(batch.pop("ids")), **batch)
    next_token_loss(backbone.lm_head(out.hidden), labels).backward()

    used = [torch.bincount(r.index.flatten(), minlength=8) for r in out.routing]
    assert min(int(count.min()) for count in used) > 0
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # Each one of stacked experts, each row of a matrix, so each expert's row of a router.
        by_row = parameter.grad.flatten(1) if parameter.dim() > 1 else parameter.grad[None]
        assert by_row.abs().amax(dim=1).min() > 0, name


def test_expert_biases_get_no_gradient(make_backbone: Make, tiny_llm: TinyLlm) -> None:
    backbone = make_backbone(tiny_llm("flash"))
    biases = [name for name, _ in backbone.named_buffers()]
    assert len(biases) == 6
    assert all(name.endswith("expert_bias") for name in biases)
    assert not any("expert_bias" in name for name, _ in backbone.named_parameters())


def test_a_model_that_has_generated_can_be_trained(backbone: Backbone) -> None:
    tokens = random_tokens(6)
    with torch.inference_mode():
        expected = run(backbone, tokens)  # fills the table of frequencies
    hidden = run(backbone, tokens)
    hidden.square().sum().backward()
    close(hidden.detach(), expected.clone())
    assert all(p.grad is not None for p in backbone.layers[0].parameters())


@torch.no_grad()
def test_bfloat16_is_close_and_keeps_its_float32_islands(backbone: Backbone) -> None:
    tokens = random_tokens(24)
    expected = run(backbone, tokens)
    biases = {name: bias.clone() for name, bias in backbone.named_buffers()}
    backbone.to(torch.bfloat16)

    for name, bias in backbone.named_buffers():
        assert bias.dtype == torch.float32
        assert torch.equal(bias, biases[name])
    assert {p.dtype for p in backbone.parameters()} == {torch.bfloat16}
    cos, sin = backbone.rotary(tokens.positions[:, None])
    assert cos.dtype == sin.dtype == torch.float32
    actual = run(backbone, tokens)
    assert actual.dtype == torch.bfloat16
    # A rounded router may send a token elsewhere, so the whole is compared and not each token.
    error = (actual.float() - expected).norm() / expected.norm()
    assert error < 0.15
    layers = [layer.mlp for layer in backbone.layers if isinstance(layer.mlp, ModalityMoE)]
    routing = layers[0](torch.randn(1, 4, 32, dtype=torch.bfloat16), None)[1]
    assert routing.logits.dtype == routing.weights.dtype == torch.float32


@torch.no_grad()
def test_the_softmax_and_norm_islands_survive_large_values(backbone: Backbone) -> None:
    backbone.to(torch.bfloat16)
    embeds = backbone.embed(torch.randint(48, (1, 8))) * 1e4
    assert backbone(embeds, torch.arange(8)[None]).hidden.isfinite().all()


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_both_attention_paths_agree(causal: bool, kv_heads: int) -> None:
    q, k, v = (torch.randn(2, heads, 6, 8) for heads in (4, kv_heads, kv_heads))
    mask = None if causal else torch.rand(2, 1, 6, 6) < 0.6
    if mask is not None:
        mask |= torch.eye(6, dtype=torch.bool)
    with torch.no_grad():
        fused = attend(q, k, v, mask, causal)
    plain = attend(q.requires_grad_(), k, v, mask, causal)
    close(plain.detach(), fused, atol=1e-6)


def test_long_rows_train_like_short_ones() -> None:
    """Beyond PLAIN_UP_TO keys attention is fused in training too."""
    length = PLAIN_UP_TO[torch.float32] + 1
    q, k, v = (torch.randn(1, 2, length, 4, requires_grad=True) for _ in range(3))
    visible = torch.ones(length, length, dtype=torch.bool).tril()
    results = [attend(q, k, v, None, causal=True), plain_attention(q, k, v, visible)]
    for actual, expected in zip(
        *(torch.autograd.grad(y.square().sum(), (q, k, v)) for y in results)
    ):
        close(actual, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_query_that_sees_nothing_yields_finite_values_and_gradients(dtype: torch.dtype) -> None:
    q, k, v = (torch.randn(1, 2, 4, 8, dtype=dtype) for _ in range(3))
    mask = torch.ones(1, 1, 4, 4, dtype=torch.bool).tril()
    mask[..., 2, :] = False
    with torch.no_grad():
        assert attend(q, k, v, mask, False).isfinite().all()
    sources = [x.requires_grad_() for x in (q, k, v)]
    gradients = torch.autograd.grad(attend(q, k, v, mask, False).square().sum(), sources)
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize(
    ("kind", "width", "axes"),
    [
        ("1d", 128, [0] * 64),
        ("mrope", 128, [0] * 16 + [1] * 24 + [2] * 24),
        ("video_rope", 64, [1, 2] * 12 + [0] * 8),
    ],
)
def test_the_axis_of_each_frequency(kind: Any, width: int, axes: list[int]) -> None:
    assert frequency_axes(RopeConfig(kind, 1e4, width)) == axes


def test_rotation_by_hand() -> None:
    rotary = Rotary(RopeConfig("1d", 100.0, 4))  # frequencies 1 and 0.1
    cos, sin = rotary(torch.full((3, 1, 1), 2))
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).view(1, 1, 1, 6)
    angle = torch.tensor([2.0, 0.2])
    first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
    expected = torch.cat(
        (
            first * angle.cos() - second * angle.sin(),
            second * angle.cos() + first * angle.sin(),
            torch.tensor([5.0, 6.0]),
        )
    )
    close(rotate(x, cos, sin).flatten(), expected, atol=1e-6)


def test_positions_far_along_are_rotated_in_float32(tiny_llm: TinyLlm) -> None:
    """A bfloat16 position 30001 would be 29952: half precision must not touch the angles."""
    config = backbone_of({"llm_config": tiny_llm("lite-1.0")})
    cos, sin = Rotary(config.rope)(torch.tensor([30001, 30002]).expand(3, 1, -1))
    x = torch.randn(1, 1, 1, 16, dtype=torch.bfloat16).expand(-1, -1, 2, -1)
    turned = rotate(x, cos, sin)
    assert turned.dtype == torch.bfloat16
    assert (turned[0, 0, 0] - turned[0, 0, 1]).abs().max() > 0.1


def parts_of(
    backbone: Backbone, tokens: Tokens, chunks: tuple[int, ...], device: torch.device
) -> Tensor:
    """Hidden states [T, D] of one row in chunks, computed on a device with a cache."""
    there = Tokens(*(x.to(device) for x in (tokens.ids, tokens.positions, tokens.modality)))
    cache, ends = Cache(), list(accumulate(chunks))
    spans = zip([0, *ends], ends)
    return torch.cat([run_part(backbone, there, *span, cache) for span in spans])


@pytest.mark.gpu
def test_a_gpu_computes_the_same_values_and_gradients(
    backbone: Backbone, gpu: torch.device
) -> None:
    tokens, chunks = random_tokens(13), (7, 1, 1, 4)
    with torch.no_grad():
        expected = parts_of(backbone, tokens, chunks, torch.device("cpu"))
    ids = tokens.ids[None]
    next_token_loss(backbone.lm_head(run(backbone, tokens)[None]), ids).backward()
    wanted = {k: p.grad for k, p in backbone.named_parameters() if p.grad is not None}
    backbone.zero_grad()

    backbone.to(gpu)
    with torch.no_grad():
        close(parts_of(backbone, tokens, chunks, gpu).cpu(), expected, 1e-4)
    there = Tokens(*(x.to(gpu) for x in (tokens.ids, tokens.positions, tokens.modality)))
    next_token_loss(backbone.lm_head(run(backbone, there)[None]), ids.to(gpu)).backward()
    found = {k: p.grad for k, p in backbone.named_parameters() if p.grad is not None}
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        assert gradient is not None
        torch.testing.assert_close(gradient.cpu(), wanted[name], rtol=1e-3, atol=1e-5)


@pytest.mark.gpu
@torch.no_grad()
def test_half_precision_on_a_gpu(backbone: Backbone, gpu: torch.device) -> None:
    tokens, chunks = random_tokens(13), (7, 1, 1, 4)
    expected = parts_of(backbone, tokens, chunks, torch.device("cpu"))
    backbone.to(gpu, torch.bfloat16)
    biases = [value for name, value in backbone.named_buffers() if name.endswith("expert_bias")]
    assert all((b.dtype, b.device.type) == (torch.float32, gpu.type) for b in biases)
    half = parts_of(backbone, tokens, chunks, gpu)
    assert half.dtype == torch.bfloat16
    # A token whose experts are nearly tied may take another one; most do not.
    alike = torch.cosine_similarity(half.float().cpu(), expected)
    assert alike.median() > 0.99


@pytest.mark.gpu
@torch.inference_mode()
def test_a_step_on_a_gpu_never_waits_for_the_host(backbone: Backbone, gpu: torch.device) -> None:
    tokens = random_tokens(9)
    backbone.to(gpu, torch.bfloat16)
    there = Tokens(*(x.to(gpu) for x in (tokens.ids, tokens.positions, tokens.modality)))
    cache = Cache()
    run_part(backbone, there, 0, 4, cache)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for start, end in ((4, 7), (7, 8), (8, 9)):
            backbone.lm_head(run_part(backbone, there, start, end, cache)).argmax(dim=-1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
