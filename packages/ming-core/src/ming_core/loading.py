"""From a preset's name or a checkpoint folder to modules with weights."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ming_core.chat.formats import with_media_tokens
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.formats import Checkpoint, open_checkpoint
from ming_core.checkpoints.keymap import identity_slots
from ming_core.checkpoints.reading import load_module, on_meta
from ming_core.devices import DTYPES, find_device, find_dtype
from ming_core.errors import BadCheckpoint, MissingPlugin, UnknownName
from ming_core.fields import Section
from ming_core.modalities import MODALITY_IDS
from ming_core.model.config import BackboneConfig
from ming_core.model.transformer import Backbone
from ming_core.plugins import get_plugins
from ming_core.plugins.directory import missing_encoder, missing_media
from ming_core.plugins.registry import Entry
from ming_core.presets import BACKBONE, preset_folders
from ming_core.release import Release, release_of

SMALL = 4 * 2**30
"""Bytes of weights below which CPU inference runs in float32, where it is fastest."""

SLACK = 1000
"""Tensors that a model may be too large by until its names are compared one by one."""


@dataclass(frozen=True)
class Sources:
    """Where the parts of a model come from, and on which device and in which dtype they are loaded.

    config and preprocessor are config.json and preprocessor_config.json of all `checkpoints`,
    merged. The first checkpoint holds the backbone. parts: the modalities that may be used; None
    means all.
    """

    release: Release
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    checkpoints: Sequence[Checkpoint]
    tokenizer: Tokenizer
    device: torch.device
    dtype: torch.dtype
    parts: Sequence[str] | None

    def load_backbone(self) -> Backbone:
        """The language model with its weights. Raises BadCheckpoint or BadConfig."""
        config = self.release.backbone(self.config)
        _check_size(config, self.checkpoints[0])
        _check_vocabulary(config, self.tokenizer)
        config = with_media_tokens(config, self.release.chat(config), self.tokenizer)
        self.tokenizer.limit = config.max_position_embeddings
        with on_meta():
            backbone = Backbone(config)
        slots = self.release.slots(config)
        load_module(backbone, self.checkpoints[0], slots, self.device, self.dtype)
        return backbone

    def load_encoder(self, modality: str) -> nn.Module:
        """The encoder of a modality with its weights, from the checkpoint that holds them.

        Raises MissingPlugin, BadCheckpoint or BadConfig.
        """
        encoder_class = self.encoder_entry(modality).load()
        tensors = sum(len(checkpoint.tensors) for checkpoint in self.checkpoints)
        with on_meta(most=4 * tensors + SLACK):
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
        wanted: dict[str, str | None] = {str(entry.extra["section"]): None for entry in entries}
        for entry in entries:
            section = self.config.get(entry.extra["section"])
            if section is not None:
                kind = Section(section, entry.extra["section"]).text("model_type", "")
                if kind.partition(":")[0] in (entry.name, *entry.extra.get("spellings", ())):
                    return entry
                wanted[entry.extra["section"]] = kind
        for name in wanted.values():
            if name is not None:
                raise missing_encoder(name)
        raise MissingPlugin(
            f"this model has no part for {modality}: its config.json lacks {' and '.join(wanted)}; "
            "use a model that has one"
        )


def open_sources(
    model: str | Path,
    device: str | torch.device,
    dtype: str | torch.dtype,
    parts: str | Sequence[str] | None,
) -> Sources:
    """Open a preset or a folder; see `ming_core.load` for the arguments and errors."""
    place, numbers, wanted = find_device(device), find_dtype(dtype), _parts(parts)
    folders = _folders(model)
    checkpoints = [open_checkpoint(folder) for folder in folders]
    config: dict[str, Any] = {}
    preprocessor: dict[str, Any] = {}
    for checkpoint in checkpoints:
        config |= checkpoint.config
        preprocessor |= checkpoint.preprocessor
    release = release_of(config)
    if not preprocessor:
        _check_preprocessor(config, wanted)
    size = sum(info.nbytes for checkpoint in checkpoints for info in checkpoint.tensors.values())
    return Sources(
        release=release,
        config=config,
        preprocessor=preprocessor,
        checkpoints=checkpoints,
        tokenizer=Tokenizer(folders[0]),
        device=place,
        dtype=_dtype(numbers, config, place, size),
        parts=wanted,
    )


def _folders(model: str | Path) -> list[Path]:
    """The folders of a preset, the backbone's first, or the one folder that was named.

    The name of a preset means the preset, even if the current folder holds a folder of that name.
    """
    path = Path(model)
    named = isinstance(model, str) and not any(sep in model for sep in ("/", os.sep))
    if named and (model in get_plugins().presets or not os.path.isdir(path)):
        parts = preset_folders(str(model))
        return [parts[name] for name in sorted(parts, key=lambda name: name != BACKBONE)]
    if not os.path.isdir(path):
        raise BadCheckpoint(
            f"there is no folder {str(model)!r}; give a checkpoint folder or a preset"
        )
    return [path]


def _parts(parts: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of parts, checked; a single one may be given as it is."""
    if parts is None:
        return None
    names = (parts,) if isinstance(parts, str) else tuple(parts)
    known = set(MODALITY_IDS)  # with or without the packages that bring them
    known.update(str(entry.extra["modality"]) for entry in get_plugins().encoders)
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise UnknownName("part", str(name), known)
    return names


def _check_preprocessor(config: Mapping[str, Any], parts: tuple[str, ...] | None) -> None:
    """Raises BadCheckpoint if an encoder that may be used cannot do without the missing file."""
    for entry in get_plugins().encoders:
        section = config.get(entry.extra["section"])
        kind = section.get("model_type") if isinstance(section, Mapping) else None
        if kind != entry.name or not (parts is None or entry.extra["modality"] in parts):
            continue
        if getattr(entry.load(), "needs_preprocessor", False):
            raise BadCheckpoint(
                f"the model has an encoder {entry.name!r} and no preprocessor_config.json, which "
                "says how its input is prepared; copy that file from the same release, or load the "
                'model with parts="text"'
            )


def _check_size(config: BackboneConfig, checkpoint: Checkpoint) -> None:
    """Compare with the header before anything is built: absurd numbers would take for ever.

    Twice too many names are left to the comparison that names them.
    """
    layers, dense = config.num_hidden_layers, config.first_k_dense_replace
    least = 2 * layers + 3 * config.num_experts * max(0, layers - dense)
    if least > 2 * len(checkpoint.tensors) + SLACK:
        raise BadCheckpoint(
            f"llm_config describes {layers} layers with {config.num_experts} experts, at least "
            f"{least} tensors, and {checkpoint.source} holds {len(checkpoint.tensors)}; use the "
            "weights and the config.json of one release"
        )


def _check_vocabulary(config: BackboneConfig, tokenizer: Tokenizer) -> None:
    if tokenizer.largest_id >= config.vocab_size:
        raise BadCheckpoint(
            f"tokenizer.json has a token {tokenizer.largest_id} and the embeddings of the model "
            f"end at {config.vocab_size - 1}; take config.json and tokenizer.json from the same "
            "release"
        )


def _dtype(
    wanted: torch.dtype | None, config: Mapping[str, Any], device: torch.device, size: int
) -> torch.dtype:
    if wanted is not None:
        return wanted
    if device.type == "cpu":
        return torch.float32 if size < SMALL else torch.bfloat16
    return DTYPES.get(str(config.get("torch_dtype")), torch.bfloat16)
