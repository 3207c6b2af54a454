"""Chat prompts of the three releases: rendered, expanded and laid out as toy token ids.

Every case is checked through the released-string functions, and through the safe prompt builder
too unless the case shows something only the released string processing does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from ming_core.chat.formats import FLASH, ChatFormat
from ming_core.chat.prompt import MediaTokens, build_prompt, expand, media_parts, render, to_text
from ming_core.chat.released import released_expansion, released_prompt
from ming_core.media import Audio
from ming_core.model.positions import frame_grids
from ming_core.testing import Check, GoldenCase

from ._common import ToyTokenizer
from ._prompts import FORMATS, KINDS, only_released, our_messages, our_options

# fmt: off
_MEDIA_TOKENS = [
    "<imagePatch>", "<image>", "</image>", "<video>", "</video>",
    "<gen_imagePatch>", "<gen_image>", "</gen_image>", "<imageHere>",
    "<end_of_chunk>", "<end_of_audio>", "<audioPatch>", "<audio>", "</audio>",
    "<gen_audioPatch>", "<gen_audio>", "</gen_audio>", "<audioHere>",
    "<framePatch>", "<text>", "<asr>", "<tts>",
]
# fmt: on
_LITE_IDS = {token: 126346 + i for i, token in enumerate(_MEDIA_TOKENS)} | {
    "<|startoftext|>": 126080,
    "<|endoftext|>": 126081,
    "<role>": 126340,
    "</role>": 126341,
}
_FLASH_IDS = {token: 157157 + i for i, token in enumerate(_MEDIA_TOKENS)} | {
    "<|startoftext|>": 156891,
    "<|endoftext|>": 156892,
    "<|role_end|>": 156895,
    "<role>": 157151,
    "</role>": 157152,
}


def run(case: GoldenCase) -> Iterator[Check]:
    config, wanted = case.config, case.outputs
    chat = FORMATS[config["family"]]
    toy = ToyTokenizer(_FLASH_IDS if chat is FLASH else _LITE_IDS)
    sizes = _sizes(case.inputs)

    text = released_prompt(config["messages"], chat, **config["kwargs"])
    expanded = released_expansion(text, chat, sizes["image"], sizes["video"], sizes["audio"])
    ids = toy.encode_with_specials(expanded)
    places = [
        [i + 1, size.count]
        for i, size in zip(
            (i for i, token in enumerate(ids) if token == toy.id("<audio>")), sizes["audio"]
        )
    ]
    yield Check("eos_token", chat.turn_end or "<|endoftext|>", config["eos_token"])
    yield Check("rendered", text, _string(wanted["rendered_utf8"]))
    yield Check("expanded", expanded, _string(wanted["expanded_utf8"]))
    yield Check("toy_input_ids", torch.tensor(ids), wanted["toy_input_ids"])
    if "audio_placeholder_loc_lens" in wanted:
        yield Check("audio_places", torch.tensor([places]), wanted["audio_placeholder_loc_lens"])
    if "video_grid_thw" in wanted:
        yield Check("grids", frame_grids(case.inputs["video_grid_thw"]), wanted["video_grid_thw"])
    if not only_released(config["messages"], config["kwargs"], chat, toy):
        yield from _safe(config, chat, toy, sizes, wanted)


def _safe(
    config: Mapping[str, Any],
    chat: ChatFormat,
    toy: ToyTokenizer,
    sizes: Mapping[str, list[MediaTokens]],
    wanted: Mapping[str, Tensor],
) -> Iterator[Check]:
    """The same through messages, segments and the prompt builder."""
    messages = our_messages(config["messages"], config["kwargs"])
    options = our_options(config["kwargs"])
    queues = {KINDS[kind]: iter(items) for kind, items in sizes.items()}
    media = [next(queues[type(part)]) for part in media_parts(messages)]
    segments = render(messages, chat, **options)
    prompt = build_prompt(messages, chat, toy, media, **options)
    yield Check("safe_rendered", to_text(segments), _string(wanted["rendered_utf8"]))
    yield Check("safe_expanded", to_text(expand(segments, media)), _string(wanted["expanded_utf8"]))
    yield Check("safe_toy_ids", torch.tensor(prompt.input_ids), wanted["toy_input_ids"])
    if "audio_placeholder_loc_lens" in wanted:
        runs = [[r.start, r.count] for r in prompt.runs if isinstance(prompt.media[r.index], Audio)]
        expected = wanted["audio_placeholder_loc_lens"]
        yield Check("safe_audio_places", torch.tensor([runs]), expected)


def _sizes(inputs: Mapping[str, Tensor]) -> dict[str, list[MediaTokens]]:
    """Token counts from grids in patch units (2x2 merge), seconds and audio lengths."""
    sizes: dict[str, list[MediaTokens]] = {"image": [], "video": [], "audio": []}
    for grid in inputs.get("image_grid_thw", torch.empty(0, 3)):
        sizes["image"].append(MediaTokens(int(grid.prod()) // 4))
    seconds = inputs.get("video_timestamps_seconds")
    for i, grid in enumerate(inputs.get("video_grid_thw", torch.empty(0, 3))):
        times = [] if seconds is None else seconds[i, : int(grid[0])].tolist()
        sizes["video"].append(MediaTokens(int(grid.prod()) // 4, times))
    for length in inputs.get("audio_feats_lengths", torch.empty(0)).flatten():
        sizes["audio"].append(MediaTokens(int(length)))
    return sizes


def _string(utf8: Tensor) -> str:
    return bytes(utf8.tolist()).decode()
