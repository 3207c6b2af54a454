"""`ming describe`, `read`, `ground` and `click`: output, files, exit codes."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ming_core.plugins import get_plugins
from ming_vision.image import open_image

MakePicture = Callable[[str], str]


@pytest.fixture
def model(fake) -> Any:
    """The fake model with eyes, speaking as the releases do."""
    fake.wording = lambda section: ()
    return fake


@pytest.fixture
def picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakePicture:
    """Makes grey pictures of 200 x 100 in an empty working folder."""
    monkeypatch.chdir(tmp_path)

    def make(name: str) -> str:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100), (90, 90, 90)).save(name)
        return name

    return make


def test_describe_one_file_prints_the_text_only(run, model, picture) -> None:
    drawn = ("--temperature", "0.5", "--seed", "3")
    result = run("describe", picture("a.png"), "--detail", "short", "-l", "zh", *drawn)
    assert (result.code, result.out, result.err) == (0, "three shapes\n", "")
    question, _, options = model.asked[0]
    assert question == "用一句话描述这张图片。"
    assert options == {"temperature": 0.5, "seed": 3}


def test_several_files_have_one_result_each(run, model, picture) -> None:
    files = [picture("a.png"), picture("sub/c.png"), picture("a.jpg")]
    shown = run("read", *files)
    assert shown.out == "".join(f"==> {path} <==\nthree shapes\n\n" for path in files)
    values = json.loads(run("describe", *files, "--json").out)
    assert [result["file"] for result in values["results"]] == files
    assert values["results"][0]["answer"] == "three shapes"
    assert run("read", *files, "-o", "texts").out == ""
    written = {path.name: path.read_text("utf-8") for path in Path("texts").iterdir()}
    assert written == dict.fromkeys(("a.png.txt", "c.txt", "a.jpg.txt"), "three shapes\n")
    assert model.loaded == [("nano", "auto", "auto")] * 3  # once for all files of a command


def test_read_takes_the_format_from_the_suffix(run, model, picture) -> None:
    model.pieces = ("```markdown\n", "| a | b |\n|---|---|\n| 1 | 2 |\n```")
    page = picture("page.png")
    assert run("read", page, "-o", "page.md").code == 0
    assert Path("page.md").read_text("utf-8") == "| a | b |\n|---|---|\n| 1 | 2 |\n"
    assert run("read", page, "-o", "page.csv", tty=True).err.endswith("wrote page.csv\n")
    with open("page.csv", encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["a", "b"], ["1", "2"]]
    values = json.loads(run("read", page, "--format", "table", "--json").out)
    assert values["format"] == "table"
    assert values["results"][0]["tables"] == [[["a", "b"], ["1", "2"]]]
    asked = [question for question, _, _ in model.asked]
    assert asked[0] == "输出给定图像文本的markdown格式。"
    assert asked[1] == asked[2] != asked[0]


def test_a_text_that_was_cut_off_is_told(run, model, picture) -> None:
    model.stopped = False
    result = run("read", picture("a.png"), "--max-new-tokens", "5")
    assert (result.code, result.out) == (0, "three shapes\n")
    assert result.err == (
        "ming: the answer about 'a.png' was cut off; allow more tokens with --max-new-tokens\n"
    )


def test_ground_prints_and_draws_pixels(run, model, picture) -> None:
    model.pieces = ("[500, 100, 750, 900]",)
    scene = picture("scene.png")
    result = run("ground", scene, "red star", "-o", "boxes.png")
    assert (result.code, result.out) == (0, "100.0 10.0 150.0 90.0 red star\n")
    drawn = np.asarray(open_image("boxes.png"))
    assert (drawn[90, 105:145] != 90).any(-1).all()
    values = json.loads(run("ground", scene, "red star", "--json").out)
    assert values == {
        "task": "ground",
        "model": "nano",
        "file": scene,
        "boxes": [{"label": "red star", "box": [100.0, 10.0, 150.0, 90.0]}],
        "image_size": [200, 100],
        "text": "[500, 100, 750, 900]",
        "confidence": 1.0,
        "sure": None,
    }
    run("ground", scene)
    assert model.asked[-1][0] == "Describe the image with grounding."


def test_click_prints_and_draws_a_pixel(run, model, picture) -> None:
    model.pieces = ("It is on top. ", "click(x=0.5,y=0.25)")
    page = picture("page.png")
    result = run("click", page, "-", "--history", "back()", "-o", "click.png", stdin="the bar\n")
    assert (result.code, result.out) == (0, "click 100 25\n")
    assert model.asked[0][0].startswith("Previous actions:\n1. back()\nIn the given image")
    assert (np.asarray(open_image("click.png"))[25, 100] != 90).any()
    values = json.loads(run("click", page, "the bar", "--json").out)
    assert (values["kind"], values["x"], values["y"]) == ("click", 100, 25)
    assert values["thought"] == "It is on top."
    model.pieces = ("back()",)
    assert run("click", page, "the bar").out == "back\n"


def test_an_answer_of_no_use_exits_with_1(run, model, picture) -> None:
    scene = picture("scene.png")
    result = run("ground", scene, "red star", "-o", "boxes.png")
    assert (result.code, result.out) == (1, "")
    assert result.err == "ming: the answer has no box that can be read: 'three shapes'\n"
    result = run("click", scene, "red star", "--json")
    assert result.code == 1
    assert json.loads(result.out)["kind"] == "unparsed"
    assert result.err == "ming: the answer has no action that can be read: 'three shapes'\n"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("describe", "no.png"), "cannot read 'no.png': there is no such file; give the path"),
        (("ground", "a.png", " "), "ground needs words that say what to look for, such as"),
        (("click", "a.png", ""), "click needs words that say what to look for, such as 'the"),
        (("read", "a.png", "-o", "no/a.md"), "cannot write 'no/a.md': there is no folder 'no'"),
        (("read", "a.png", "b.png", "-o", "a.md"), "'a.md' is one file, and there may be several"),
    ],
)
def test_bad_input_is_refused_before_loading(run, model, picture, arguments, sentence) -> None:
    picture("a.png")
    picture("b.png")
    result = run(*arguments)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"ming: {sentence}")
    assert result.err.count("\n") == 1
    assert model.loaded == []


def test_a_file_that_is_no_picture(run, model, picture) -> None:
    picture("a.png")
    Path("notes.png").write_text("not a picture")
    Path("clip.mp4").touch()
    for command in (("read",), ("ground", "star"), ("click", "star")):
        result = run(command[0], "notes.png", *command[1:])
        assert result.code == 2
        assert result.err.startswith("ming: notes.png is not an image in a known format; expected")
    result = run("ground", "clip.mp4", "star")
    assert (result.code, result.err) == (
        2,
        "ming: ground needs a still picture, and clip.mp4 is a video; give one frame of it\n",
    )
    result = run("ground", "a.png", "star", "-o", "boxes.xyz")
    assert result.code == 2
    assert "cannot write 'boxes.xyz' as a picture" in result.err


def test_no_file_at_all(run) -> None:
    for command in ("describe", "read", "ground", "click"):
        assert run(command).code == 2


def test_without_ming_vision_the_hint_names_it(
    run, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setenv("MING_DISABLE_PLUGINS", "ming-vision,ming-recipes")
    get_plugins.cache_clear()
    request.addfinalizer(get_plugins.cache_clear)
    for name in ("describe", "read", "ground", "click"):
        result = run(name, "a.png")
        assert result.code == 2
        assert result.err.startswith(f"ming: the command {name!r} needs ming-vision")
    result = run("ask", "what?", "a.mp4", "--max-frames", "3")
    assert result.code == 2
    assert result.err.startswith("ming: the option --max-frames needs ming-vision")
    assert "No such option" in run("ask", "what?", "--max-size", "3").err
    with pytest.raises(ImportError, match="VideoSampling needs ming-vision"):
        from ming_core import VideoSampling  # noqa: F401
