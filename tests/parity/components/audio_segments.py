"""From packed frames to patched embeddings, as released code does it for a whole batch.

It pads the sounds of a batch to the longest one and masks nothing for Whisper; `released_padding`
makes our packed encoder do the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from ming_audio.config import AudioConfig, Ear, SanmConfig
from ming_audio.encoder import AudioEncoder, unit_length
from ming_audio.processing import AudioProcessor
from ming_audio.sanm import SanmTower
from ming_core.checkpoints.keymap import identity_slots
from ming_core.modalities import AUDIO
from ming_core.model.encoder import Features
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.transformer import Backbone
from ming_core.testing import Check, GoldenCase

from ._common import check_released, fill
from ._sounds import packed_sounds


@torch.no_grad()
def run(case: GoldenCase) -> Iterator[Check]:
    inputs, wanted = case.inputs, case.outputs
    encoder = _encoder(case)
    (ear,) = encoder.config.ears
    feats, lengths = inputs["audio_feats"], inputs["audio_feats_lengths"]
    features, rows = packed_sounds(feats, lengths, ear)

    hidden, projected = _padded(encoder, ear, features)
    yield Check("seg_hidden", hidden, wanted["seg_hidden"])
    yield Check("seg_proj", projected, wanted["seg_proj"])
    embeds = encoder(encoder.processor.released_padding(features))
    if isinstance(ear.config, SanmConfig) and ear.kernel > 1:
        # Released code lets the projector look into the padding, which SANM has masked until then.
        parts = [x[:n] for x, n in zip(projected, features.tokens, strict=True)]
        embeds = torch.cat(parts)
        embeds = unit_length(embeds) if encoder.config.unit_length else embeds

    tokens = [[ear.tokens(n) for n in row] for row in rows]
    by_row = embeds.split([sum(row) for row in tokens])
    yield Check("audio_embeds", pad_sequence(list(by_row), True), wanted["audio_embeds"])
    counts = pad_sequence([torch.tensor(row) for row in tokens], True)
    width = wanted["audio_embeds_lengths"].shape[1] - counts.shape[1]
    counts = nn.functional.pad(counts, (0, width))
    yield Check("audio_embeds_lengths", counts, wanted["audio_embeds_lengths"])

    # Surplus tokens are dropped there, and surplus placeholders left as they are; ours raises.
    places = inputs["placeholder_loc_lens"].tolist()
    modality = torch.zeros(inputs["input_embeds"].shape[:2], dtype=torch.int64)
    mask = modality.bool()
    kept: list[Tensor] = []
    queue = iter(embeds.split(features.tokens))
    for row, spans in enumerate(places):
        for start, count in spans[: len(tokens[row])]:
            sound = next(queue)[:count]
            mask[row, start : start + count] = True
            modality[row, start : start + len(sound)] = AUDIO
            kept.append(sound)
    yield Check("audio_mask", mask, wanted["audio_mask"])
    omni = Omni(cast(Backbone, _Given(inputs["input_embeds"])))
    batch = OmniBatch(modality, modality, modality, encoded={"audio": torch.cat(kept)})
    yield Check("patched", omni.embed(batch), wanted["patched"])


class _Given(nn.Module):
    """A backbone of which nothing is used but its word embeddings."""

    def __init__(self, embeds: Tensor) -> None:
        super().__init__()
        self.embeds = embeds

    def embed(self, _ids: Tensor) -> Tensor:
        return self.embeds


def _encoder(case: GoldenCase) -> AudioEncoder:
    """Only the ear of the case, since the other one's weights are not recorded."""
    for name in ("audio_config", "whisper_config"):
        check_released(case.config.get(name) or {}, name)
    config = AudioConfig.from_dict(case.config)
    ear = config.transcribing if case.config["use_whisper_encoder"] else config.listening
    config = replace(config, listening=ear, transcribing=ear)
    encoder = AudioEncoder(config, AudioProcessor(config)).eval()
    fill(encoder, identity_slots(encoder), case.weights)
    return encoder


def _padded(encoder: AudioEncoder, ear: Ear, features: Features) -> tuple[Tensor, Tensor]:
    """Hidden states and projections of the padded batch, those of the padding included."""
    lengths = features.tensors["frames"][:, 0].tolist()
    packed = features.tensors[ear.config.feature]
    x = pad_sequence(list(packed.split(lengths)), batch_first=True)
    sounds, longest, _ = x.shape
    tower = encoder.get_submodule(ear.tower)
    if isinstance(tower, SanmTower):
        hidden = tower.padded(x, torch.tensor(lengths))
    else:
        hidden = tower(x.flatten(0, 1), [longest] * sounds).unflatten(0, (sounds, -1))
    projector = encoder.get_submodule(ear.projector)
    projected = projector(hidden.flatten(0, 1), [hidden.shape[1]] * sounds)
    return hidden, projected.unflatten(0, (sounds, -1))
