"""Shared by the adapters: golden weights into our modules, reference call conventions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ming_core.checkpoints.keymap import Slot, backbone_slots
from ming_core.config import AUDIO, IMAGE, BackboneConfig
from ming_core.model.transformer import Backbone


def fill(module: nn.Module, slots: dict[str, Slot], weights: dict[str, Tensor]) -> None:
    """Copy released tensors into their slots; every slot and every tensor must be used."""
    assert set(slots) == set(weights), set(slots) ^ set(weights)
    places = dict(module.state_dict(keep_vars=True))
    with torch.no_grad():
        for name, slot in slots.items():
            places[slot.name][slot.index].copy_(weights[name])


def golden_backbone(llm_config: dict, weights: dict[str, Tensor]) -> Backbone:
    backbone = Backbone(BackboneConfig.from_dict(llm_config)).eval()
    fill(backbone, backbone_slots(backbone.config, prefix=""), weights)
    return backbone


def modality(inputs: dict[str, Tensor], like: Tensor) -> Tensor:
    """The reference's disjoint image_mask and audio_mask as modality ids [B, T]."""
    ids = torch.zeros(like.shape[:2], dtype=torch.long)
    for name, value in (("image_mask", IMAGE), ("audio_mask", AUDIO)):
        if name in inputs:
            ids[inputs[name].view(ids.shape)] = value
    return ids


def segments(attention_mask: Tensor) -> Tensor:
    """Padding (0) becomes segment -1."""
    return attention_mask.long() - 1
