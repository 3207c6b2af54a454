"""Write what nano knows into docs/nano.md: `python docs/generate_knowledge.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path

from ming_core.checkpoints.knowledge import Knowledge
from ming_core.presets import BACKBONE, preset_folders

PAGE = Path(__file__).parent / "nano.md"
BLOCK = re.compile(r"(<!-- knows -->\n).*?(<!-- /knows -->)", re.DOTALL)


def written(page: str) -> str:
    """The page with its block as it should be."""
    config = json.loads((preset_folders("nano")[BACKBONE] / "config.json").read_text("utf-8"))
    knowledge = Knowledge.from_config(config)
    assert knowledge is not None
    return BLOCK.sub(lambda match: f"{match[1]}```text\n{knowledge.page()}```\n{match[2]}", page)


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
