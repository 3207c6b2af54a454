"""nano answers on a GPU what it answers on the CPU, in every task."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as pil

from ming_core import Audio, Image, OmniModel, Video, assistant, load, user
from ming_core.presets import preset_folders

pytestmark = pytest.mark.gpu
SPEECH = Path(__file__).parents[1] / "speech"
SOUND, OTHER = SPEECH / "en-flite-00.flac", SPEECH / "zh-espeak-ng-03.flac"


@pytest.fixture(scope="module")
def cpu() -> OmniModel:
    return load("nano", device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def there(gpu: torch.device) -> OmniModel:
    return load("nano", device=gpu, dtype="float32")


@pytest.fixture(scope="module")
def demo() -> Path:
    return Path(preset_folders("nano")["backbone"]) / "demo.png"


@pytest.fixture(scope="module")
def film(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo picture that moves to the right, as an animation."""
    still = pil.open(demo).convert("RGB")
    frames = []
    for step in range(8):
        frame = pil.new("RGB", still.size, "white")
        frame.paste(still, (2 * step, 0))
        frames.append(frame)
    path = tmp_path_factory.mktemp("film") / "film.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=250)
    return path


TASKS: dict[str, Callable[[OmniModel, Path, Path], Any]] = {
    "ask": lambda model, demo, film: model.ask("how many shapes?", Image(demo)),
    "ask with sound": lambda model, demo, film: model.ask(Audio(SOUND), Image(demo)),
    "think": lambda model, demo, film: model.ask("how many shapes?", Image(demo), think=True),
    "describe": lambda model, demo, film: model.describe(Image(demo)),
    "describe in Chinese": lambda model, demo, film: model.describe(Image(demo), language="zh"),
    "describe a video": lambda model, demo, film: model.describe(Video(film)),
    "ask a video": lambda model, demo, film: model.ask("what moves?", Video(film)),
    "read": lambda model, demo, film: model.read(Image(demo)),
    "ground": lambda model, demo, film: model.ground(Image(demo), "red circle"),
    "ground all": lambda model, demo, film: model.ground(Image(demo)),
    "click": lambda model, demo, film: model.click(Image(demo), "the largest shape"),
    "transcribe": lambda model, demo, film: model.transcribe(SOUND),
    "transcribe Chinese": lambda model, demo, film: model.transcribe(OTHER),
}


@pytest.mark.parametrize("task", TASKS)
def test_every_task_answers_the_same(
    cpu: OmniModel, there: OmniModel, demo: Path, film: Path, task: str
) -> None:
    ours, theirs = (plain(TASKS[task](model, demo, film)) for model in (cpu, there))
    assert theirs == ours


def plain(result: Any) -> Any:
    """What a task gave as a dictionary, without digits that depend on the order of sums."""
    found = result if isinstance(result, dict) else result.to_dict()
    return json.loads(json.dumps(found), parse_float=lambda digits: round(float(digits), 3))


def test_a_conversation_and_a_mixed_batch_answer_the_same(
    cpu: OmniModel, there: OmniModel, demo: Path, film: Path
) -> None:
    picture = Image(demo)
    talk = [user(picture, "how many shapes?"), assistant("three."), user("describe the picture.")]
    batch = [
        talk,
        [user(Video(film), "what moves?")],
        [user(Audio(SOUND), "how many shapes?")],
        [user(picture, Audio(SOUND))],
        [user("hello")],
    ]
    answers = []
    for model in (cpu, there):
        turns = [model.chat(talk[:1]), model.chat(talk)]
        answers.append([*map(str, turns), *map(str, model.answer_batch(batch))])
    assert answers[1] == answers[0]


def test_weights_lie_on_the_gpu_and_come_back_whole(tmp_path: Path, gpu: torch.device) -> None:
    parts = ["text", "image", "audio"]
    there = load("nano", device=gpu, dtype="float32", parts=parts)
    tensors = [*there.omni.parameters(), *there.omni.buffers()]
    assert {tensor.device.type for tensor in tensors} == {gpu.type}
    folder = there.save(tmp_path / "saved")
    saved, ours = (
        load(model, device="cpu", dtype="float32", parts=parts).omni.state_dict()
        for model in (folder, "nano")
    )
    assert saved.keys() == ours.keys()
    assert [name for name in ours if not torch.equal(ours[name], saved[name])] == []


def test_half_precision_answers_nearly_the_same(
    cpu: OmniModel, demo: Path, gpu: torch.device
) -> None:
    half = load("nano", device=gpu, dtype="bfloat16")
    questions = ["how many shapes?", "what does the text say?", "is there a red circle?"]
    rows = [[user(Image(demo), question)] for question in questions]
    answers = [model.answer_batch(rows) for model in (cpu, half)]
    same = sum(str(ours) == str(theirs) for ours, theirs in zip(*answers, strict=True))
    assert same >= 2
