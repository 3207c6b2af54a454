"""Three small heads of a third-party package: painted, spoken, trained."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from ming_core.contract import HeadExample, check_head

Painter = import_module("acme_heads.painter").Painter
Reader = import_module("acme_heads.reader").Reader
Talker = import_module("acme_heads.talker").Talker

VOICES = {"ann": [1.0, 0.0], "bob": [0.0, 1.0]}
CONFIG = {
    "painter_config": {"model_type": "acme_painter"},
    "talker_config": {"model_type": "acme_talker", "hidden_size": 12, "thinker_width": 32},
    "reader_config": {"model_type": "acme_reader"},
}
SETTINGS = {
    "front": {"width": 32, "scales": [1, 2]},
    "transformer": {"tokens": 4, "hidden": 64},
    "flow": {"width": 8, "voice": 2},
}


def picture(red: float) -> torch.Tensor:
    colour = torch.tensor([red, 1 - red, 0.2])
    return colour.view(3, 1, 1).expand(3, 4, 4)


@pytest.fixture
def voices(tmp_path: Path) -> dict[str, Path]:
    (tmp_path / "voices.json").write_text(json.dumps(VOICES), "utf-8")
    return {"reader/voices.json": tmp_path / "voices.json"}


def example(head_class: type[Any], files: dict[str, Path]) -> HeadExample:
    inputs: dict[type[Any], list[dict[str, Any]]] = {
        Painter: [
            {"references": [picture(0.1), picture(0.3)], "target": picture(1)},
            {"target": picture(0)},
        ],
        Talker: [{"text": "yes", "codes": [1, 2, 3]}, {"text": "oh!", "codes": [0, 5, 15]}],
        Reader: [
            {"voice": "ann", "text": "yes", "target": torch.randn(96)},
            {"voice": "bob", "text": "no.", "target": torch.randn(96)},
        ],
    }
    return HeadExample(CONFIG, inputs[head_class], SETTINGS, files)


@pytest.mark.parametrize("head_class", [Painter, Talker, Reader])
def test_the_contract(head_class: type[Any], voices: dict[str, Path]) -> None:
    check_head(head_class, example(head_class, voices))
