"""What nano has learnt, on scenes, pairs and phrasings it never met in training."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ming_core.api import OmniModel, load
from ming_core.presets import preset_folders
from ming_recipes.understanding.evaluate import evaluate

IMAGES = 50  # per slice and language: some 550 questions each, a standard error below 2 points


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


@pytest.mark.slow
def test_nano_answers_about_held_out_pictures(nano: OmniModel) -> None:
    scores = evaluate(nano, IMAGES)
    assert scores["test en"]["vqa"] >= 0.85
    assert scores["test zh"]["vqa"] >= 0.80
    for language in ("en", "zh"):
        kinds = {k: v for k, v in scores[f"test {language}"].items() if k not in ("vqa", "caption")}
        assert min(kinds.values()) >= 0.5, kinds  # the floor is 0.6; few questions of a kind here
        assert scores[f"compositional {language}"]["vqa"] >= 0.70
        seen, unseen = (scores[f"{name} {language}"]["vqa"] for name in ("test", "paraphrase"))
        assert unseen >= seen - 0.06  # the floor is 0.05 on more images


@pytest.mark.parametrize("part", ["backbone", "vision"])
def test_the_weights_tell_how_they_were_made_and_what_they_reach(part: str) -> None:
    report = json.loads((preset_folders("nano")[part] / "training.json").read_text("utf-8"))
    assert report["command"].startswith("ming train nano-understanding")
    assert report["world"] == "shapes-world/1"
    metrics = report["metrics"]
    assert metrics["test en"]["vqa"] >= 0.85
    assert metrics["test zh"]["vqa"] >= 0.80
    for language in ("en", "zh"):
        kinds = {k: v for k, v in metrics[f"test {language}"].items() if k != "caption"}
        assert min(kinds.values()) >= 0.60, kinds
        assert metrics[f"compositional {language}"]["vqa"] >= 0.70
        seen, unseen = (metrics[f"{name} {language}"]["vqa"] for name in ("test", "paraphrase"))
        assert unseen >= seen - 0.05


def test_the_shipped_parts_are_small() -> None:
    sizes = [
        Path(folder, "model.safetensors").stat().st_size
        for folder in preset_folders("nano").values()
    ]
    assert sum(sizes) < 25e6
