"""From a preset's name or a checkpoint folder to modules with weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ming_core.chat.formats import format_of, with_media_tokens
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.detect import unknown_family
from ming_core.checkpoints.formats import Checkpoint, open_checkpoint
from ming_core.checkpoints.keymap import backbone_slots, identity_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.config import BackboneConfig
from ming_core.directory import missing_encoder, missing_media
from ming_core.errors import BadCheckpoint, BadConfig, MissingPlugin
from ming_core.model.transformer import Backbone
from ming_core.plugins import get_plugins
from ming_core.presets import BACKBONE, preset_folders
from ming_core.registry import Entry

SMALL = 4 * 2**30
"""Bytes of weights below which CPU inference runs in float32, where it is fastest."""

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Sources:
    """Where the parts of a model come from, and where they go.

    config, preprocessor: config.json and preprocessor_config.json of all `checkpoints` merged; the
    first one holds the backbone. parts: the modalities that may be used, None for all.
    """

    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    checkpoints: Sequence[Checkpoint]
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    parts: Sequence[str] | None

    def load_backbone(self) -> Backbone:
        """The language model with its weights. Raises BadCheckpoint or BadConfig."""
        config = BackboneConfig.from_dict(self.config["llm_config"])
        config = with_media_tokens(config, format_of(config), self.tokenizer)
        with on_meta():
            backbone = Backbone(config)
        slots = backbone_slots(config)
        load_module(backbone, self.checkpoints[0], slots, self.device, self.dtype)
        return backbone

    def load_encoder(self, modality: str) -> nn.Module:
        """The encoder of a modality with its weights, from the checkpoint that holds them.

        Raises MissingPlugin, BadCheckpoint or BadConfig.
        """
        encoder_class = self.encoder_entry(modality).load()
        with on_meta():
            encoder = encoder_class.from_config(self.config, self.preprocessor)
        slots = identity_slots(encoder)
        first = next(iter(slots))
        holders = [c for c in self.checkpoints if first in c.tensors] or self.checkpoints
        load_module(encoder, holders[0], slots, self.device, self.dtype)
        return encoder.to(self.device).eval()  # `to`: buffers that no checkpoint holds

    def encoder_entry(self, modality: str) -> Entry:
        """The registered encoder that config.json names for a modality.

        What follows a colon in the `model_type` is the encoder's own business.
        """
        if self.parts is not None and modality not in self.parts:
            raise MissingPlugin(
                f"this model was loaded with parts={list(self.parts)}; "
                f"load it with {modality!r} among them to use it"
            )
        entries = [e for e in get_plugins().encoders if e.extra["modality"] == modality]
        if not entries:
            raise missing_media(modality)
        wanted = {str(entry.extra["section"]): None for entry in entries}
        for entry in entries:
            section = self.config.get(entry.extra["section"])
            if isinstance(section, Mapping):
                kind = str(section.get("model_type", "")).partition(":")[0]
                if kind in (entry.name, *entry.extra.get("spellings", ())):
                    return entry
                wanted[entry.extra["section"]] = section.get("model_type")
        for name in wanted.values():
            if name is not None:
                raise missing_encoder(str(name))
        raise MissingPlugin(
            f"this model has no part for {modality}: its config.json lacks {' and '.join(wanted)}; "
            "use a model that has one"
        )


def open_sources(
    model: str | Path, device: str, dtype: str, parts: Sequence[str] | None
) -> Sources:
    """Open a preset or a folder; see `ming_core.load` for the arguments and errors."""
    folders = _folders(model)
    checkpoints = [open_checkpoint(folder) for folder in folders]
    config: dict[str, Any] = {}
    preprocessor: dict[str, Any] = {}
    for checkpoint in checkpoints:
        config |= checkpoint.config
        preprocessor |= checkpoint.preprocessor
    if get_plugins().hook.ming_detect_checkpoint(folder=folders[0], config=config) is None:
        raise unknown_family(config)
    place = _device(device)
    size = sum(info.nbytes for checkpoint in checkpoints for info in checkpoint.tensors.values())
    return Sources(
        config=config,
        preprocessor=preprocessor,
        checkpoints=checkpoints,
        tokenizer=Tokenizer(folders[0]),
        device=place,
        dtype=_dtype(dtype, config, place, size),
        parts=parts,
    )


def _folders(model: str | Path) -> list[Path]:
    """The folders of a preset, the backbone's first, or the one folder that was named."""
    path = Path(model)
    if path.is_dir():
        return [path]
    if isinstance(model, Path) or os.sep in model:
        raise BadCheckpoint(
            f"there is no folder {str(model)!r}; give a checkpoint folder or a preset"
        )
    parts = preset_folders(model)
    return [parts[name] for name in sorted(parts, key=lambda name: name != BACKBONE)]


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadConfig(f"unknown device {name!r}; use auto, cpu, cuda or cuda:1") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise BadConfig(
            f"device {name!r} is not on this machine, which has {torch.cuda.device_count()} GPUs; "
            "use cpu"
        )
    return device


def _dtype(name: str, config: Mapping[str, Any], device: torch.device, size: int) -> torch.dtype:
    if name in DTYPES:
        return DTYPES[name]
    if name != "auto":
        raise BadConfig(f"unknown dtype {name!r}; use auto, {', '.join(DTYPES)}")
    if device.type == "cpu":
        return torch.float32 if size < SMALL else torch.bfloat16
    return DTYPES.get(str(config.get("torch_dtype")), torch.bfloat16)
