"""Somebody's default dtype or device changes nothing, and leaves nothing behind in a cache."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ming_audio.fbank import fbank_features, released_cmvn
from ming_audio.logmel import log_mel
from ming_core import Audio, Image, load, user
from ming_core.model.config import BackboneConfig
from ming_core.model.positions import PositionRule, rope_index
from ming_core.model.rotary import Rotary
from ming_vision.layout import layout, resampling

MAKERS = re.compile(
    r"torch\.(as_?tensor|tensor|arange|zeros|ones|empty|full|linspace|eye|rand\w*|ham\w+|hann\w+)"
)


def forget() -> None:
    """Empty every cache of the packages, as in a new process."""
    modules = [
        m for name, m in sys.modules.items() if name.startswith(("ming_audio", "ming_vision"))
    ]
    for thing in [thing for module in modules for thing in vars(module).values()]:
        if hasattr(thing, "cache_clear"):
            thing.cache_clear()


@contextmanager
def defaults(name: str) -> Iterator[None]:
    if name == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(getattr(torch, name))
    try:
        yield
    finally:
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)


def values(repository: Path) -> dict[str, Any]:
    """What constants and caches go into, from the front ends to the answers."""
    docs = repository / "docs"
    tone = (0.1 * np.sin(np.arange(16_000) * 0.2)).astype(np.float32)
    cpu = torch.device("cpu")
    grids = torch.tensor([[1, 600, 4]], device=cpu)
    tokens = [7] * 5 + [8] + [9] * 600 + [7] * 5
    ids, here = torch.tensor([tokens], device=cpu), torch.ones(1, 611, device=cpu)
    rule = PositionRule(
        kind="mrope",
        image_patch=9,
        video_patch=9,
        image_start=8,
        video_start=6,
        merge=2,
        interleaved=False,
    )
    model = load("nano", device="cpu")
    config: BackboneConfig = model.config
    picture = Image(docs / "images/scene.png")
    session = model.watch(frames=4)
    for second in range(4):
        session.see(docs / "images/scene.png", seconds=second)
    asked = [[user(picture, "How many shapes?")], [user("What is red?")]]
    return {
        "log_mel": log_mel(tone),
        "fbank": fbank_features(tone, released_cmvn()),
        "layout": layout(((1, 8, 12),), 2, 2, cpu).position,
        "resampling": resampling(((1, 300, 302),), 48, 2, cpu)[1],
        "positions": rope_index(rule, ids, here, grids)[0],
        "rotary": Rotary(config.rope)(rope_index(rule, ids, here, grids)[0])[0],
        "sampled": model.ask("What is red?", picture, temperature=1.0, top_k=5, seed=1),
        "video": model.describe(docs / "images/clip.mp4"),
        "heard": model.transcribe(docs / "sounds/talk.flac"),
        "spoken": model.ask(Audio(docs / "sounds/question.flac"), picture),
        "batch": model.answer_batch(asked),
        "watched": session.ask("What shape is at the top left?"),
    }


@pytest.fixture(scope="module")
def usual(repository: Path) -> dict[str, Any]:
    forget()
    return values(repository)


@pytest.mark.parametrize("name", ["bfloat16", "float64", "meta"])
def test_defaults_change_nothing(name: str, usual: dict[str, Any], repository: Path) -> None:
    forget()
    with defaults(name):
        found = values(repository)
    again = values(repository)  # with what is in the caches now
    for result in (found, again):
        for key, value in usual.items():
            if isinstance(value, torch.Tensor):
                assert result[key].dtype == value.dtype, key
                assert torch.equal(result[key], value), key
            else:
                assert result[key] == value, key
    forget()


def test_every_tensor_that_is_made_names_its_device(repository: Path) -> None:
    """Parameters are the exception: where a module is built is its builder's choice."""
    nameless = []
    for path in sorted((repository / "packages").rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        built = [f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)]
        skipped = {id(n) for f in built if f.name == "__init__" for n in ast.walk(f)}
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or id(node) in skipped:
                continue
            if any(keyword.arg == "device" for keyword in node.keywords):
                continue
            if MAKERS.fullmatch(ast.unparse(node.func)):
                nameless.append(f"{path.name}:{node.lineno} {ast.unparse(node)}")
    assert nameless == []
