"""One adapter body for the three backbone components: their cases differ in inputs only."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from ming_core.checkpoints.keymap import backbone_slots
from ming_core.engine.sampling import Sampling
from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.cache import Cache
from ming_core.model.omni import OmniBatch
from ming_core.model.positions import PositionRule, rope_index
from ming_core.model.routing import Routing
from ming_core.model.transformer import Backbone
from ming_core.testing import Check, GoldenCase
from ming_core.training.losses import next_token_loss

from ._common import decode, golden_backbone, modality, padded, segments


def run(case: GoldenCase) -> Iterator[Check]:
    backbone = golden_backbone(case.config, case.weights)
    inputs = case.inputs
    embeds, ids = _embeds(backbone, inputs)
    attention = inputs["attention_mask"]
    positions, deltas = _positions(backbone, inputs)
    for name, value in (("position_ids", positions), ("rope_deltas", deltas)):
        if name in case.outputs:
            yield Check(name, value, case.outputs[name])
    for name, value in (("image_mask", ids == IMAGE), ("audio_mask", ids == AUDIO)):
        if name in case.outputs:
            yield Check(name, value.view(case.outputs[name].shape), case.outputs[name])
    common = {"modality_ids": ids, "segment_ids": segments(attention)}
    if "new_tokens" in case.outputs:
        yield from _generated(case, backbone, embeds, positions, deltas, common)
        return
    if "grad_norm.total" in case.outputs:
        yield from _gradients(case, backbone, embeds, positions, common)
        return
    with torch.no_grad():
        yield from _forward(case, backbone, embeds, positions, deltas, common)


def _embeds(backbone: Backbone, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Merged embeddings and modality ids, from ids and features or as given."""
    if "inputs_embeds" in inputs:
        return inputs["inputs_embeds"], modality(inputs, inputs["inputs_embeds"])
    config, input_ids = backbone.config, inputs["input_ids"]
    embeds = backbone.embed(input_ids).detach().clone()
    ids = torch.zeros_like(input_ids)
    patches = {"image": config.image_patch_token, "video": config.video_patch_token}
    for name, token in patches.items():
        if f"query_embeds_{name}" in inputs:
            places = input_ids == token
            embeds[places] = inputs[f"query_embeds_{name}"]
    if any(f"query_embeds_{name}" in inputs for name in ("image", "video", "audio")):
        for token in patches.values():
            ids[input_ids == token] = IMAGE
    if "query_embeds_audio" in inputs:
        places = inputs["placeholder_audio_loc_lens"]
        assert torch.equal(places[..., 1], inputs["query_embeds_audio_lengths"])
        for row, spans in enumerate(places.tolist()):
            used = 0
            for start, length in spans:
                embeds[row, start : start + length] = inputs["query_embeds_audio"][
                    row, used : used + length
                ]
                ids[row, start : start + length] = AUDIO
                used += length
    return embeds, ids


def _positions(backbone: Backbone, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Our own position ids; the recorded ones must agree wherever a token is real."""
    attention = inputs["attention_mask"]
    rule = PositionRule.from_config(backbone.config)
    ids = inputs.get("input_ids", torch.zeros_like(attention))
    video = inputs.get("image_grid_thw_video", inputs.get("video_grid_thw"))
    positions, deltas = rope_index(rule, ids, attention, inputs.get("image_grid_thw"), video)
    recorded = inputs.get("position_ids")
    if recorded is not None:
        real = attention.bool()
        recorded = recorded if recorded.dim() == 3 else recorded.expand(3, -1, -1)
        assert torch.equal(positions[:, real], recorded[:, real])
    assert torch.equal(inputs.get("rope_deltas", deltas), deltas)
    return positions, deltas


def _forward(
    case: GoldenCase,
    backbone: Backbone,
    embeds: Tensor,
    positions: Tensor,
    deltas: Tensor,
    common: dict[str, Tensor],
) -> Iterator[Check]:
    real = case.inputs["attention_mask"].bool()
    hidden: list[Tensor] = [embeds]
    hooks = [
        layer.register_forward_hook(lambda _m, _i, out: hidden.append(out[0]))
        for layer in backbone.layers
    ]
    cache = Cache()
    out = backbone(embeds, positions, cache=cache, **common)
    for hook in hooks:
        hook.remove()
    hidden[-1] = out.hidden
    for i, value in enumerate(hidden):
        yield Check(f"hidden_states.{i}", value[real], case.outputs[f"hidden_states.{i}"][real])
    yield from _routing(case, "router", backbone, out.routing, real)
    logits = backbone.lm_head(out.hidden)
    yield Check("logits", logits[real], case.outputs["logits"][real])
    if "loss" in case.outputs:
        loss = next_token_loss(logits, case.inputs["labels"])
        yield Check("loss", loss.view(1), case.outputs["loss"])
    length = embeds.shape[1]
    for layer in range(len(backbone.layers)):
        keys, values = cache.append(layer, *_no_tokens(backbone, embeds))
        for name, value in (("key", keys), ("value", values)):
            recorded = case.outputs.get(f"cache.{layer}.{name}")
            if recorded is not None:
                yield Check(
                    f"cache.{layer}.{name}",
                    value.transpose(1, 2)[real],
                    recorded.transpose(1, 2)[real],
                )
    if "decode_ids" not in case.inputs:
        return
    for step, token in enumerate(case.inputs["decode_ids"].T):
        at = (length + step + deltas).expand(3, -1, -1)
        if "decode_position_ids" in case.outputs:
            recorded = case.outputs["decode_position_ids"][:, :, step : step + 1]
            yield Check(f"decode_position_ids.{step}", at, recorded)
        out = backbone(backbone.embed(token.unsqueeze(1)), at, cache=cache)
        logits = backbone.lm_head(out.hidden[:, 0])
        yield Check(f"decode_logits.{step}", logits, case.outputs["decode_logits"][:, step])
        everywhere = torch.ones(token.shape[0], 1, dtype=torch.bool)
        yield from _routing(case, f"decode.{step}.router", backbone, out.routing, everywhere)


def _no_tokens(backbone: Backbone, embeds: Tensor) -> tuple[Tensor, Tensor]:
    config = backbone.config
    empty = embeds.new_empty(embeds.shape[0], config.num_key_value_heads, 0, config.head_dim)
    return empty, empty


def _routing(
    case: GoldenCase, prefix: str, backbone: Backbone, routing: list[Routing], real: Tensor
) -> Iterator[Check]:
    layers = [i for i in range(len(backbone.layers)) if backbone.config.is_moe_layer(i)]
    for layer, routed in zip(layers, routing, strict=True):
        recorded = case.outputs.get(f"{prefix}.{layer}.logits")
        if recorded is not None:
            logits = routed.logits.view(*real.shape, -1)
            yield Check(f"{prefix}.{layer}.logits", logits[real], recorded[real])
        recorded = case.outputs.get(f"{prefix}.{layer}.topk_sorted")
        if recorded is not None:
            index = routed.index.sort(dim=-1).values.view(*real.shape, -1)
            yield Check(f"{prefix}.{layer}.topk_sorted", index[real], recorded[real])


def _generated(
    case: GoldenCase,
    backbone: Backbone,
    embeds: Tensor,
    positions: Tensor,
    deltas: Tensor,
    common: dict[str, Tensor],
) -> Iterator[Check]:
    expected, config = case.outputs["new_tokens"], backbone.config
    ids, modality_ids, own = case.inputs["input_ids"], common["modality_ids"], common["segment_ids"]
    batch = OmniBatch(ids, positions, modality_ids, own)
    sampling = Sampling(max_new_tokens=expected.shape[1])
    rows = decode(backbone, embeds, batch, deltas, sampling, keep=["last"])
    yield Check("new_tokens", padded(rows, expected.shape, config.pad_token_id), expected)
    for i in range(max(len(row.tokens) for row in rows)):
        active = [number for number, row in enumerate(rows) if i < len(row.tokens)]
        states = torch.cat([rows[number].states["last"][i] for number in active])
        yield Check(
            f"step_logits.{i}", backbone.lm_head(states), case.outputs["step_logits"][active, i]
        )


def _gradients(
    case: GoldenCase,
    backbone: Backbone,
    embeds: Tensor,
    positions: Tensor,
    common: dict[str, Tensor],
) -> Iterator[Check]:
    real = case.inputs["attention_mask"].bool()
    backbone.train()
    embeds = embeds.clone().requires_grad_()
    logits = backbone.lm_head(backbone(embeds, positions, **common).hidden)
    loss = next_token_loss(logits, case.inputs["labels"])
    loss.backward()
    yield Check("logits", logits[real].detach(), case.outputs["logits"][real])
    yield Check("loss", loss.detach().view(1), case.outputs["loss"])
    assert embeds.grad is not None
    yield Check("grad.inputs_embeds", embeds.grad, case.outputs["grad.inputs_embeds"])
    grads = {name: p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    total = torch.stack([g.square().sum() for g in grads.values()]).sum().sqrt().view(1)
    yield Check("grad_norm.total", total, case.outputs["grad_norm.total"])
    for name, slot in backbone_slots(backbone.config, prefix="").items():
        recorded = case.outputs.get(f"grad.{name}")
        if recorded is not None:
            grad = grads.get(slot.name)
            value = torch.zeros_like(recorded) if grad is None else grad[slot.index]
            yield Check(f"grad.{name}", value, recorded)
