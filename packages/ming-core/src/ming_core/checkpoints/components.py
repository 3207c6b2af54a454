"""Components: the parts of a model that have weights, wherever they lie in its folder.

The language model, each encoder and each part of a head is a component. Each has a folder, a
section of config.json and tensor names of its own. So two components may have tensors of the same
name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ming_core.checkpoints.formats import Checkpoint
from ming_core.checkpoints.keymap import Slot, identity_slots
from ming_core.checkpoints.reading import Match, fill, match, on_meta
from ming_core.errors import BadCheckpoint, MingError
from ming_core.fields import shown

SLACK = 1000
"""Tensors that a part may be too large by until its names are compared one by one."""


@dataclass(frozen=True)
class Component:
    """What a part of a model is called, where it lies on disk and how it is built.

    Attributes:
        name: Unique among the components of its owner, e.g. "transformer".
        build: Makes the module from its settings. It is called with torch's default device set to
            "meta", so that nothing is allocated. A buffer that is not saved must be made with
            `device="cpu"`.
        folder: Its folder below that of the model, "" for the model's own.
        section: Its settings are this section of the model's config.json; "" means the config.json
            of its own folder, or {} if there is none.
        weights: Name of its file of weights without the ending `.safetensors`; "" means
            `model` or `diffusion_pytorch_model`, in one file or in shards with an index.
        slots: Released tensor name -> place in the module.
        files: What it needs besides, as paths below its folder, e.g. "tokenizer.json".
        spare: Prefixes of tensors that lie beside its own and are not read. In the model's own
            folder, the tensors of other components need no prefix here.
        dtype: Its dtype, whatever the dtype of the model is; None is that of the model.
    """

    name: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    folder: str = ""
    section: str = ""
    weights: str = ""
    slots: Callable[[nn.Module], Mapping[str, Slot]] = identity_slots
    files: tuple[str, ...] = ()
    spare: tuple[str, ...] = ()
    dtype: torch.dtype | None = None

    def settings(self, config: Mapping[str, Any], part: Checkpoint) -> Mapping[str, Any]:
        """Its section of the model's `config`, or the config.json of its folder `part`.

        Raises BadCheckpoint if the section is absent or no object.
        """
        if not self.section:
            return part.config if part.sub else config
        section = config.get(self.section)
        if not isinstance(section, Mapping):
            raise BadCheckpoint(
                f"config.json has {shown(section)} as {self.section}, which holds the settings of "
                f"{self.name}; take config.json from the release"
            )
        return section

    def paths(self, part: Checkpoint) -> dict[str, Path]:
        """Its `files`, by name. Raises BadCheckpoint for one that is missing."""
        found = {name: part.path(name) for name in self.files}
        missing = [name for name, path in found.items() if not path.is_file()]
        if missing:
            raise BadCheckpoint(
                f"{part.folder} has no {missing[0]}, which {self.name} needs; finish the download "
                "or copy it from the release"
            )
        return found


@dataclass(frozen=True)
class Prepared:
    """A component whose module is built and fits the headers of its weights, which are not read."""

    component: Component
    part: Checkpoint
    module: nn.Module
    slots: Mapping[str, Slot]
    match: Match

    @property
    def nbytes(self) -> int:
        """Bytes of weights that `read` reads."""
        return sum(self.part.tensors[name].nbytes for name in self.match)

    def read(self, device: torch.device, dtype: torch.dtype) -> Loaded:
        """Read the weights; the module is ready for inference then. Raises BadCheckpoint."""
        fill(self.module, self.part, self.slots, self.match, device, self.component.dtype or dtype)
        self.module.to(device).eval()  # `to`: buffers that no checkpoint holds
        return Loaded(self.component.folder, self.component.weights, self.module, self.slots)


@dataclass(frozen=True)
class Loaded:
    """A component with its weights: what is needed to write it.

    folder and weights: as of its `Component`. slots: the released names of its tensors.
    """

    folder: str
    weights: str
    module: nn.Module
    slots: Mapping[str, Slot]


def prepare(
    component: Component, config: Mapping[str, Any], part: Checkpoint, checked: bool = False
) -> Prepared:
    """Build a component on `meta` and compare it with the headers of the files in `part`.

    config: that of the whole model. checked: the size of the component is known to be sensible.
    Reads no weights. Raises BadCheckpoint or BadConfig.
    """
    component.paths(part)
    settings = component.settings(config, part)
    try:
        with on_meta(most=None if checked else 4 * len(part.tensors) + SLACK):
            module = component.build(settings)
        if not isinstance(module, nn.Module):
            raise TypeError(f"it was built as {shown(module)} and no nn.Module")
        slots = component.slots(module)
    except MingError:
        raise
    except Exception as error:  # settings that its package does not check
        raise BadCheckpoint(
            f"{component.name} cannot be built from its settings in {part.folder}: "
            f"{type(error).__name__}: {error}; take config.json from the release, or update the "
            "package that reads it"
        ) from error
    hollow = [n for n, b in module.named_buffers() if b.is_meta and n not in module.state_dict()]
    if hollow:
        raise BadCheckpoint(
            f"{component.name} has a buffer {shown(hollow[0])} that no file holds and that its "
            'package left without values; the package must make it with device="cpu"'
        )
    fits = match(module, part, slots, component.spare, whole=bool(part.sub))
    return Prepared(component, part, module, slots, fits)
