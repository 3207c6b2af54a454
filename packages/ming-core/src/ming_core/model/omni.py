"""Composition: encoders write their features into the token embeddings, the backbone reads on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from ming_core.config import AUDIO, IMAGE
from ming_core.model.cache import Cache
from ming_core.model.encoder import Encoder, Features
from ming_core.model.transformer import Backbone, BackboneOutput

MODALITY_IDS = {"image": IMAGE, "audio": AUDIO}


@dataclass(frozen=True)
class OmniBatch:
    """One batch of requests or packed samples; names and shapes as in `Backbone.forward`.

    features: encoder inputs, per modality in reading order over the whole batch.
    """

    input_ids: Tensor  # [B, T] int64
    position_ids: Tensor  # [3, B, T] int64
    modality_ids: Tensor  # [B, T] int64
    segment_ids: Tensor | None = None  # [B, T] int64, -1 padding
    mask: Tensor | None = None  # [B, 1, T, T] bool
    features: Sequence[Features] = field(default_factory=tuple)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> OmniBatch:
        def move(x: Tensor | None) -> Tensor | None:
            return None if x is None else x.to(device)

        return replace(
            self,
            input_ids=self.input_ids.to(device),
            position_ids=self.position_ids.to(device),
            modality_ids=self.modality_ids.to(device),
            segment_ids=move(self.segment_ids),
            mask=move(self.mask),
            features=[f.to(device, dtype) for f in self.features],
        )


class Omni(nn.Module):
    """The backbone and the encoders that are present, keyed by modality.

    Tensor names are the released ones with the backbone under `model.` and each encoder's own
    top-level names beside it (docs/formats.md).
    """

    def __init__(self, backbone: Backbone, encoders: dict[str, nn.Module] | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoders = nn.ModuleDict(encoders or {})

    def embed(self, batch: OmniBatch) -> Tensor:
        """Token embeddings [B, T, D] with media features written over their placeholders.

        Raises ValueError when an encoder yields more or fewer features than there are places.
        """
        embeds = self.backbone.embed(batch.input_ids)
        for features in batch.features:
            encoder = cast(Encoder, self.encoders[features.modality])
            values = encoder(features).to(embeds.dtype)
            places = batch.modality_ids == MODALITY_IDS[features.modality]
            if int(places.sum()) != values.shape[0]:
                raise ValueError(
                    f"{values.shape[0]} {features.modality} features for "
                    f"{int(places.sum())} placeholder tokens"
                )
            embeds = embeds.masked_scatter(places.unsqueeze(-1), values)
        return embeds

    def forward(self, batch: OmniBatch, cache: Cache | None = None) -> BackboneOutput:
        return self.backbone(
            self.embed(batch),
            batch.position_ids,
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
            mask=batch.mask,
            cache=cache,
        )
