"""The decoder of Ming-Lite-Omni 1.0, 1.5 and Ming-Flash-Omni.

A layer computes x + Attn(norm x), then x + FFN(norm x). The FFN is a mixture of experts with shared
experts and one router for each modality; in the first `first_k_dense_replace` layers it is dense.
Positions, modalities and segments are inputs: nothing is guessed from padding.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from ming_core.model.attention import Attention
from ming_core.model.cache import Cache
from ming_core.model.config import BackboneConfig
from ming_core.model.kernels.attention import SPANS_FROM, Spans
from ming_core.model.layers import Linear, RMSNorm
from ming_core.model.masks import causal_mask, segment_mask
from ming_core.model.moe import MLP, ModalityMoE
from ming_core.model.rotary import Rotary
from ming_core.model.routing import Routing

Layer = int | Literal["last"]
"""Where hidden states are taken: 0 is what enters the first layer, n is what the layer number n
gives, counted from 1, and "last" is what the final norm makes of it."""


@dataclass(frozen=True)
class BackboneOutput:
    """hidden [B, T, D] after the final norm; routing of every mixture layer, in layer order.

    kept: hidden states [B, T, D] of the layers that were asked for.
    """

    hidden: Tensor
    routing: list[Routing]
    kept: Mapping[Layer, Tensor] = field(default_factory=dict)


class DecoderLayer(nn.Module):
    def __init__(self, config: BackboneConfig, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.attention = Attention(config, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = (
            ModalityMoE(config)
            if config.is_moe_layer(layer)
            else MLP(config.hidden_size, config.intermediate_size)
        )

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | Spans | None,
        modality_ids: Tensor | None,
        cache: Cache | None,
    ) -> tuple[Tensor, Routing | None]:
        x = x + self.attention(self.input_layernorm(x), cos, sin, mask, cache)
        h = self.post_attention_layernorm(x)
        if isinstance(self.mlp, ModalityMoE):
            y, routing = self.mlp(h, modality_ids)
            return x + y, routing
        return x + self.mlp(h), None


class Backbone(nn.Module):
    """Causal language model over token embeddings of any modality."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(
            DecoderLayer(config, layer) for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.rotary = Rotary(config.rope)

    @property
    def mixtures(self) -> list[ModalityMoE]:
        """Its mixtures of experts, in the order of `BackboneOutput.routing`."""
        return [layer.mlp for layer in self.layers if isinstance(layer.mlp, ModalityMoE)]

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings [..., D]; ids are clipped to the vocabulary as in the reference."""
        return self.word_embeddings(input_ids.clamp(0, self.config.vocab_size - 1))

    def forward(
        self,
        embeds: Tensor,
        position_ids: Tensor,
        *,
        modality_ids: Tensor | None = None,
        segment_ids: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        keep: Collection[Layer] = (),
    ) -> BackboneOutput:
        """Run the decoder; apply `lm_head` to the hidden states whose logits are wanted.

        Args:
            embeds: [B, T, D].
            position_ids: int64 [3, B, T], or [B, T] if the three axes are equal.
            modality_ids: [B, T] of TEXT, IMAGE and AUDIO. None means text.
            segment_ids: [B, T]. A token sees the earlier tokens of its own segment only; -1 is
                padding. None means one segment.
            mask: bool [B, 1, T, S], in place of causality and segments.
            cache: Keys and values of earlier tokens, to which the new ones are appended. Then S is
                cache.length + T.
            keep: Layers whose hidden states are wanted.
        """
        if position_ids.dim() == 2:
            position_ids = position_ids.expand(3, -1, -1)
        seen: Tensor | Spans | None = mask
        if mask is None and _in_spans(embeds, segment_ids, cache):
            seen = Spans.of(segment_ids)  # type: ignore[arg-type]
        elif mask is None:
            seen = visibility(segment_ids, embeds.shape[1], cache, embeds.device)
        cos, sin = self.rotary(position_ids)
        x, routing = embeds, []
        kept: dict[Layer, Tensor] = {0: x} if 0 in keep else {}
        for number, layer in enumerate(self.layers, 1):
            x, routed = layer(x, cos, sin, seen, modality_ids, cache)
            if routed is not None:
                routing.append(routed)
            if number in keep:
                kept[number] = x
        if cache is not None:
            cache.advance(embeds.shape[1], segment_ids)
        hidden = self.norm(x)
        if "last" in keep:
            kept["last"] = hidden
        return BackboneOutput(hidden, routing, kept)


def _in_spans(embeds: Tensor, segment_ids: Tensor | None, cache: Cache | None) -> bool:
    """Whether long packed rows are in training on a CPU."""
    long = embeds.shape[1] >= SPANS_FROM and embeds.device.type == "cpu"
    return long and segment_ids is not None and cache is None and torch.is_grad_enabled()


def visibility(
    segment_ids: Tensor | None, tokens: int, cache: Cache | None, device: torch.device
) -> Tensor | None:
    """Which keys each query may see, bool [B, 1, T, S]; None where plain causality says it all."""
    past = cache.length if cache is not None else 0
    old = cache.segment_ids if cache is not None else None
    if segment_ids is None and old is None and (past == 0 or tokens == 1):
        return None
    if segment_ids is None and old is None:
        return causal_mask(tokens, past + tokens, device)[None, None]
    if segment_ids is None:
        segment_ids = old.new_zeros(old.shape[0], tokens)  # type: ignore[union-attr]
    if old is None:
        old = segment_ids.new_zeros(segment_ids.shape[0], past)
    return segment_mask(segment_ids, old)
