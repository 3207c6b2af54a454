"""Shared by the adapters: golden weights into our modules, reference call conventions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Size, Tensor, nn

from ming_core.checkpoints.keymap import Slot, backbone_slots
from ming_core.engine.decoding import Batch, Row
from ming_core.engine.sampling import Sampling
from ming_core.modalities import AUDIO, IMAGE
from ming_core.model.omni import OmniBatch
from ming_core.model.transformer import Backbone, Layer
from ming_core.release import backbone_of
from ming_core.testing import GoldenCase


def fill(module: nn.Module, slots: dict[str, Slot], weights: dict[str, Tensor]) -> None:
    """Copy released tensors into their slots; every slot and every tensor must be used."""
    assert set(slots) == set(weights), set(slots) ^ set(weights)
    places = dict(module.state_dict(keep_vars=True))
    with torch.no_grad():
        for name, slot in slots.items():
            places[slot.name][slot.index].copy_(weights[name])


def check_released(section: Mapping[str, Any], name: str = "") -> None:
    """Our configurations read a section, or all of config.json, as a whole and pass unknown keys
    over; here those fail.
    """
    names = {f"{name}.{key}" if name else key for key in _names(section)}
    unknown = sorted(names - _released_keys())
    assert not unknown, f"no released config.json has {', '.join(unknown)}; what would it change?"


def _names(section: Mapping[str, Any]) -> Iterator[str]:
    for key in section:
        yield key
        value = dict.get(section, key) if isinstance(section, dict) else None  # not a reading
        if isinstance(value, dict):
            yield from (f"{key}.{name}" for name in _names(value))


@cache
def _released_keys() -> frozenset[str]:
    """Dotted keys of the released config.json files, and two that the class of Flash knows."""
    files = (Path(__file__).parents[2] / "golden" / "released").glob("*/config.json")
    keys = {name for file in files for name in _names(json.loads(file.read_text("utf-8")))}
    return frozenset(keys | {"llm_config.tokens_per_second", "llm_config.spatial_merge_size"})


def golden_backbone(llm_config: dict[str, Any], weights: dict[str, Tensor]) -> Backbone:
    check_released(llm_config, "llm_config")
    backbone = Backbone(backbone_of({"llm_config": llm_config})).eval()
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


def in_bfloat16(case: GoldenCase) -> bool:
    """Whether the reference ran in bfloat16; only the text of a case says so."""
    return "bfloat16" in case.meta["description"] + case.meta.get("notes", "")


class ToyTokenizer:
    """Released ids for special tokens; code points, `offset` higher, for characters."""

    def __init__(self, ids: Mapping[str, int], offset: int = 0) -> None:
        self._ids = ids
        self._offset = offset
        self._pattern = re.compile("(" + "|".join(map(re.escape, ids)) + ")")

    def id(self, token: str) -> int:
        return self._ids[token]

    def encode(self, text: str) -> list[int]:
        return [ord(character) + self._offset for character in text]

    def holds_special(self, text: str) -> bool:
        return self._pattern.search(text) is not None

    def encode_with_specials(self, text: str) -> list[int]:
        pieces = enumerate(self._pattern.split(text))
        return [i for k, s in pieces for i in ([self._ids[s]] if k % 2 else self.encode(s))]


def decode(
    backbone: Backbone,
    embeds: Tensor,
    batch: OmniBatch,
    deltas: Tensor,
    sampling: Sampling,
    keep: Sequence[Layer] = (),
) -> list[Row]:
    """The rows of a batch, padded on the left, decoded; their states begin with the last token."""
    eos, (_, length) = backbone.config.eos_token_id, batch.input_ids.shape
    real = torch.ones_like(batch.input_ids) if batch.segment_ids is None else batch.segment_ids + 1
    rows = [
        Row(ids[own.bool()].tolist(), sampling, [eos], keep, keep_from=-1)
        for ids, own in zip(batch.input_ids, real, strict=True)
    ]
    running = Batch(backbone)
    running.prefill(rows, embeds, batch, length + deltas.squeeze(1))
    running.drop([row for row in rows if row.end])
    while running.rows:
        running.step()
        running.drop([row for row in rows if row.end])
    return rows


def padded(rows: Sequence[Row], shape: Size, pad: int) -> Tensor:
    """The tokens [B, T] of rows."""
    tokens = torch.full(shape, pad)
    for place, row in zip(tokens, rows, strict=True):
        place[: len(row.tokens)] = torch.tensor(row.tokens)
    return tokens
