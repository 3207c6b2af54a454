"""What nano has learnt, on scenes, pairs and phrasings it never met in training.

Thresholds lie a few points below what the shipped weights reached (docs/nano.md), for fewer images.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ming_core.api import OmniModel, load
from ming_core.media import Image
from ming_core.presets import preset_folders
from ming_recipes.understanding.evaluate import evaluate
from ming_recipes.world.scene import SPLITS

IMAGES = 40  # per slice and language: some 430 questions each, a standard error below 2 points
LEARNT = (
    "background",
    "color",
    "count_all",
    "count_color",
    "count_shape",
    "exist",
    "locate",
    "position",
    "shape",
    "size",
)


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


@pytest.mark.slow
def test_nano_answers_about_held_out_pictures(nano: OmniModel) -> None:
    scores = evaluate(nano, IMAGES)
    for language in ("en", "zh"):
        test = scores[f"test {language}"]
        assert test["vqa"] >= 0.82
        assert {kind: test[kind] for kind in LEARNT if test[kind] < 0.7} == {}
        assert test["relation_query"] >= 0.6  # a guess among the other objects: about 0.4
        assert test["text"] >= 0.3  # a guess: below 0.01
    assert scores["compositional en"]["vqa"] >= 0.68
    assert scores["paraphrase en"]["vqa"] >= scores["test en"]["vqa"] - 0.06


@pytest.mark.parametrize("part", ["backbone", "vision"])
def test_the_weights_tell_how_they_were_made_and_what_they_reach(part: str) -> None:
    report = json.loads((preset_folders("nano")[part] / "training.json").read_text("utf-8"))
    assert report["command"].startswith("ming train nano-understanding")
    assert report["world"] == "shapes-world/1"
    assert set(report["world_fingerprint"]) == set(SPLITS)
    metrics = report["metrics"]
    assert metrics["test en"]["vqa"] >= 0.85
    assert metrics["test zh"]["vqa"] >= 0.80
    assert metrics["paraphrase en"]["vqa"] >= metrics["test en"]["vqa"] - 0.05


def test_demo_answers(nano: OmniModel) -> None:
    picture = Image(preset_folders("nano")["backbone"] / "demo.png")
    assert nano.ask("how many shapes are there?", picture).text == "4"
    assert nano.ask("what color is the star?", picture).text == "purple"
    assert nano.ask("粉色的图形是什么形状？", picture).text == "十字"


def test_the_shipped_parts_are_small() -> None:
    folders = preset_folders("nano").values()
    assert sum(Path(folder, "model.safetensors").stat().st_size for folder in folders) < 25e6
