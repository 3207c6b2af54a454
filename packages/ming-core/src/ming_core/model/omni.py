"""Composition: encoders write their features into the token embeddings, and the backbone runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn

from ming_core.modalities import MODALITY_IDS
from ming_core.model.cache import Cache
from ming_core.model.encoder import Encoder, Features
from ming_core.model.transformer import Backbone, BackboneOutput, Layer


@dataclass(frozen=True)
class OmniBatch:
    """One batch of requests or packed samples; names and shapes as in `Backbone.forward`.

    features: encoder inputs, per modality in reading order over the whole batch.
    encoded: what encoders gave already, [tokens, D] per modality in reading order; a modality is in
    `features` or here. queries [n, D]: vectors of heads; query_ids: which of them a token is, -1
    for none.
    """

    input_ids: Tensor  # [B, T] int64
    position_ids: Tensor  # [3, B, T] int64
    modality_ids: Tensor  # [B, T] int64
    segment_ids: Tensor | None = None  # [B, T] int64, -1 padding
    mask: Tensor | None = None  # [B, 1, T, T] bool
    features: Sequence[Features] = field(default_factory=tuple)
    encoded: Mapping[str, Tensor] = field(default_factory=dict)
    query_ids: Tensor | None = None  # [B, T] int64
    queries: Tensor | None = None  # [n, D]

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
            encoded={name: values.to(device, dtype) for name, values in self.encoded.items()},
            query_ids=move(self.query_ids),
            queries=None if self.queries is None else self.queries.to(device, dtype),
        )


class Omni(nn.Module):
    """The backbone and the encoders that are present, keyed by modality.

    Tensor names are the released ones with the backbone under `model.` and each encoder's own
    top-level names beside it (docs/formats.md). The backbone may come later, as encoders may:
    nothing but `encode` works until it is there.
    """

    backbone: Backbone

    def __init__(
        self, backbone: Backbone | None = None, encoders: dict[str, nn.Module] | None = None
    ) -> None:
        super().__init__()
        self.register_module("backbone", backbone)  # its tensors are the first in any case
        self.encoders = nn.ModuleDict(encoders or {})

    def encode(self, features: Features) -> Tensor:
        """Embeddings [sum(tokens), D] of media of one modality.

        Raises ValueError when the encoder yields more or fewer than its processor promised.
        """
        values = cast(Encoder, self.encoders[features.modality])(features)
        if values.shape[0] != sum(features.tokens):
            raise ValueError(
                f"the {features.modality} encoder gave {values.shape[0]} features for "
                f"{sum(features.tokens)} tokens"
            )
        return values

    def embed(self, batch: OmniBatch) -> Tensor:
        """Token embeddings [B, T, D] with media features and queries written over their places.

        Gradients reach the encoders and the vectors of the queries.
        Raises ValueError when there are more or fewer features than places, or when a query has no
        vector.
        """
        embeds = self.backbone.embed(batch.input_ids)
        free = torch.ones_like(batch.modality_ids, dtype=torch.bool)
        if batch.query_ids is not None:
            free = batch.query_ids < 0
            vectors = _vectors(batch.query_ids[~free], batch.queries)
            embeds = embeds.masked_scatter(~free.unsqueeze(-1), vectors.to(embeds.dtype))
        given = dict(batch.encoded)
        for features in batch.features:
            if features.modality in given:
                raise ValueError(f"{features.modality} features are given twice")
            given[features.modality] = self.encode(features)
        for modality, values in given.items():
            places = (batch.modality_ids == MODALITY_IDS[modality]) & free
            if int(places.sum()) != values.shape[0]:
                raise ValueError(
                    f"{values.shape[0]} {modality} features for "
                    f"{int(places.sum())} placeholder tokens"
                )
            embeds = embeds.masked_scatter(places.unsqueeze(-1), values.to(embeds.dtype))
        return embeds

    def forward(
        self, batch: OmniBatch, cache: Cache | None = None, keep: Collection[Layer] = ()
    ) -> BackboneOutput:
        """Run the backbone; keep: layers whose hidden states are wanted."""
        return self.backbone(
            self.embed(batch),
            batch.position_ids,
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
            mask=batch.mask,
            cache=cache,
            keep=keep,
        )


def _vectors(numbers: Tensor, queries: Tensor | None) -> Tensor:
    """The query vectors [n, D] of these numbers [n]."""
    if queries is None or (len(numbers) and int(numbers.max()) >= len(queries)):
        raise ValueError("the batch has query tokens without a vector")
    return queries[numbers]
