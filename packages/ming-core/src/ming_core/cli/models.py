"""`ming models`: which models can be loaded here."""

from __future__ import annotations

from ming_core.checkpoints.files import listing
from ming_core.cli.common import JsonOption, megabytes
from ming_core.cli.tables import print_table
from ming_core.cli.terminal import print_json
from ming_core.presets import PresetPart, PresetParts, presets


def models(as_json: JsonOption = False) -> None:
    """List presets: what is here, what is missing.

    Example: ming models --json
    """
    found = presets()
    if as_json:
        print_json({"models": [_as_dict(preset) for preset in found]})
        return
    rows = [(p.name, _state(p), _parts(p), p.summary) for p in found]
    print_table([("model", "weights", "parts", "summary"), *rows])


def _state(preset: PresetParts) -> str:
    if preset.ready:
        return "ready"
    return "incomplete" if any(part.lacks for part in preset.parts.values()) else "not here"


def _parts(preset: PresetParts) -> str:
    have = [_part(part) for part in preset.parts.values()]
    lack = [f"no {part} (pip install {package})" for part, package in preset.missing.items()]
    return ", ".join([*have, *lack])


def _part(part: PresetPart) -> str:
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
