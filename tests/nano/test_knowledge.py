"""nano says what it knows and when it is not sure: few of its own inputs, most of all others."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as pil
from PIL import ImageDraw, ImageFont

from ming_core.api import OmniModel, load
from ming_core.checkpoints.knowledge import SECTION, familiar_name
from ming_core.media import Image, Message, assistant, user
from ming_core.notes import collected_notes
from ming_core.presets import preset_folders
from ming_recipes.nano.scores.evaluate import SLICES
from ming_recipes.nano.scores.knowledge import drawn, encoded_media, section
from ming_recipes.nano.world.render import render
from ming_recipes.nano.world.scene import scene_of

FOREIGN = """what is this?
describe this image
hello
what is the weather like today?
write a python function that sorts a list
how many people are there?
what breed is the dog?
is the man smiling?
where is the login button?
click the search bar
SELECT * FROM users;
translate good morning into french
what time is it?
?
这是什么？
图中有几个人？
今天天气怎么样？""".splitlines()


@pytest.fixture(scope="module")
def nano() -> OmniModel:
    return load("nano")


def _own(count: int) -> Iterator[list[Message]]:
    """Questions of all kinds, about scenes that set no limit."""
    for name in ("test", "compositional", "paraphrase", "conversation", "follow-up", "video"):
        for language in ("en", "zh"):
            for item in list(SLICES[name](language, count))[:: 5 if name != "video" else 2]:
                talk = [item.turn(0)]
                for number, question in enumerate(item.questions[1:], 1):
                    talk += [assistant(item.questions[number - 1].answer), item.turn(number)]
                    assert question is item.questions[number]
                yield talk


def _photos() -> Iterator[pil.Image]:
    """Photos that come in the wheel of scikit-image; nothing is downloaded."""
    skimage = pytest.importorskip("skimage")
    folder = Path(skimage.__file__).parent / "data"
    names = "astronaut camera chelsea coffee coins hubble_deep_field ihc motorcycle_left retina"
    for name in [*names.split(), "rocket", "brick", "grass", "gravel", "moon"]:
        (path,) = folder.glob(f"{name}.*")
        yield pil.open(path).convert("RGB")


def _screenshot(seed: int) -> pil.Image:
    """A window with a bar, text, buttons and fields."""
    rng = np.random.default_rng(seed)
    width, height = ((1280, 800), (1920, 1080), (390, 844), (800, 600))[seed % 4]
    paper = tuple(rng.integers(10, 50, 3)) if seed % 3 == 0 else tuple(rng.integers(225, 256, 3))
    ink = (230, 230, 230) if seed % 3 == 0 else (30, 30, 30)
    page = pil.new("RGB", (width, height), tuple(map(int, paper)))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=max(12, height // 40))
    draw.rectangle((0, 0, width, height // 14), fill=tuple(map(int, rng.integers(0, 255, 3))))
    words = [
        "file",
        "edit",
        "view",
        "help",
        "settings",
        "search",
        "inbox",
        "report",
        "total",
        "cancel",
        "user",
        "password",
    ]
    y = height // 10
    while y < height - 40:
        draw.text((20, y), " ".join(rng.choice(words, width // 110 + 2)), fill=ink, font=font)
        if rng.random() < 0.3:
            color = tuple(map(int, rng.integers(0, 255, 3)))
            draw.rectangle((20, y + height // 30, 20 + width // 8, y + height // 14), fill=color)
            y += height // 18
        y += height // 18
    return page


def _unsure(model: OmniModel, talks: list[list[Message]]) -> float:
    answers = model.answer_batch(talks, max_new_tokens=64)
    return sum(answer.sure is False for answer in answers) / len(answers)


def test_its_own_questions_are_answered_surely(nano: OmniModel) -> None:
    talks = list(_own(16))
    assert len(talks) > 250
    assert _unsure(nano, talks) <= 0.02


def test_other_peoples_pictures_are_not(nano: OmniModel) -> None:
    asked = ("how many shapes are there?", "describe the picture.", "有多少个图形？")
    pictures = [*_photos(), *(_screenshot(seed) for seed in range(10))]
    talks = [[user(Image(one), asked[i % 3])] for i, one in enumerate(pictures)]
    assert len(talks) >= 20
    assert _unsure(nano, talks) >= 0.9


def test_other_peoples_sentences_are_not(nano: OmniModel) -> None:
    scene = Image(render(scene_of("test", 5)))
    talks = [[user(scene, question)] for question in FOREIGN]
    talks += [[user(question)] for question in (*FOREIGN, "how many shapes are there?")]
    assert _unsure(nano, talks) == 1


@pytest.mark.parametrize("size", [(64, 64), (640, 640), (640, 480), (1280, 720), (480, 800)])
def test_drawings_of_its_shapes_are_its_own(nano: OmniModel, size: tuple[int, int]) -> None:
    rng, knowledge = np.random.default_rng(7), nano.knowledge
    assert knowledge is not None
    pictures = [Image(drawn(rng, size)) for _ in range(20)]
    known = [knowledge.familiar["image"].knows(v) for v in encoded_media(nano, pictures)]
    assert sum(known) >= 17


def test_one_question_is_told_of_and_the_note_says_what_it_knows(nano: OmniModel) -> None:
    scene = Image(render(scene_of("test", 5)))
    with collected_notes() as notes:
        sure = nano.ask("How many shapes are there", scene)
        assert notes == []
        unsure = nano.ask("what is this?", scene)
    assert (sure.sure, unsure.sure) == (True, False)
    assert unsure.to_dict()["sure"] is False
    (note,) = notes
    assert note.startswith("nano is not sure: it knows only coloured shapes")
    assert not nano.ground(scene, "login button").sure
    assert not nano.read(pil.new("RGB", (900, 300), "white")).sure


def test_what_it_knows_is_made_from_the_world(repository: Path) -> None:
    folders = preset_folders("nano")
    config = json.loads((folders["backbone"] / "config.json").read_text("utf-8"))
    assert config[SECTION] == section()
    for part, modality in (("vision", "image"), ("audio", "audio")):
        assert (folders[part] / familiar_name(modality)).stat().st_size < 100_000
    page = (repository / "docs/nano.md").read_text("utf-8")
    written = runpy.run_path(str(repository / "docs/generate_knowledge.py"))["written"]
    assert written(page) == page


def test_a_saved_model_knows_as_much(nano: OmniModel, tmp_path: Path) -> None:
    saved = load(nano.save(tmp_path / "nano"))
    assert saved.knowledge is not None
    assert nano.knowledge is not None
    assert saved.knowledge.sentences == nano.knowledge.sentences
    assert saved.knowledge.familiar["image"].limit == nano.knowledge.familiar["image"].limit
