"""Frame and token counts of sounds, and prompts whose sounds take as many tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ming_audio.config import Ear, SanmConfig, WhisperConfig
from ming_audio.lengths import fbank_frames, mel_frames, resampled, stacked_frames, whisper_frames
from ming_core.chat.formats import FLASH, LITE_1_0, LITE_1_5
from ming_core.chat.prompt import (
    MediaTokens,
    build_prompt,
    expand,
    media_parts,
    render,
    to_text,
)
from ming_core.media import Audio, Message, Part, Role, Text
from ming_core.testing import Check, GoldenCase

from ._common import ToyTokenizer

_FORMATS = {"v10": LITE_1_0, "v15": LITE_1_5, "flash": FLASH}
_ROLES: dict[str, Role] = {"HUMAN": "user", "ASSISTANT": "assistant", "SYSTEM": "system"}
# Their lengths depend on nothing but the strides.
_WHISPER = WhisperConfig(n_mels=128, n_ctx=15000, n_state=1280, n_head=20, n_layer=32)
_SANM = SanmConfig(
    input_size=560, output_size=512, attention_heads=4, linear_units=2048, num_blocks=50
)


def run(case: GoldenCase) -> Iterator[Check]:
    yield from _prompt(case) if "release" in case.config else _table(case)


def _whisper(section: Mapping[str, Any]) -> Ear:
    kernel, stride = section.get("ds_kernel_size", 3), section.get("ds_stride", 2)
    return Ear("whisper_encoder", "linear_proj_whisper", _WHISPER, kernel, stride)


def _sanm(section: Mapping[str, Any]) -> Ear:
    kernel, stride = section.get("ds_kernel_size", 1), section.get("ds_stride", 1)
    return Ear("audio", "linear_proj_audio", _SANM, kernel, stride)


def _table(case: GoldenCase) -> Iterator[Check]:
    whisper, sanm = _whisper(case.config["whisper_config"]), _sanm(case.config["audio_config"])
    samples = case.inputs["n_samples"].tolist()
    fbank = [fbank_frames(n) for n in samples]
    stacked = [stacked_frames(frames) for frames in fbank]
    mel = [mel_frames(n) for n in samples]
    lengths, rates = (case.inputs[name].tolist() for name in ("resample_in", "resample_rate"))
    for name, counts in (
        ("fbank_frames", fbank),
        ("sanm_frames", stacked),
        ("sanm_tokens", [sanm.tokens(frames) for frames in stacked]),
        ("mel_frames", mel),
        ("whisper_frames", [whisper_frames(frames) for frames in mel]),
        ("whisper_tokens", [whisper.tokens(frames) for frames in mel]),
        ("resample_out", [resampled(n, rate) for n, rate in zip(lengths, rates, strict=True)]),
    ):
        yield Check(name, torch.tensor(counts), case.outputs[name])


def _prompt(case: GoldenCase) -> Iterator[Check]:
    texts = json.loads((case.folder / "io.json").read_text("utf-8"))
    chat = _FORMATS[case.config["release"]]
    toy = ToyTokenizer(texts["special_token_ids"], offset=1_000_000)
    think = texts["chat_template_kwargs"].get("use_cot_system_prompt", False)
    sounds = iter(case.inputs["n_samples"].tolist())
    rows: list[Tensor] = []
    places, counts, expanded = [], [], []
    for conversation in texts["conversations"]:
        messages = [_message(item) for item in conversation]
        samples = [next(sounds) for _ in media_parts(messages)]
        frames, tokens = zip(*(_count(n, texts["use_whisper_encoder"]) for n in samples))
        sizes = [MediaTokens(count) for count in tokens]
        segments = expand(render(messages, chat, think=think), sizes)
        expanded.append(_shortened(to_text(segments)))
        prompt = build_prompt(messages, chat, toy, sizes, think=think)
        # A language that is prescribed begins the answer.
        rows.append(torch.tensor(prompt.input_ids + toy.encode(texts["language_prefix"] or "")))
        places.append([[run.start, run.count] for run in prompt.runs])
        counts.append(frames)
    real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    yield Check("expanded", expanded, texts["expanded"])
    yield Check("audio_feats_lengths", torch.tensor(counts), case.outputs["audio_feats_lengths"])
    wanted = case.outputs["audio_placeholder_loc_lens"]
    yield Check("audio_placeholder_loc_lens", torch.tensor(places), wanted)
    yield Check("attention_mask", real, case.outputs["attention_mask"])
    yield Check("input_ids", torch.cat(rows), case.outputs["input_ids"][real > 0])


def _count(samples: int, whisper: bool) -> tuple[int, int]:
    """Frames and tokens of samples at 16 kHz with the released strides."""
    if whisper:
        frames = mel_frames(samples)
        return frames, _whisper({}).tokens(frames)
    frames = stacked_frames(fbank_frames(samples))
    return frames, _sanm({}).tokens(frames)


def _message(item: Mapping[str, Any]) -> Message:
    parts: list[Part] = [
        Text(part["text"]) if part["type"] == "text" else Audio(part["audio"])
        for part in item["content"]
    ]
    return Message(_ROLES[item["role"]], tuple(parts))


def _shortened(text: str) -> str:
    """Runs of patches the way the case writes them."""
    patch = "<audioPatch>"
    return re.sub(f"(?:{patch})+", lambda run: f"{patch}*{len(run[0]) // len(patch)}", text)
