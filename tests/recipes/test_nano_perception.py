"""The nano perception recipe: interruption, packing, scoring and its command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ming_core.api import load
from ming_core.chat.formats import chat_format
from ming_core.chat.prompt import MediaTokens, build_example
from ming_core.chat.tokenizer import Tokenizer
from ming_core.checkpoints.formats import open_checkpoint
from ming_core.config import BackboneConfig
from ming_core.media import Image, Message, Video, assistant, user
from ming_core.model.positions import frame_grids, rope_index
from ming_recipes.perception import module
from ming_recipes.perception.config import NanoPerception
from ming_recipes.perception.data import PackedBatch, Packer
from ming_recipes.perception.evaluate import SLICES, box_iou, click_distance, is_right
from ming_recipes.perception.nano import PREPROCESSOR, released_config, train
from ming_recipes.world.batch import Mix, training_example
from ming_recipes.world.language import Question, reasoning
from ming_recipes.world.tokenizer import train_tokenizer
from ming_vision.encoder import QwenVisionEncoder

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
    whole, broken = (NanoPerception(out=str(tmp_path / n), **TINY) for n in ("whole", "broken"))
    train(whole, "ming train nano-perception")

    step = module.Perception.training_step

    def dies(self: module.Perception, batch: object, index: int) -> torch.Tensor:
        if self.stage == "joint" and self.global_step == 2:
            raise RuntimeError("power cut")
        return step(self, batch, index)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(module.Perception, "training_step", dies)
        with pytest.raises(RuntimeError, match="power cut"):
            train(broken, "ming train nano-perception")
    assert not (tmp_path / "broken" / "nano").exists()
    train(broken, "ming train nano-perception")

    first, second = (open_checkpoint(tmp_path / n / "nano") for n in ("whole", "broken"))
    assert first.tensors.keys() == second.tensors.keys()
    for name in first.tensors:
        assert torch.equal(first.read(name), second.read(name)), name

    report = json.loads((tmp_path / "whole" / "parts" / "vision" / "training.json").read_text())
    assert report["command"] == "ming train nano-perception"
    assert report["images"] == 2 * 4 + (1 + 4) * 2
    assert set(report["metrics"]) == {
        f"{name} {language}" for name in SLICES for language in ("en", "zh")
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


def test_a_click_is_right_near_the_centre() -> None:
    question = Question("click", "en", "click the star.", "click(x=0.50,y=0.50)", 0, (0,))
    assert is_right(question, "click(x=0.55,y=0.55)")
    assert not is_right(question, "click(x=0.60,y=0.50)")
    assert not is_right(question, "click(0.5, 0.5)")
    assert click_distance("click(x=0.50,y=0.25)", "click(x=0.25,y=0.25)") == pytest.approx(16)


def test_overlap_counts_inclusive_pixels() -> None:
    assert box_iou("00 00 09 09", "05 00 14 09") == pytest.approx(50 / 150)
    assert box_iou("09 09 00 00", "00 00 09 09") == 0


@pytest.fixture(scope="module")
def packer(tmp_path_factory: pytest.TempPathFactory) -> Packer:
    folder = tmp_path_factory.mktemp("tokenizer")
    train_tokenizer(folder)
    tokenizer = Tokenizer(folder)
    config = released_config(tokenizer)
    processor = QwenVisionEncoder.from_config(config, PREPROCESSOR).processor
    backbone = BackboneConfig.from_dict(config["llm_config"])
    return Packer(backbone, chat_format("flash"), tokenizer, processor, capacity=208)


@pytest.mark.parametrize(
    "mix", [Mix(), Mix(dialogue=0.7), Mix(think=1.0), Mix(video=1.0, dialogue=0.5)]
)
def test_a_packed_conversation_is_the_prompt_of_the_chat_format(packer: Packer, mix: Mix) -> None:
    examples = [training_example(index, mix) for index in range(4)]
    batch = packer(examples)
    omni = batch.omni
    assert omni.segment_ids is not None
    for row, example in enumerate(examples):
        shape = torch.tensor([[len(example.scenes), 8, 8]])
        seconds = [(2 * i + 0.5) / 2.0 for i in range(len(example.scenes))]
        medium = Video(None) if example.is_video else Image(None)
        size = MediaTokens(16 * len(example.scenes), seconds if example.is_video else ())
        last = int(omni.segment_ids[row].max())
        assert last >= 2
        kept = _kept(batch, row)
        for segment, turns in enumerate(kept, start=1):
            messages: list[Message] = []
            for question in turns:
                answer = question.answer
                if example.think:
                    thought = reasoning(example.scenes[0], question)
                    answer = f"<think>\n{thought}\n</think>\n\n{answer}"
                messages += [user(question.question), assistant(answer)]
            messages[0] = user(medium, messages[0].text)
            whole = build_example(
                messages, packer.format, packer.tokenizer, [size], think=example.think
            )
            ids = torch.tensor([whole.input_ids])
            grids = (None, frame_grids(shape)) if example.is_video else (shape, None)
            positions, _ = rope_index(packer.config, ids, None, *grids)
            mine = (omni.segment_ids[row] == 0) | (omni.segment_ids[row] == segment)
            assert omni.input_ids[row, mine].tolist() == whole.input_ids
            assert batch.labels[row, mine].tolist() == whole.labels
            assert torch.equal(omni.position_ids[:, row, mine], positions[:, 0])


def _kept(batch: PackedBatch, row: int) -> list[list[Question]]:
    """Questions of each packed conversation of a row."""
    assert batch.omni.segment_ids is not None
    talks = []
    for segment in range(1, int(batch.omni.segment_ids[row].max()) + 1):
        numbers = batch.question[row][batch.omni.segment_ids[row] == segment]
        talks.append([batch.questions[n] for n in sorted(set(numbers.tolist()) - {-1})])
    return talks
