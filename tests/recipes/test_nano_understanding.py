"""The nano understanding recipe: interruption, packing, scoring and its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ming_core.api import load
from ming_core.checkpoints.formats import open_checkpoint
from ming_recipes.understanding import module
from ming_recipes.understanding.config import NanoUnderstanding
from ming_recipes.understanding.evaluate import box_iou, is_right
from ming_recipes.understanding.nano import train
from ming_recipes.world.language import Question

TINY: dict[str, Any] = {
    "processes": 1,
    "sight_steps": 2,
    "sight_images": 4,
    "language_steps": 1,
    "joint_steps": 4,
    "images": 2,
    "easy_steps": 1,
    "warmup": 2,
    "save_every": 2,
    "validate_every": 100,
    "validation_images": 2,
    "test_images": 1,
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_interrupted_run_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = (NanoUnderstanding(out=str(tmp_path / n), **TINY) for n in ("whole", "broken"))
    train(whole, "ming train nano-understanding")

    step = module.Understanding.training_step

    def dies(self: module.Understanding, batch: object, index: int) -> torch.Tensor:
        if self.stage == "joint" and self.global_step == 2:
            raise RuntimeError("power cut")
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module.Understanding, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            train(broken, "ming train nano-understanding")
    assert not (tmp_path / "broken" / "nano").exists()
    train(broken, "ming train nano-understanding")

    first, second = (open_checkpoint(tmp_path / n / "nano") for n in ("whole", "broken"))
    assert first.tensors.keys() == second.tensors.keys()
    for name in first.tensors:
        assert torch.equal(first.read(name), second.read(name)), name

    report = json.loads((tmp_path / "whole" / "parts" / "vision" / "training.json").read_text())
    assert report["command"] == "ming train nano-understanding"
    assert report["images"] == 2 * 4 + (1 + 4) * 2
    assert set(report["metrics"]) == {
        f"{name} {language}"
        for name in ("test", "compositional", "unseen pair", "paraphrase")
        for language in ("en", "zh")
    }
    answer = load(tmp_path / "broken" / "nano").ask("how many shapes are there?", max_new_tokens=4)
    assert 1 <= answer.tokens <= 4


@pytest.mark.parametrize(
    ("answer", "right"),
    [("00 00 09 09", True), ("00 00 09 04", True), ("05 05 14 14", False), ("nine", False)],
)
def test_a_box_is_right_from_half_overlap(answer: str, right: bool) -> None:
    question = Question("locate", "en", "where is the star?", "00 00 09 09", 0, (0,))
    assert is_right(question, answer) is right


def test_overlap_counts_inclusive_pixels() -> None:
    assert box_iou("00 00 09 09", "05 00 14 09") == pytest.approx(50 / 150)
    assert box_iou("09 09 00 00", "00 00 09 09") == 0
