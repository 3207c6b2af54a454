"""A new head as a folder that belongs to a model."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from ming_core.checkpoints.components import Component
from ming_core.checkpoints.files import STEMS, joined
from ming_core.checkpoints.writing import checkpoint_folder, of_parts, write_json, write_weights


def save_head(
    components: Sequence[Component],
    parts: Mapping[str, nn.Module],
    folder: str | Path,
    config: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    files: Mapping[str, Path] | None = None,
) -> Path:
    """Write the components of a new head: a part of a preset, or what a checkpoint lacks.

    parts: modules by the name of the component. config: config.json of `folder`, with the section
    that names the head. settings: config.json of each component's own folder, by its name. files:
    what components ask for, by path below the model's folder.

    `OmniModel.save` writes the heads of a model that has them already. The folder appears at once,
    complete, or not at all. Raises BadCheckpoint if it is not empty or cannot be written.
    """
    with checkpoint_folder(folder) as place:
        write_json(place / "config.json", config)
        groups: dict[tuple[str, str], list[Component]] = {}
        for component in components:
            groups.setdefault((component.folder, component.weights), []).append(component)
            (place / component.folder).mkdir(parents=True, exist_ok=True)
            if component.folder and not component.section:
                own = (settings or {}).get(component.name, {})
                write_json(place / component.folder / "config.json", own)
            for name in component.files:
                target = place / component.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile((files or {})[joined(component.folder, name)], target)
        for (sub, stem), group in groups.items():
            modules = {c.name: (parts[c.name], c.slots(parts[c.name])) for c in group}
            write_weights(place / sub, of_parts(modules, None), stem=stem or STEMS[0])
    return Path(folder)
