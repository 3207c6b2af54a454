"""One adapter body for the three whole perception models: encoders, merge, backbone, decoding."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn

from ming_audio.encoder import AudioEncoder
from ming_core.checkpoints.keymap import identity_slots
from ming_core.engine.sampling import Sampling
from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.config import BackboneConfig
from ming_core.model.encoder import Features, by_modality, split_grids
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.positions import PositionRule, rope_index
from ming_core.plugins import get_plugins
from ming_core.testing import Check, GoldenCase, Unsupported

from ._common import check_released, decode, fill, golden_backbone, padded, segments
from ._sounds import packed_sounds

# The recorded configurations leave the model types out.
_LLM = {"omni_v10": "bailing_moe", "omni_v15": "bailing_moe", "omni_flash": "bailing_moe_v2"}
_TOWER = {"omni_v10": "qwen2_5_vit", "omni_v15": "qwen2_5_vit", "omni_flash": "qwen3_moe_vit"}


def run(case: GoldenCase) -> Iterator[Check]:
    if "prompts" in case.config:
        yield from _rope_index(case)
        return
    with torch.no_grad():
        yield from _perception(case)


def _perception(case: GoldenCase) -> Iterator[Check]:
    inputs, wanted = case.inputs, case.outputs
    omni = _omni(case)
    config, ids, attention = omni.backbone.config, inputs["input_ids"], inputs["attention_mask"]
    modality = _modality(inputs, {config.image_patch_token, config.video_patch_token})
    for name, value in (
        ("image_mask", modality == IMAGE),
        ("vision_mask", (modality == IMAGE).unsqueeze(-1)),
        ("audio_mask", modality == AUDIO),
    ):
        if name in wanted:
            yield Check(name, value, wanted[name])

    items = _visual_items(inputs, config)
    stills = [item for item in items if not any(item.seconds)]
    videos = [item for item in items if any(item.seconds)]
    for name, kind in (("image_embeds", stills), ("video_embeds", videos)):
        for features in by_modality(kind):
            yield Check(name, omni.encode(features), wanted[name])

    sounds = _sounds(case, omni)
    if "audio_embeds" in wanted:
        rows = wanted["audio_embeds"], wanted["audio_embeds_lengths"].sum(1).tolist()
        expected = torch.cat([row[:count] for row, count in zip(*rows, strict=True)])
        yield Check("audio_embeds", omni.encode(sounds[0]), expected)

    real = attention.bool()
    rule = PositionRule.from_config(config)
    positions, deltas = rope_index(rule, ids, attention, *split_grids(items))
    if config.rope.kind == "1d":
        # One axis, and that release computes no deltas: decoding follows in `generated_ids`.
        yield Check("position_ids", positions[0][real], wanted["position_ids"][real])
    else:
        yield Check("position_ids", positions, wanted["position_ids"])
        yield Check("rope_deltas", deltas, wanted["rope_deltas"])

    batch = OmniBatch(
        input_ids=ids,
        position_ids=positions,
        modality_ids=modality,
        segment_ids=segments(attention),
        features=[*by_modality(items), *sounds],
    )
    embeds = omni.embed(batch)
    yield Check("inputs_embeds", embeds, wanted["inputs_embeds"])
    hidden = omni(batch).hidden
    yield Check("last_hidden_state", hidden[real], wanted["last_hidden_state"][real])
    logits = omni.backbone.lm_head(hidden)
    yield Check("logits", logits[real], wanted["logits"][real])
    if "generated_ids" in wanted:
        rows = decode(omni.backbone, embeds, batch, deltas, Sampling(max_new_tokens=5))
        made = padded(rows, wanted["generated_ids"][:, ids.shape[1] :].shape, config.pad_token_id)
        yield Check("generated_ids", torch.cat([ids, made], dim=1), wanted["generated_ids"])


def _omni(case: GoldenCase) -> Omni:
    """The backbone and the registered encoders of this release."""
    llm = case.config["llm_config"] | {"model_type": _LLM[case.component]}
    check_released(case.config)
    config: dict[str, Any] = case.config | {"llm_config": llm}
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "image": {}, "audio": {}}
    for name, value in case.weights.items():
        first = name.partition(".")[0]
        kind = {"model": "backbone", "vision": "image", "linear_proj": "image"}.get(first, "audio")
        parts[kind][name.removeprefix("model.")] = value
    encoders: dict[str, nn.Module] = {}
    for modality, kind in (("image", _TOWER[case.component]), ("audio", "whisper")):
        found = get_plugins().encoders.find(kind)
        if not found:
            raise Unsupported(f"no encoder {kind!r} is registered")
        encoder: nn.Module = found[0].load().from_config(config, {})
        fill(encoder, identity_slots(encoder), parts[modality])
        encoders[modality] = encoder.eval()
    return Omni(golden_backbone(llm, parts["backbone"]), encoders)


def _sounds(case: GoldenCase, omni: Omni) -> list[Features]:
    """All sounds of the case, padded as the reference does it; none if it has none."""
    if "audio_feats" not in case.inputs:
        return []
    encoder = cast(AudioEncoder, omni.encoders["audio"])
    feats, lengths = case.inputs["audio_feats"], case.inputs["audio_feats_lengths"]
    features, _ = packed_sounds(feats, lengths, encoder.config.transcribing)
    return [encoder.processor.released_padding(features)]


def _modality(inputs: dict[str, Tensor], patches: set[int | None]) -> Tensor:
    """Modality ids [B, T]: patch tokens by their id, sounds by their place."""
    ids = inputs["input_ids"]
    visual = torch.tensor(sorted(token for token in patches if token is not None))
    modality = torch.isin(ids, visual) * IMAGE
    for row, spans in enumerate(inputs.get("audio_placeholder_loc_lens", torch.empty(0)).tolist()):
        for start, length in spans:
            modality[row, start : start + length] = AUDIO
    return modality


def _visual_items(inputs: dict[str, Tensor], config: BackboneConfig) -> list[Features]:
    """Pictures and videos in reading order; a case records all pictures and then all videos."""
    merge = config.spatial_merge_size
    stills = _items(inputs.get("pixel_values"), inputs.get("image_grid_thw"), merge)
    videos = _items(inputs.get("pixel_values_videos"), inputs.get("video_grid_thw"), merge, True)
    if not stills or not videos:
        return stills or videos
    queues = {config.image_patch_token: iter(stills), config.video_patch_token: iter(videos)}
    patches = [token for token in inputs["input_ids"].flatten().tolist() if token in queues]
    ordered: list[Features] = []
    while patches:
        ordered.append(next(queues[patches[0]]))
        del patches[: ordered[-1].tokens[0]]
    return ordered


def _items(
    pixels: Tensor | None, grid: Tensor | None, merge: int, video: bool = False
) -> list[Features]:
    """One `Features` per grid row; the times of a video are not recorded, only that it is one."""
    if pixels is None or grid is None:
        return []
    return [
        Features(
            modality="image",
            tensors={"pixel_values": part},
            grid=row.unsqueeze(0),
            tokens=[len(part) // merge**2],
            seconds=[tuple(map(float, range(int(row[0])))) if video else ()],
        )
        for row, part in zip(grid, pixels.split(grid.prod(dim=1).tolist()), strict=True)
    ]


def _rope_index(case: GoldenCase) -> Iterator[Check]:
    """Several prompts in one case."""
    config, inputs = case.config, case.inputs
    rule = PositionRule(
        kind="video_rope" if case.component == "omni_flash" else "mrope",
        image_patch=config["image_patch_token"],
        video_patch=config["video_patch_token"],
        image_start=config["image_start_token"],
        video_start=config["video_start_token_in_config"],
        merge=config["spatial_merge_size"],
        interleaved=config["use_interleaved_frame_timestamp"],
    )
    for i, name in enumerate(config["prompts"]):
        prompt = {k[2:]: inputs[k] for k in inputs if k.startswith(f"{i}.")}
        positions, deltas = rope_index(rule, **prompt)
        yield Check(f"{name}.position_ids", positions, case.outputs[f"{i}.position_ids"])
        yield Check(f"{name}.rope_deltas", deltas, case.outputs[f"{i}.rope_deltas"])
