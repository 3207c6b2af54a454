"""Draws the packages and the rooms of the core into docs/architecture.md, from the import contracts
of pyproject.toml: `python docs/generate_rooms.py`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"


def layers(containers: list[str]) -> list[list[str]]:
    """The layers of the contract of these containers, the highest first, of what exists."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]
    (found,) = (
        contract["layers"]
        for contract in settings["contracts"]
        if contract["type"] == "layers" and contract.get("containers", []) == containers
    )
    return [
        [room for room in re.findall(r"\w+", layer) if not containers or exists(room)]
        for layer in found
    ]


def exists(room: str) -> bool:
    place = ROOT / "packages/ming-core/src/ming_core" / room
    return place.is_dir() or place.with_suffix(".py").is_file()


def drawing(floors: list[list[str]]) -> str:
    """One box for each layer; who stands higher may import what stands lower."""

    def lines() -> Iterator[str]:
        yield "```mermaid"
        yield "graph TD"
        for number, floor in enumerate(floors):
            yield f'    f{number}["{" · ".join(floor)}"]'
        for number in range(1, len(floors)):
            yield f"    f{number - 1} --> f{number}"
        yield "```"

    return "\n".join(lines())


def page() -> str:
    """The whole page with its figures."""
    text = PAGE.read_text("utf-8")
    for name, containers in (("packages", []), ("rooms", ["ming_core"])):
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"\n<!-- /{name} -->")
        text = (
            before + start + drawing([floor for floor in layers(containers) if floor]) + end + after
        )
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
