"""Sounds to frames: read, resampled, and through the front end of the ear that is to hear them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ming_audio.config import AudioConfig, Ear, WhisperConfig
from ming_audio.fbank import fbank_features, released_cmvn
from ming_audio.lengths import RATE, mel_frames
from ming_audio.logmel import log_mel
from ming_audio.reading import stream_audio
from ming_core import media
from ming_core.errors import BadConfig, BadMedia
from ming_core.fields import Section
from ming_core.model.encoder import Features

_FILLER = 16
"""Frames of a sound for steps of training without sounds."""


@dataclass(frozen=True)
class AudioProcessor:
    """Which ear hears a sound is decided by its `purpose`: "listen" or "transcribe".

    Lite 1.0 has an encoder for each purpose; other releases have one for both.
    """

    config: AudioConfig

    @classmethod
    def from_config(cls, config: AudioConfig, preprocessor: Mapping[str, Any]) -> Self:
        """Check a released preprocessor_config.json (or {}) against the towers.

        Raises BadConfig for front ends that do not fit them.
        """
        own = Section(preprocessor, "preprocessor_config.json")
        rate = own.whole("sampling_rate", RATE)
        if rate != RATE:
            raise BadConfig(
                f"preprocessor_config.json says sampling_rate {rate}; the front ends work at {RATE}"
            )
        front = own.section("whisper_frontend_args", {})
        for ear in config.ears:
            if isinstance(ear.config, WhisperConfig):
                mels = front.whole("n_mels", ear.config.n_mels)
                if mels != ear.config.n_mels:
                    raise BadConfig(
                        f"preprocessor_config.json says n_mels {mels} for Whisper and config.json "
                        f"says {ear.config.n_mels}; they must be equal"
                    )
        return cls(config)

    def __call__(self, parts: Sequence[media.Media]) -> Features:
        """Frames of all sounds one after another, a tensor for each kind of ear: "mel" [N, n_mels],
        "fbank" [N, 560], float32.

        "frames" [items, ears] int64 counts them: each item is heard by one ear, the others have 0.
        Raises BadMedia.
        """
        heard: list[tuple[Ear, Tensor]] = []
        for part in parts:
            if not isinstance(part, media.Audio):
                raise BadMedia(f"this encoder hears sounds, it cannot read {part.kind} input")
            ear = self.ear(part.purpose)
            heard.append((ear, self.frames(read(part, ear), ear)))
        return self._features(heard)

    def _features(self, heard: Sequence[tuple[Ear, Tensor]]) -> Features:
        """Sounds as frames, each with the ear that hears it."""
        ears, tensors = self.config.ears, {}
        for ear in ears:
            own = [x for by, x in heard if by is ear]
            tensors[ear.config.feature] = (
                torch.cat(own)
                if own
                else torch.empty(0, ear.config.bins, dtype=torch.float32, device="cpu")
            )
        counts = [[len(x) if by is ear else 0 for ear in ears] for by, x in heard]
        return Features(
            modality="audio",
            tensors={**tensors, "frames": torch.tensor(counts, dtype=torch.int64, device="cpu")},
            grid=None,
            tokens=[by.tokens(len(x)) for by, x in heard],
        )

    def dummy(self, given: Features | None) -> Features | None:
        """One short silence for each ear that hears nothing of what is given."""
        ears = self.config.ears
        heard = given.tensors["frames"].sum(0).tolist() if given is not None else [0] * len(ears)
        idle = [ear for ear, frames in zip(ears, heard, strict=True) if not frames]
        silence = [(ear, torch.zeros(_FILLER, ear.config.bins, device="cpu")) for ear in idle]
        return self._features(silence) if silence else None

    def ear(self, purpose: str) -> Ear:
        """The ear for a purpose. Raises BadConfig for one that nobody knows."""
        ears = {"listen": self.config.listening, "transcribe": self.config.transcribing}
        if purpose not in ears:
            raise BadConfig(f"purpose of a sound is {purpose!r}; known: 'listen', 'transcribe'")
        return ears[purpose]

    def frames(self, samples: np.ndarray | Tensor, ear: Ear) -> Tensor:
        """What an ear is given: [N] float32 at 16 kHz -> [T, F] float32.

        Raises BadMedia for a sound below one frame.
        """
        if isinstance(ear.config, WhisperConfig):
            return log_mel(samples, ear.config.n_mels)
        cmvn = released_cmvn()
        if cmvn.shape[1] != ear.config.bins:
            raise BadConfig(
                f"audio_encoder_config_sanm.input_size is {ear.config.bins}; the only front end "
                f"of this encoder gives {cmvn.shape[1]}"
            )
        return fbank_features(samples, cmvn)

    def released_padding(self, features: Features) -> Features:
        """The same sounds as released code encodes several at once: each Whisper input is followed
        by zeros up to the longest one.

        Nothing masks them, and zero is no silence, so there the shorter ones sound different in
        company than alone. Only for comparisons; the tokens stay as they are.
        """
        tensors = dict(features.tensors)
        for column, ear in enumerate(self.config.ears):
            heard = tensors["frames"][:, column] > 0
            if isinstance(ear.config, WhisperConfig) and heard.any():
                lengths = tensors["frames"][heard, column].tolist()
                parts = list(tensors["mel"].split(lengths))
                padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
                tensors["mel"] = padded.flatten(0, 1)
                tensors["frames"] = tensors["frames"].clone()
                tensors["frames"][heard, column] = max(lengths)
        return replace(features, tensors=tensors)


def read(part: media.Audio, ear: Ear) -> np.ndarray:
    """A sound as [N] float32 at 16 kHz. Raises BadMedia, also as soon as it proves too long."""
    blocks, count = [], 0
    for block in stream_audio(part.source, channel=part.channel):
        blocks.append(block)
        count += len(block)
        if isinstance(ear.config, WhisperConfig) and mel_frames(count) > ear.config.most_frames:
            seconds = ear.config.most_frames / mel_frames(RATE)
            raise BadMedia(
                f"{part} is longer than the {seconds:g} s that can be heard at once; give a part "
                "of it, or transcribe it, which takes long sounds piece by piece"
            )
    return np.concatenate(blocks)
