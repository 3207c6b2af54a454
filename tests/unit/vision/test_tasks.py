"""describe, read, ground, click: what they say to a model and make of its answer."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image as pil

from ming_core import Audio, Image, Video, load
from ming_core.engine.answers import Answer
from ming_core.engine.request import Request
from ming_core.errors import BadConfig, BadMedia, MingError, UnknownName
from ming_core.media import Text
from ming_core.notes import collected_notes
from ming_core.plugins import get_plugins
from ming_core.releases.flash import FLASH
from ming_core.tasks import NoTarget, method_of
from ming_core.testing import ScriptedEngine
from ming_vision.documents import Document, Table, parse_tables, unfenced
from ming_vision.grounding import Box
from ming_vision.prompts import RELEASED, language_of, prompts_of, say
from ming_vision.square import Place
from ming_vision.tasks import Click, Describe, Ground, Read

NANO = {
    "describe": {"en": "describe the picture.", "zh": "描述这张图。"},
    "read": "what does the text say?",
    "ground": {"en": "locate the {name}.", "zh": "定位{name}。"},
    "click": "click the {name}.",
    "box_scale": 64,
    "box_style": "plain",
}


@dataclass
class Scripted:
    """A model that answers `text` and remembers the question."""

    text: str = ""
    section: Any = None
    asked: list[tuple[str, Any, Request]] = field(default_factory=list)

    knowledge: None = None
    config: Any = field(default_factory=lambda: SimpleNamespace(max_position_embeddings=4096))

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self.reply)

    def wording(self, section: str) -> Any:
        assert section == "vision_tasks"
        return {}, self.section or {}

    def reply(self, request: Request) -> Answer:
        (message,) = request.messages
        medium, question = message.parts
        assert isinstance(question, Text)
        self.asked.append((question.text, medium, request))
        return Answer(self.text, 3, not self.text.endswith("…"))


describe, read, ground, click = map(method_of, (Describe, Read, Ground, Click))


def picture(width: int = 200, height: int = 100) -> pil.Image:
    return pil.new("RGB", (width, height), (90, 90, 90))


# Prompts


def test_the_published_sentences() -> None:
    assert say(RELEASED.read_markdown, "en") == "输出给定图像文本的markdown格式。"
    assert say(RELEASED.describe_video, "zh") == "请描述视频内容。"
    assert say(RELEASED.ground_all, "en") == "Describe the image with grounding."
    assert say(RELEASED.ground, "en", name="Shih Tzu") == (
        "Where is the Shih Tzu in the image? Answer in [x0, y0, x1, y1] format."
    )
    assert say(RELEASED.click, "en", name="search bar") == (
        "In the given image, could you find and tell me the coordinates of search bar?"
    )
    assert prompts_of([]) == prompts_of([{}, {}]) == RELEASED


def test_words_of_a_user_are_not_filled_in_twice() -> None:
    assert say({"en": "find {name} {name}"}, "en", name="{name}") == "find {name} {name}"


def test_a_checkpoint_has_its_own_sentences() -> None:
    prompts = prompts_of([{}, NANO])
    assert (prompts.box_scale, prompts.box_style) == (64, "plain")
    assert say(prompts.ground, "zh", name="红星") == "定位红星。"
    assert say(prompts.click, "zh", name="红星") == "click the 红星."  # the only language it has
    # its one sentence also stands for the special forms, which it was not taught
    assert prompts.describe_short == prompts.describe_video == prompts.describe
    assert say(prompts.read_table, "en") == "what does the text say?"
    assert prompts.ground_all == RELEASED.ground_all


@pytest.mark.parametrize(
    ("section", "sentence"),
    [
        ([], r"vision_tasks must be an object of sentences, not \[\]"),
        ({"grund": "x"}, r"unknown key of vision_tasks 'grund'; did you mean 'ground'\?"),
        ({"ground": "where is it?"}, r"vision_tasks.ground is .*; it must have \{name\} in it"),
        ({"click_history": "then"}, r"it must have \{actions\} in it"),
        ({"read": 3}, r"vision_tasks.read is 3; it must be a sentence, or one for each of en and"),
        ({"read": {}}, r"it must be a sentence"),
        ({"read": {"fr": "lire"}}, r"one for each of en and zh"),
        ({"box_scale": 0}, r"vision_tasks.box_scale is 0; it must be a whole number above 0"),
        ({"box_scale": 1.5}, r"box_scale is 1.5"),
        ({"box_style": "round"}, r"box_style is 'round'; use brackets or plain"),
    ],
    ids=str,
)
def test_a_section_that_cannot_be_used(section: Any, sentence: str) -> None:
    with pytest.raises(MingError, match=sentence) as caught:
        prompts_of(FLASH.worded("vision_tasks", {"vision_tasks": section}))
    assert isinstance(caught.value, BadConfig | UnknownName)


def test_the_language_of_words() -> None:
    assert [language_of(text) for text in ("red star", "红星", "the 红 one", "")] == [
        "en",
        "zh",
        "zh",
        "en",
    ]


# describe


@pytest.mark.parametrize(
    ("medium", "options", "question"),
    [
        (picture(), {}, "Please describe the image in detail."),
        (picture(), {"language": "zh"}, "请详细描述这张图片。"),
        (picture(), {"detail": "short"}, "Describe the image in one sentence."),
        ("clip.mp4", {"language": "zh"}, "请描述视频内容。"),
        (Video("clip.bin"), {"detail": "short"}, "Describe the video in one sentence."),
    ],
    ids=["picture", "picture in Chinese", "picture in short", "video in Chinese", "video in short"],
)
def test_describe_asks_by_kind(medium: Any, options: dict[str, Any], question: str) -> None:
    model = Scripted("a star")
    answer = describe(model, medium, **options, max_new_tokens=7)
    assert answer.text == "a star"
    asked, part, rest = model.asked[0]
    assert asked == question
    assert isinstance(part, Video if "video" in question or "视频" in question else Image)
    assert (rest.think, rest.sampling.max_new_tokens) == (False, 7)


def test_describe_keeps_the_part_it_was_given() -> None:
    """A conversation goes on about the same object without looking at it again."""
    model, part = Scripted("a star"), Image(picture())
    describe(model, part)
    assert model.asked[0][1] is part


def test_options_of_describe_without_effect() -> None:
    one = {"describe": "describe it."}
    with pytest.raises(BadConfig, match="detail 'short' has no effect: this model knows one way"):
        describe(Scripted(section=one), picture(), detail="short")
    with pytest.raises(BadConfig, match="language 'zh' has no effect: this model is asked in one"):
        describe(Scripted(section=one), picture(), language="zh")
    assert describe(Scripted("a star", one), picture()).text == "a star"


# read


def test_read_formats() -> None:
    model = Scripted("```markdown\n# Title\n\n| a | b |\n|---|---|\n| 1 | 2 |\n```")
    plain = read(model, picture())
    assert plain.text == model.text
    page = read(model, picture(), format="markdown", max_new_tokens=9)
    assert page.text.startswith("# Title")
    assert not page.text.endswith("```")
    assert page.tables == (Table((("a", "b"), ("1", "2"))),)
    assert page.complete
    read(model, picture(), format="table")
    questions = [question for question, _, _ in model.asked]
    assert questions[1] == "输出给定图像文本的markdown格式。"
    assert len(set(questions)) == 3
    budgets = [request.sampling.max_new_tokens for _, _, request in model.asked]
    assert budgets == [4096, 9, 4096]


def test_a_damaged_page_leaves_the_text_of_those_before(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    picture().save(path, save_all=True, append_images=[picture(), picture()])
    path.write_bytes(path.read_bytes()[:-300])
    with collected_notes() as notes:
        document = read(Scripted("words"), path)
    assert document.text == "words\nwords"
    (note,) = notes
    assert note.startswith(f"page 3 of {path} is damaged or cut short: ")
    assert note.endswith("; the pages before it were read")


def test_a_text_that_was_cut_off_is_told() -> None:
    assert not read(Scripted("half a page…"), picture()).complete


@pytest.mark.parametrize(
    ("text", "inner"),
    [
        ("# A\n", "# A\n"),
        ("```\n# A\n```\n", "# A"),
        ("```md\n# A\n```py\nx\n```\n```", "# A\n```py\nx\n```"),
        ("```markdown\n# A", "# A"),
        ("```\ncode\n```\nand more text", "```\ncode\n```\nand more text"),
        ("```python\ncode\n```", "```python\ncode\n```"),
    ],
)
def test_the_fence_around_a_page(text: str, inner: str) -> None:
    assert unfenced(text) == inner


def test_tables() -> None:
    page = """text | with a bar

| Item | Price |
|:-----|------:|
| Tea, green | 3.20 |
| a \\| b |
| one | two | three |

Item | Price
--- | ---
Milk | 1

| no rule | here |
"""
    first, second = parse_tables(page)
    assert first.rows == (
        ("Item", "Price", ""),
        ("Tea, green", "3.20", ""),
        ("a | b", "", ""),
        ("one", "two", "three"),
    )
    assert second.rows == (("Item", "Price"), ("Milk", "1"))


def test_saving_what_was_read(tmp_path: Path) -> None:
    page = "| a | b |\n|--|--|\n| 1, 2 | “引” |\n\n| c |\n|--|\n"
    document = Document(page, "table", True)
    assert document.save(tmp_path / "p.md").read_text("utf-8") == page + "\n"
    with document.save(tmp_path / "p.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1, 2", "“引”"], [], ["c"]]
    values = json.loads(document.save(tmp_path / "p.json").read_text("utf-8"))
    assert values["tables"] == [[["a", "b"], ["1, 2", "“引”"]], [["c"]]]
    with pytest.raises(BadMedia, match=r"no table was read, so '.*q.csv' is not written"):
        Document("no table", "table", True).save(tmp_path / "q.csv")
    assert not (tmp_path / "q.csv").exists()


# ground


def test_ground_gives_pixels_of_the_original_picture() -> None:
    model = Scripted("[500, 100, 750, 900]")
    found = ground(model, picture(), " the red star ")
    assert model.asked[0][0].startswith("Where is the red star in the image?")
    assert found.boxes[0].corners == (100, 10, 150, 90)
    assert found.boxes[0].label == "red star"
    assert found.image_size == (200, 100)


def test_ground_respects_the_exif_orientation(tmp_path: Path) -> None:
    """A phone photo stored lying on its side: boxes belong to the upright picture."""
    exif = pil.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    picture(200, 100).save(tmp_path / "phone.jpg", exif=exif)
    model = Scripted("[0, 0, 500, 500]")
    found = ground(model, tmp_path / "phone.jpg", "star")
    assert found.image_size == (100, 200)
    assert found.boxes[0].corners == (0, 0, 50, 100)
    assert found.draw().size == (100, 200)
    assert model.asked[0][1].source.size == (100, 200)


def test_ground_with_the_conventions_of_nano() -> None:
    model = Scripted("32 00 63 31", NANO)
    found = ground(model, picture(640, 640), "红色的星")
    assert model.asked[0][0] == "定位红色的星。"
    assert found.boxes[0].corners == (320, 0, 640, 320)


def test_ground_without_an_expression_captions_with_boxes() -> None:
    model = Scripted('a <boxes alt="cat" bbox="[0, 0, 500, 500]">cat</boxes>')
    found = ground(model, picture())
    assert model.asked[0][0] == "Describe the image with grounding."
    assert (found.boxes[0].label, found.caption) == ("cat", "a cat")


def test_only_the_answer_after_the_reasoning_counts() -> None:
    model = Scripted("<think>perhaps [0, 0, 10, 10]</think>\n[500, 500, 600, 600]")
    found = ground(model, picture(), "star", think=True)
    assert len(found.boxes) == 1
    assert model.asked[0][2].think
    assert model.asked[0][2].sampling.max_new_tokens == 8192
    model.text = "<think>click(x=0.1,y=0.1)</think>click(x=0.5,y=0.5)"
    assert click(model, picture(), "star", think=True).x == 100


def test_no_box_is_no_crash() -> None:
    found = ground(Scripted("nothing here"), picture(), "star")
    assert (found.boxes, found.text) == ((), "nothing here")
    assert (np.asarray(found.draw()) == 90).all()


# click


def test_click_with_history() -> None:
    model = Scripted("click(x=0.5,y=0.25)")
    first = click(model, picture(), "the search bar")
    assert (first.kind, first.x, first.y) == ("click", 100, 25)
    plain = "In the given image, could you find and tell me the coordinates of search bar?"
    click(model, picture(), "search bar", [first, "back()"])
    assert [question for question, _, _ in model.asked] == [
        plain,
        f"Previous actions:\n1. click(x=0.5,y=0.25)\n2. back()\n{plain}",
    ]


# Bad input


@pytest.mark.parametrize(
    ("call", "error", "sentence"),
    [
        (lambda m: ground(m, picture(), "  "), BadConfig, r"ground needs words .* 'red star'"),
        (lambda m: click(m, picture(), ""), BadConfig, r"click needs words that say what to look"),
        (lambda m: ground(m, "clip.mp4", "star"), BadMedia, r"clip.mp4 is a video; give one frame"),
        (
            lambda m: read(m, Audio("a.wav")),
            BadMedia,
            r"read needs a still picture, and a.wav is a",
        ),
        (
            lambda m: describe(m, "a.wav"),
            BadMedia,
            r"describe needs a picture or a video, and a.wav",
        ),
        (lambda m: read(m, "no.png"), BadMedia, r"there is no image file 'no.png'"),
        (lambda m: read(m, b""), BadMedia, r"the image data is empty"),
        (lambda m: click(m, 7, "bar"), BadMedia, r"cannot read an image from int; give a path"),
        (
            lambda m: read(m, picture(), format="html"),
            BadConfig,
            r"format is 'html'; use 'text' or",
        ),
        (
            lambda m: describe(m, picture(), detail="x"),
            BadConfig,
            r"detail is 'x'; use 'full' or",
        ),
        (
            lambda m: describe(m, picture(), language="fr"),
            BadConfig,
            r"language is 'fr'; use 'en'",
        ),
    ],
)
def test_bad_input_is_told_before_the_model_is_asked(
    call: Any, error: type[MingError], sentence: str
) -> None:
    model = Scripted("x")
    with pytest.raises(error, match=sentence):
        call(model)
    assert model.asked == []


# With a real model


def test_the_tasks_are_methods_of_nano(tmp_path: Path) -> None:
    """Only that it runs end to end; what nano can do is asked in tests/nano."""
    model = load("nano", device="cpu")
    names = {"describe", "read", "ground", "click"}
    assert names <= model.tasks.keys()
    assert all(get_plugins().tasks[name].plugin == "ming-vision" for name in names)
    scene = picture(64, 64)
    assert model.describe(scene, max_new_tokens=4).tokens <= 4
    assert not model.read(scene, max_new_tokens=1).complete
    found = model.ground(scene, "red star", max_new_tokens=16)
    assert all(0 <= edge <= 64 for box in found.boxes for edge in box.corners)
    assert found.save(tmp_path / "boxes.png").exists()
    assert model.click(scene, "red star", ["back()"], max_new_tokens=16).text is not None


# Targets


def scripted(text: str = "", section: Any = None) -> Any:
    """Takes the place of a model."""
    return Scripted(text, section)


def test_targets_of_boxes_are_read_back() -> None:
    """In the scale of the release, and in that of nano, whose last column belongs to the box."""
    for section, size, box, written in (
        (None, (200, 100), (100, 10, 150, 90), "[500, 100, 750, 900]"),
        (None, (200, 100), (-5, 0, 200, 100), "[0, 0, 999, 999]"),
        (NANO, (64, 64), (3, 0, 10, 9), "03 00 09 08"),
        (NANO, (640, 640), (320, 0, 640, 320), "32 00 63 31"),
        (NANO, (64, 64), (63.9, 63.9, 64, 64), "63 63 63 63"),
    ):
        model, task = scripted(section=section), Ground(picture(*size), "star")
        assert task.target(model, [box]) == [written]
        (found,) = ground(scripted(written, section), picture(*size), "star").boxes
        edges = zip(found.corners, box, strict=True)
        assert all(abs(a - min(max(b, 0), max(size))) <= max(size) / 64 for a, b in edges)
    several = Ground(picture(), "star").target(scripted(), [(0, 0, 20, 10), Box(20, 0, 40, 10)])
    assert several == ["[0, 0, 100, 100], [100, 0, 200, 100]"]


def test_targets_on_the_canvas_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wide picture lies in the middle of a square one."""
    monkeypatch.setattr("ming_vision.tasks._place", lambda *_: Place(0, 0.25, 1, 0.5))
    model = scripted(section=NANO)
    wide = picture(128, 64)
    assert Ground(wide, "star").target(model, [(0, 0, 128, 64)]) == ["00 16 63 47"]
    assert Click(wide, "star").target(model, (64, 32)) == ["click(x=0.50,y=0.50)"]


def test_targets_of_clicks_are_read_back() -> None:
    for section, written in ((None, "click(x=0.502,y=0.255)"), (NANO, "click(x=0.50,y=0.26)")):
        model, task = scripted(section=section), Click(picture(), "bar")
        assert task.target(model, (100, 25)) == [written]
        action = click(scripted(written, section), picture(), "bar")
        assert section or ((action.x, action.y), task.target(model, action)) == (
            (100, 25),
            [written],
        )
    back = click(scripted("back()"), picture(), "bar")
    assert Click(picture(), "bar").target(scripted(), back) == ["back()"]


def test_targets_of_texts() -> None:
    assert Describe(picture()).target(scripted(), "a star") == ["a star"]
    assert Read(picture()).target(scripted(), "page") == ["page"]
    assert Read("scan.tif").target(scripted(), ["one", "two"]) == ["one", "two"]
    caption = '<boxes alt="cat" bbox="[0, 0, 9, 9]">cat</boxes>'
    assert Ground(picture()).target(scripted(), caption) == [caption]


def test_what_has_no_target() -> None:
    unread = click(scripted("nothing"), picture(), "bar")
    for make, sentence in (
        (lambda: Ground(picture()).target(scripted(), [(0, 0, 9, 9)]), "give its whole text"),
        (lambda: Ground(picture(), "x").target(scripted(), []), "a thing that is not there"),
        (lambda: Click(picture(), "x").target(scripted(), unread), "there is no action in 'noth"),
    ):
        with pytest.raises(NoTarget, match=sentence):
            make()
