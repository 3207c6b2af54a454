"""From a preset's name or a checkpoint folder to components with weights."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from ming_core.chat.formats import with_media_tokens
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.components import SLACK, Component, Loaded, Prepared, prepare
from ming_core.checkpoints.files import joined
from ming_core.checkpoints.formats import Checkpoint, open_part
from ming_core.checkpoints.keymap import Slot, identity_slots
from ming_core.checkpoints.tokenizers import tokenizer_of
from ming_core.devices import DTYPES, by_part, find_device, find_dtype
from ming_core.errors import BadCheckpoint, BadConfig, MingError, MissingPlugin, UnknownName
from ming_core.fields import Section, shown
from ming_core.modalities import MODALITY_IDS
from ming_core.model.config import BackboneConfig
from ming_core.model.transformer import Backbone
from ming_core.plugins import describe, get_plugins
from ming_core.plugins.directory import missing_encoder, missing_head, missing_media
from ming_core.plugins.kinds import MODALITIES, EncoderEntry, HeadEntry, PartEntry
from ming_core.presets import BACKBONE, preset_folders
from ming_core.release import Release, release_of

PartT = TypeVar("PartT", bound=PartEntry)

SMALL = 4 * 2**30
"""Bytes of weights below which CPU inference runs in float32, where it is fastest."""

TEXT = "text"
"""What `parts` calls the language model; its component is the backbone."""

HEAD = "_head"
"""How the name of a head ends, as in `image_head`."""


@dataclass(frozen=True)
class Sources:
    """Where the components of a model come from, and how they are loaded.

    Attributes:
        config, preprocessor: config.json and preprocessor_config.json of all `checkpoints`, merged.
        checkpoints: Their folders. The first one holds the backbone.
        find_tokenizer: Reads the tokenizer. Raises BadCheckpoint.
        device, dtype: Of all parts but those in `own`.
        parts: The parts that may be used, as `load` names them; None means all.
    """

    release: Release
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    checkpoints: Sequence[Checkpoint]
    find_tokenizer: Callable[[], Tokenizer]
    device: torch.device
    dtype: torch.dtype
    parts: Sequence[str] | None = None
    own: Mapping[str, tuple[torch.device, torch.dtype]] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        # A release holds functions, which a copy finds again by config.json.
        return {name: value for name, value in vars(self).items() if name != "release"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, release=release_of(state["config"]))

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Raises BadCheckpoint if it is missing or damaged."""
        return self.find_tokenizer()

    @cached_property
    def backbone_config(self) -> BackboneConfig:
        """The configuration of the language model; its weights are not needed.

        Raises BadCheckpoint or BadConfig.
        """
        config = self.release.backbone(self.config)
        _check_vocabulary(config, self.tokenizer)
        config = with_media_tokens(config, self.release.chat(config), self.tokenizer)
        self.tokenizer.limit = config.max_position_embeddings
        return config

    def components(self, part: str) -> list[str]:
        """Names of the components of a part: several of a head, one of every other part.

        Raises MissingPlugin if no installed package reads the part, or if it was not loaded.
        """
        self.require(part)
        if not part.endswith(HEAD):
            return [BACKBONE if part == TEXT else part]
        return [f"{part}.{component.name}" for component in self._of_head(part)]

    def prepare(self, name: str) -> Prepared:
        """Build a component on `meta` and compare it with the headers of its weights.

        name: "backbone", a modality, or a part of a head such as "image_head.vae".
        Raises MissingPlugin, UnknownName, BadCheckpoint or BadConfig.
        """
        part = part_of(name)
        self.require(part)
        if part == TEXT:
            return self._prepare_backbone()
        if not part.endswith(HEAD):
            return self._prepare_encoder(part)
        found = {f"{part}.{component.name}": component for component in self._of_head(part)}
        if name not in found:
            raise UnknownName("component", name, found)
        component = found[name]
        return prepare(component, self.config, self._holder(component))

    def load(self, name: str, prepared: Prepared | None = None) -> Loaded:
        """A component with its weights, on the device of its part.

        prepared: what `prepare` has found before. Raises as `prepare`, and BadCheckpoint for values
        that are not finite.
        """
        prepared = prepared or self.prepare(name)
        return prepared.read(*self.own.get(part_of(name), (self.device, self.dtype)))

    def made(self, name: str, module: nn.Module) -> Loaded:
        """A module that was put in the place of a component, as it will be written."""
        backbone = isinstance(module, Backbone)
        slots = self.release.slots(module.config) if backbone else identity_slots(module)
        return Loaded(self.release.folder(name), "", module, slots)

    def require(self, part: str) -> None:
        """Raises MissingPlugin for a part that was not among `parts` when the model was loaded."""
        if self.parts is None or part in self.parts:
            return
        what = "without its language model, so it answers no question" if part == TEXT else None
        raise MissingPlugin(
            f"this model was loaded with parts={list(self.parts)}"
            f"{f', {what}' if what else ''}; load it with {part!r} among them to use it"
        )

    def encoder_entry(self, modality: str) -> EncoderEntry:
        """The registered encoder that config.json names for a modality.

        What follows a colon in the `model_type` is the encoder's own business.
        """
        self.require(modality)
        entries = [e for e in get_plugins().encoders if e.modality == modality]
        if not entries:
            raise missing_media(modality)
        entry, wanted = self._chosen(entries)
        if entry is not None:
            return entry
        for name in wanted.values():
            if name is not None:
                raise missing_encoder(name)
        raise MissingPlugin(
            f"this model has no part for {modality}: its config.json lacks {' and '.join(wanted)}; "
            "use a model that has one"
        )

    def head_entry(self, gives: str) -> HeadEntry:
        """The registered head that gives a medium and that the model names."""
        self.require(gives + HEAD)
        entries = [e for e in get_plugins().heads if e.gives == gives]
        if not entries:
            raise missing_head(gives)
        entry, wanted = self._chosen(entries)
        if entry is not None:
            return entry
        named = [name for name in wanted.values() if name is not None]
        raise MissingPlugin(
            f"no installed package reads the head {named[0]!r} of this model; see `ming plugins`"
            if named
            else f"this model has no part that makes {gives}: it lacks {' and '.join(wanted)}; "
            "use a model that has one"
        )

    def section(self, name: str) -> Any:
        """A section of config.json, or the config.json of the folder of that name; None if absent.

        The released heads have folders of their own.
        """
        if name in self.config:
            return self.config[name]
        for checkpoint in self.checkpoints:
            if checkpoint.has(name):
                return open_part(checkpoint.root, name).config or None
        return None

    def _chosen(self, entries: Sequence[PartT]) -> tuple[PartT | None, dict[str, str | None]]:
        """The entry that its section names, and what all sections name."""
        wanted: dict[str, str | None] = {entry.section: None for entry in entries}
        for entry in entries:
            section = self.section(entry.section)
            if section is not None:
                settings = Section(section, entry.section)
                kind = settings.text("model_type", "") or settings.text("_class_name", "")
                if entry.reads(kind):
                    return entry, wanted
                wanted[entry.section] = kind
        return None, wanted

    def head(self, gives: str, parts: Mapping[str, nn.Module]) -> Any:
        """The head that gives a medium, put together from its loaded components, by name.

        Raises MissingPlugin, BadCheckpoint or BadConfig.
        """
        entry = self.head_entry(gives)
        head_class = entry.load()
        files = {
            joined(component.folder, name): path
            for component in components_of(entry, self.config)
            if component.files
            for name, path in component.paths(self._holder(component)).items()
        }
        return head_class(self.config, parts, files)

    def _of_head(self, part: str) -> Sequence[Component]:
        return components_of(self.head_entry(part.removesuffix(HEAD)), self.config)

    def _prepare_backbone(self) -> Prepared:
        config = self.backbone_config
        folder = self.release.folder(BACKBONE)
        part = open_part(self.checkpoints[0].root, folder) if folder else self.checkpoints[0]
        _check_size(config, part)

        def slots(_: nn.Module) -> Mapping[str, Slot]:
            return self.release.slots(config)

        component = Component(BACKBONE, lambda _: Backbone(config), folder, slots=slots)
        return prepare(component, self.config, part, checked=True)

    def _prepare_encoder(self, modality: str) -> Prepared:
        entry = self.encoder_entry(modality)
        encoder_class = entry.load()

        def build(_: Mapping[str, Any]) -> nn.Module:
            return encoder_class.from_config(self.config, self.preprocessor)

        folder = self.release.folder(modality)
        component = Component(modality, build, folder)
        return prepare(component, self.config, self._holder(component, entry.section))

    def _holder(self, component: Component, section: str = "") -> Checkpoint:
        """The folder that holds a component: one of a preset's is that with its settings."""
        folder, section = component.folder, section or component.section
        holds = [
            checkpoint
            for checkpoint in self.checkpoints
            if (checkpoint.has(folder) if folder else section in checkpoint.config)
        ]
        root = (holds or self.checkpoints)[-1]
        if not folder:
            return root
        return open_part(root.root, folder, component.weights)


def open_sources(
    model: str | Path,
    device: str | torch.device | Mapping[str, str | torch.device],
    dtype: str | torch.dtype | Mapping[str, str | torch.dtype],
    parts: str | Sequence[str] | None,
) -> Sources:
    """Open a preset or a folder; see `ming_core.load` for the arguments and errors.

    Reads the JSON files. Headers are read, and the tokenizer is, only if all parts may be used or
    the language model is among them.
    """
    wanted = _parts(parts)
    places = {
        name: find_device(value) for name, value in by_part(device, part_name, "auto").items()
    }
    numbers = {name: find_dtype(value) for name, value in by_part(dtype, part_name, "auto").items()}
    folders = _folders(model)
    checkpoints = [open_part(folder) for folder in folders]
    config: dict[str, Any] = {}
    preprocessor: dict[str, Any] = {}
    for checkpoint in checkpoints:
        config |= checkpoint.config
        preprocessor |= checkpoint.preprocessor
    release = release_of(config)
    if not preprocessor:
        _check_preprocessor(config, wanted)
    size = sum(checkpoint.tensors.nbytes() for checkpoint in checkpoints)

    def both(name: str) -> tuple[torch.device, torch.dtype]:
        place = places.get(name, places[""])
        return place, _dtype(numbers.get(name, numbers[""]), config, place, size)

    sources = Sources(
        release,
        config,
        preprocessor,
        checkpoints,
        partial(_find_tokenizer, checkpoints[0].root, config),
        *both(""),
        parts=wanted,
        own={name: both(name) for name in places.keys() | numbers.keys() if name},
    )
    if wanted is None:
        for number, checkpoint in enumerate(checkpoints):
            if not number or checkpoint.tensors.files:  # a head has its weights in sub-folders
                checkpoint.tensors.check()
    if wanted is None or TEXT in wanted:
        _ = sources.tokenizer
    return sources


def _find_tokenizer(root: Path, config: Mapping[str, Any]) -> Tokenizer:
    return tokenizer_of(root, release_of(config), config)


def components_of(entry: HeadEntry, config: Mapping[str, Any]) -> Sequence[Component]:
    """The components of a registered head. Raises MissingPlugin for a head that is broken."""
    head_class = entry.load()
    try:
        found = list(head_class.components(config))
        if not all(isinstance(component, Component) for component in found):
            raise TypeError(f"it gave {shown(found)}")
    except (KeyboardInterrupt, MingError):
        raise
    except BaseException as error:
        raise MissingPlugin(
            f"components of the head {entry.name!r} of {entry.plugin} raised {describe(error)}; "
            f"update {entry.plugin}, or take config.json from the release"
        ) from error
    return found


def part_of(component: str) -> str:
    """The part that a component belongs to, as `parts` names it."""
    return TEXT if component == BACKBONE else component.partition(".")[0]


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


def part_name(name: Any) -> str:
    """A name of `parts`, checked. Raises UnknownName, which offers the nearest one."""
    known = set(MODALITY_IDS)  # with or without the packages that bring them
    known.update(entry.modality for entry in get_plugins().encoders)
    known.update(entry.gives + HEAD for entry in get_plugins().heads)
    name = TEXT if name == BACKBONE else name
    if name in [modality + HEAD for modality in MODALITIES]:
        return name  # where no package brings it, its use says so
    if not isinstance(name, str) or name not in known:
        raise UnknownName(
            "part", str(name), known | set(get_close_matches(str(name), [BACKBONE], n=1))
        )
    return name


def _parts(parts: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """The names of parts, checked; a single one may be given as it is."""
    if parts is None:
        return None
    if not isinstance(parts, Iterable):
        raise BadConfig(f"parts must be a name or a list of names, not {shown(parts)}")
    return tuple(map(part_name, (parts,) if isinstance(parts, str) else parts))


def _check_preprocessor(config: Mapping[str, Any], parts: tuple[str, ...] | None) -> None:
    """Raises BadCheckpoint if an encoder that may be used cannot do without the missing file."""
    for entry in get_plugins().encoders:
        section = config.get(entry.section)
        kind = section.get("model_type") if isinstance(section, Mapping) else None
        if kind != entry.name or not (parts is None or entry.modality in parts):
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
