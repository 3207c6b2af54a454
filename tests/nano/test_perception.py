"""What nano has learnt, on scenes, pairs and phrasings it never met in training.

Thresholds lie a few points below what the shipped weights reached (docs/nano.md), for fewer images.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ming_core.api import OmniModel, load
from ming_core.checkpoints.formats import fingerprint, open_checkpoint
from ming_core.media import Image
from ming_core.presets import preset_folders
from ming_recipes.nano.scores.benchmark import NanoPerception, evaluate
from ming_recipes.nano.world.scene import SPLITS

FLOOR = {
    "vqa": 0.88,
    "caption": 0.42,
    "background": 0.9,
    "click": 0.7,
    "color": 0.9,
    "count_all": 0.85,
    "count_color": 0.85,
    "count_shape": 0.85,
    "exist": 0.9,
    "locate": 0.75,
    "position": 0.85,
    "relation": 0.85,  # a guess: 0.5
    "relation_query": 0.65,  # a guess among the other objects: about 0.4
    "relation_side": 0.8,
    "shape": 0.9,
    "size": 0.9,
    "text": 0.9,  # a guess: below 0.01
}
IMAGES = 40  # per slice and language: some 500 questions each, a standard error below 2 points


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


@pytest.fixture(scope="module")
def scores(nano: OmniModel) -> dict[str, dict[str, float]]:
    return evaluate(nano, IMAGES, benchmark=NanoPerception(sounds={}, speech=False))


@pytest.mark.slow
def test_nano_answers_about_held_out_pictures(scores: dict[str, dict[str, float]]) -> None:
    for language in ("en", "zh"):
        test = scores[f"test {language}"]
        assert test["vqa"] >= 0.88
        assert {kind: share for kind, share in test.items() if share < FLOOR[kind]} == {}
    assert scores["compositional en"]["vqa"] >= 0.75


UNDERSTOOD = [
    pytest.param(
        "en",
        marks=pytest.mark.xfail(strict=True, reason="a phrase for 'where' is misunderstood"),
    ),
    "zh",
]
"""Languages whose phrasings that training never heard are to be understood."""


@pytest.mark.slow
@pytest.mark.parametrize("language", UNDERSTOOD)
def test_phrasings_kept_from_training(scores: dict[str, dict[str, float]], language: str) -> None:
    gap = scores[f"test {language}"]["vqa"] - scores[f"paraphrase {language}"]["vqa"]
    assert gap <= 0.05


@pytest.mark.slow
def test_nano_talks_thinks_and_watches(scores: dict[str, dict[str, float]]) -> None:
    for language in ("en", "zh"):
        single = scores[f"test {language}"]["vqa"]
        assert scores[f"conversation {language}"]["vqa"] >= single - 0.05
        assert scores[f"follow-up {language}"]["vqa"] >= 0.85
        assert scores[f"thinking {language}"]["vqa"] >= 0.6
        assert scores[f"video {language}"]["vqa"] >= 0.85
        assert scores[f"video {language}"]["video_direction"] >= 0.8


@pytest.mark.parametrize("part", ["backbone", "vision", "audio"])
def test_the_weights_tell_how_they_were_made_and_what_they_reach(part: str) -> None:
    report = json.loads((preset_folders("nano")[part] / "training.json").read_text("utf-8"))
    assert report["command"].startswith("ming train nano-perception")
    assert report["world"] == "shapes-world/2"
    assert set(report["world_fingerprint"]) == set(SPLITS)
    metrics = report["metrics"]
    assert metrics["test en"]["vqa"] >= 0.90
    assert metrics["test zh"]["vqa"] >= 0.85
    for language in ("en", "zh"):
        test = metrics[f"test {language}"]
        assert metrics[f"conversation {language}"]["vqa"] >= test["vqa"] - 0.03
        assert min(share for kind, share in test.items() if kind != "caption") >= 0.7
    assert metrics["speech en"]["wer"] <= 0.045
    # Alone nobody can tell how names are spelt that sound alike.
    assert metrics["speech en"]["wer by sound"] <= 0.03
    assert metrics["speech zh"]["cer"] <= 0.05
    assert metrics["new family en"]["wer"] <= 0.12
    for language in ("en", "zh"):
        alone, listed = metrics[f"speech {language}"], metrics[f"speech, names listed {language}"]
        assert listed["ne_fnr"] <= 0.08
        assert alone["ne_fnr"] >= 4 * listed["ne_fnr"]


@pytest.mark.parametrize("language", UNDERSTOOD)
def test_phrasings_kept_from_training_as_reported(language: str) -> None:
    report = json.loads((preset_folders("nano")["backbone"] / "training.json").read_text("utf-8"))
    metrics = report["metrics"]
    gap = metrics[f"test {language}"]["vqa"] - metrics[f"paraphrase {language}"]["vqa"]
    assert gap <= 0.05


def test_the_backbone_is_the_one_that_was_scored() -> None:
    """Parts that are trained in front of the frozen backbone name it by this fingerprint."""
    folder = preset_folders("nano")["backbone"]
    report = json.loads((folder / "training.json").read_text("utf-8"))
    assert fingerprint(open_checkpoint(folder)) == report["backbone"]
    assert set(report["experts"]) == {"router text", "router image", "router audio"}
    assert all(router["dead"] == 0 for router in report["experts"].values())


def test_demo_answers(nano: OmniModel) -> None:
    picture = Image(preset_folders("nano")["backbone"] / "demo.png")
    assert nano.ask("how many shapes are there?", picture).text == "4"
    assert nano.ask("what color is the star?", picture).text == "pink"
    assert nano.ask("蓝色的图形是什么形状？", picture).text == "十字"


def test_the_shipped_parts_are_small() -> None:
    folders = preset_folders("nano").values()
    assert sum(Path(folder, "model.safetensors").stat().st_size for folder in folders) < 30e6
