"""Frame and token counts of sounds, and prompts whose sounds take as many tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ming_audio.config import Ear, SanmConfig, WhisperConfig
from ming_audio.lengths import fbank_frames, mel_frames, resampled, stacked_frames, whisper_frames
from ming_core.chat.prompt import (
    MediaTokens,
    build_prompt,
    expand,
    media_parts,
    render,
    to_text,
)
from ming_core.chat.released import released_expansion, released_prompt
from ming_core.testing import Check, GoldenCase

from ._common import ToyTokenizer
from ._prompts import FORMATS, only_released, our_messages, our_options

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
    texts = case.texts
    chat, kwargs = FORMATS[case.config["release"]], texts["chat_template_kwargs"]
    toy = ToyTokenizer(dict(texts["special_token_ids"]), offset=1_000_000)
    sounds = iter(case.inputs["n_samples"].tolist())
    rows: list[Tensor] = []
    prompts, places, counts, expanded = [], [], [], []
    for conversation in texts["conversations"]:
        prompts.append(released_prompt(conversation, chat, **kwargs))
        messages = our_messages(conversation, kwargs)
        samples = [next(sounds) for _ in media_parts(messages)]
        frames, tokens = zip(*(_count(n, texts["use_whisper_encoder"]) for n in samples))
        sizes = [MediaTokens(count) for count in tokens]
        if only_released(conversation, kwargs, chat, toy):
            text = released_expansion(prompts[-1], chat, audios=sizes)
            ids = toy.encode_with_specials(text)
            starts = [i + 1 for i, token in enumerate(ids) if token == toy.id("<audio>")]
            runs = [[start, size.count] for start, size in zip(starts, sizes)]
        else:
            text = to_text(expand(render(messages, chat, **our_options(kwargs)), sizes))
            prompt = build_prompt(messages, chat, toy, sizes, **our_options(kwargs))
            ids, runs = prompt.input_ids, [[run.start, run.count] for run in prompt.runs]
        expanded.append(_shortened(text))
        # A language that is prescribed begins the answer.
        rows.append(torch.tensor(ids + toy.encode(texts["language_prefix"] or "")))
        places.append(runs)
        counts.append(frames)
    real = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
    yield Check("prompt", prompts, texts["prompt"])
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


def _shortened(text: str) -> str:
    """Runs of patches the way the case writes them."""
    patch = "<audioPatch>"
    return re.sub(f"(?:{patch})+", lambda run: f"{patch}*{len(run[0]) // len(patch)}", text)
