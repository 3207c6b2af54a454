"""The one run of the model in a training step: every encoder and the backbone, once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from ming_core.model.encoder import Encoder, Features, Fills, by_modality
from ming_core.model.omni import Omni, OmniBatch
from ming_core.model.routing import Routing
from ming_core.model.transformer import Layer


def alone(value: Tensor) -> Tensor:
    """The sum over one process."""
    return value.detach().clone()


@dataclass(frozen=True)
class Forward:
    """What objectives read. embeds, hidden: None if nobody asked for the backbone.

    kept: hidden states of the layers that were asked for. encoded: by modality, the tokens [n, D]
    that its encoder made of the media of the batch. states: by name, what submodules of `Omni` gave
    that were asked for; those of an encoder whose modality is not in the batch are left out.
    over_ranks: the sum of a tensor over all processes with other data, without gradient.
    """

    embeds: Tensor | None = None  # [B, T, D], media written over their places
    hidden: Tensor | None = None  # [B, T, D] after the final norm
    kept: Mapping[Layer, Tensor] = field(default_factory=dict)
    routing: Sequence[Routing] = ()
    encoded: Mapping[str, Tensor] = field(default_factory=dict)
    states: Mapping[str, Any] = field(default_factory=dict)
    over_ranks: Callable[[Tensor], Tensor] = alone


def run(
    omni: Omni,
    batch: OmniBatch,
    keep: Collection[Layer] | None = (),
    *,
    present: Collection[str] = (),
    watch: Collection[str] = (),
    dtype: torch.dtype | None = None,
    over_ranks: Callable[[Tensor], Tensor] = alone,
) -> Forward:
    """Run the encoders and the backbone once.

    Args:
        keep: Layers whose hidden states are wanted; None: nobody wants the backbone, so only the
            encoders run.
        present: Modalities whose encoder runs even if the batch lacks them, on its dummy input; the
            result is added to the embeddings with the factor 0. So all weights get a gradient in
            every step, and all processes do the same communication, whatever their batches hold.
        dtype: Of dummy inputs; None is that of the weights.
        watch: Names of submodules of `omni` whose output is wanted, such as "encoders.audio.audio".

    An encoder without trainable weights computes no gradient.
    """
    encoded = dict(batch.encoded)
    given = {features.modality: features for features in batch.features}
    zeros: list[Tensor] = []
    with _watched(omni, watch) as states:
        # In the order of the model: what shards weights wants the same calls in all processes.
        for modality in sorted({*given, *present}, key=list(omni.encoders).index):
            values, rest = _encode(omni, modality, given.get(modality), modality in present, dtype)
            if modality in given:
                encoded[modality] = values
            else:
                for name in [name for name in states if name.startswith(f"encoders.{modality}.")]:
                    del states[name]
            if len(rest):
                zeros.append(0.0 * rest.sum())
        if keep is None:
            # Nothing else carries these zeros to a loss: the tokens do.
            for modality, values in encoded.items():
                encoded[modality] = values + torch.stack(zeros).sum() if zeros else values
            return Forward(encoded=encoded, states=states, over_ranks=over_ranks)
        embeds = omni.embed(replace(batch, features=(), encoded=encoded))
        if zeros:
            embeds = embeds + torch.stack(zeros).sum()
        out = omni.backbone(
            embeds,
            batch.position_ids,
            modality_ids=batch.modality_ids,
            segment_ids=batch.segment_ids,
            mask=batch.mask,
            keep=keep,
        )
        return Forward(embeds, out.hidden, out.kept, out.routing, encoded, states, over_ranks)


def trainable(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters())


def _encode(
    omni: Omni, modality: str, given: Features | None, filled: bool, dtype: torch.dtype | None
) -> tuple[Tensor, Tensor]:
    """Tokens of the media of a batch, and those of the dummy input behind them."""
    encoder = omni.encoders[modality]
    count = sum(given.tokens) if given is not None else 0
    features, processor = given, cast(Encoder, encoder).processor
    if filled and isinstance(processor, Fills):
        dummy = processor.dummy(given)
        if dummy is not None:
            like = next(encoder.parameters()) if given is None else _floating(given)
            dummy = dummy.to(like.device, dtype or like.dtype)
            features = dummy if given is None else by_modality([given, dummy])[0]
    if features is None:  # an encoder without dummy input, alone in one process
        return torch.empty(0), torch.empty(0)
    with torch.set_grad_enabled(torch.is_grad_enabled() and trainable(encoder)):
        values = omni.encode(features)
    return values[:count], values[count:]


def _floating(features: Features) -> Tensor:
    return next(x for x in features.tensors.values() if x.is_floating_point())


@contextmanager
def _watched(omni: Omni, names: Collection[str]) -> Iterator[dict[str, Any]]:
    """The outputs of submodules while the block runs, by name."""
    found: dict[str, Any] = {}
    hooks = [
        omni.get_submodule(name).register_forward_hook(
            lambda module, inputs, output, name=name: found.update({name: output})
        )
        for name in names
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
