"""`ming models`: which models can be loaded here, and what a model consists of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ming_core.cli.common import JsonOption, megabytes
from ming_core.cli.tables import print_table, print_text
from ming_core.cli.terminal import print_json
from ming_core.errors import BadCheckpoint
from ming_core.plugins import get_plugins
from ming_core.presets import BACKBONE, PresetPart, PresetParts, preset, presets

if TYPE_CHECKING:
    from ming_core.checkpoints.knowledge import Knowledge
    from ming_core.inventory import Found


def models(
    name: Annotated[
        str | None,
        typer.Argument(help="A preset or a folder; also shows its components and what it knows."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List presets, and whether their files are here; or show what one model consists of.

    Example: ming models nano
    """
    if name is not None and not _is_preset(name):
        _show_folder(Path(name), as_json)
        return
    found = presets() if name is None else [preset(name)]
    ready = name is not None and _folders(found[0])
    components = _inventory(found[0].name) if ready else []
    knowledge = _knowledge(ready or [])
    if as_json:
        more = {} if name is None else {"components": [_component(each) for each in components]}
        known = {} if knowledge is None else {"knows": knowledge[0]}
        print_json({"models": [{**_as_dict(each), **more, **known} for each in found]})
        return
    rows = [(p.name, _state(p), _parts(p), p.summary) for p in found]
    print_table([("model", "weights", "parts", "summary"), *rows])
    _show(components, knowledge)


def _is_preset(name: str) -> bool:
    """As `load` decides: a preset's name means the preset, also where a folder has it."""
    named = not any(sep in name for sep in ("/", os.sep))
    return named and (name in get_plugins().presets or not os.path.isdir(name))


def _show_folder(folder: Path, as_json: bool) -> None:
    components, knowledge = _inventory(folder), _knowledge([folder])
    if not components:
        raise BadCheckpoint(f"{folder} has a config.json and no weights; finish the download")
    if as_json:
        known = {} if knowledge is None else {"knows": knowledge[0]}
        listed = [_component(each) for each in components]
        print_json({"models": [{"name": str(folder), "components": listed, **known}]})
        return
    _show(components, knowledge)


def _show(components: list[Found], knowledge: tuple[Any, Knowledge] | None) -> None:
    if components:
        rows = [(c.name, megabytes(c.nbytes), _reader(c), str(c.folder)) for c in components]
        print_text("\n")
        print_table([("component", "size", "read by", "folder"), *rows])
    if knowledge is not None:
        print_text(f"\n{knowledge[1].page()}")


def _folders(preset: PresetParts) -> list[Path]:
    """Where its parts are on this machine, the backbone's first; none while one is incomplete."""
    parts = sorted(preset.parts.values(), key=lambda part: part.name != BACKBONE)
    return [part.folder for part in parts if part.folder is not None and not part.lacks]


def _inventory(model: str | Path) -> list[Found]:
    from dataclasses import replace

    from ming_core.inventory import inventory
    from ming_core.loading import open_sources

    sources = open_sources(model, "cpu", "auto", parts=())  # nothing but JSON files is read
    return inventory(replace(sources, parts=None))


def _knowledge(folders: list[Path]) -> tuple[Any, Knowledge] | None:
    """The section of config.json as it stands, and read; None if the model does not tell."""
    from ming_core.checkpoints.files import inside, read_json
    from ming_core.checkpoints.knowledge import SECTION, Knowledge

    config = read_json(inside(folders[0], "config.json")) if folders else {}
    knowledge = Knowledge.from_config(config)
    return None if knowledge is None else (config[SECTION], knowledge)


def _reader(component: Found) -> str:
    if component.reader is not None:
        lacks = ", ".join(component.lacks[:2])
        return component.reader + (f", lacks {lacks}" if lacks else "")
    if component.package is not None:
        return f"nothing yet: pip install {component.package}"
    return "no installed package"


def _component(component: Found) -> dict[str, Any]:
    return {
        "name": component.name,
        "bytes": component.nbytes,
        "folder": str(component.folder),
        "reader": component.reader,
        "package": component.package,
        "lacks": list(component.lacks),
    }


def _state(preset: PresetParts) -> str:
    if preset.ready:
        return "ready"
    return "incomplete" if any(part.lacks for part in preset.parts.values()) else "not here"


def _parts(preset: PresetParts) -> str:
    have = [_part(part) for part in preset.parts.values()]
    lack = [f"no {part} (pip install {package})" for part, package in preset.missing.items()]
    return ", ".join([*have, *lack])


def _part(part: PresetPart) -> str:
    from ming_core.checkpoints.files import listing

    if part.folder is None:
        return f"{part.name} {part.target}"
    lacks = f", lacks {listing(part.lacks, 2)}" if part.lacks else ""
    return f"{part.name} {megabytes(part.size)}{lacks}"


def _as_dict(preset: PresetParts) -> dict[str, object]:
    return {
        "name": preset.name,
        "ready": preset.ready,
        "summary": preset.summary,
        "parts": [
            {
                "name": part.name,
                "plugin": part.plugin,
                "target": part.target,
                "here": part.folder is not None,
                "lacks": part.lacks,
                "bytes": part.size,
            }
            for part in preset.parts.values()
        ],
        "missing": preset.missing,
    }
