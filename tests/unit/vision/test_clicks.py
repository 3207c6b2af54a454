"""Actions in answers: the published grammar, other names, and what is no action."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ming_vision.clicks import parse_action, written_history
from ming_vision.image import open_image
from ming_vision.square import Place

SCREEN = Image.new("RGB", (1920, 1080), (200, 200, 200))


def test_the_published_answer() -> None:
    action = parse_action("click(x=0.384,y=0.082)", SCREEN)
    assert (action.kind, action.x, action.y) == ("click", 737, 88)  # 737.28, 88.56
    assert action.parsed
    assert action.arguments == {"x": 0.384, "y": 0.082}
    assert (action.thought, str(action)) == ("", "click(x=0.384,y=0.082)")


def test_a_screenshot_that_does_not_fill_what_the_model_saw() -> None:
    place = Place(0, 0.25, 1, 0.5)
    action = parse_action("click(x=0.5,y=0.375)", SCREEN, place)
    assert (action.x, action.y) == (960, 270)
    assert parse_action("click(x=0.5,y=0.2)", SCREEN, place).kind == "unparsed"
    assert parse_action("click(x=0.5,y=0.75)", SCREEN, place).y == 1079


@pytest.mark.parametrize("size", [(1920, 1080), (480, 1280), (640, 480)])
def test_fractions_are_of_each_side(size: tuple[int, int]) -> None:
    action = parse_action("click(x=0.25,y=0.75)", Image.new("RGB", size))
    assert (action.x, action.y) == (size[0] / 4, size[1] * 3 / 4)


def test_a_thought_before_the_action() -> None:
    text = "The bar (top) is a text field.\nclick( x = 0.5 , y = 1 )\n"
    action = parse_action(text, SCREEN)
    assert (action.x, action.y) == (960, 1079)  # the last row, not one below it
    assert action.thought == "The bar (top) is a text field."
    assert str(action) == "click( x = 0.5 , y = 1 )"
    assert action.text == text


@pytest.mark.parametrize(
    ("text", "kind", "arguments"),
    [
        ("back()", "back", {}),
        ("scroll(direction=down, amount=3)", "scroll", {"direction": "down", "amount": 3.0}),
        ('type(text="say \\"hi\\", (you)\\n")', "type", {"text": 'say "hi", (you)\n'}),
        ("type(text='搜索, a=b')", "type", {"text": "搜索, a=b"}),
        ("type(text='')", "type", {"text": ""}),
        ("wait(long=True)", "wait", {"long": True}),
        ("go(x1=0.1,y1=-.2)", "go", {"x1": 0.1, "y1": -0.2}),
        ("home() or back()", "back", {}),
        ("type(text=unclosed", "unparsed", {}),
        ("type(text='unclosed)", "unparsed", {}),
        ("type('positional')", "unparsed", {}),
        ("type(text=a b)", "unparsed", {}),
        ("__import__('os').system('ls')", "unparsed", {}),
        ("", "unparsed", {}),
        ("I cannot see it.", "unparsed", {}),
    ],
)
def test_other_actions(text: str, kind: str, arguments: dict[str, Any]) -> None:
    action = parse_action(text, SCREEN)
    assert (action.kind, action.arguments) == (kind, arguments)
    assert (action.x, action.y, action.text) == (None, None, text)
    assert action.parsed == (kind != "unparsed")


@pytest.mark.parametrize(
    "text",
    [
        "click()",
        "click(x=0.5)",
        "click(x=0.5,y=high)",
        "click(x=384,y=82)",
        "click(x=0.5,y=-0.1)",
        "click(x=0.5,y=true)",
        "click(x=nan,y=inf)",
        f"click(x={'9' * 500},y=0.5)",
        "long_press(y=0.5)",
    ],
)
def test_a_place_outside_the_screen_is_no_action(text: str) -> None:
    action = parse_action(text, SCREEN)
    assert (action.kind, action.x, action.y, str(action)) == ("unparsed", None, None, text)


def test_a_long_answer_of_open_calls_is_read_in_time() -> None:
    assert not parse_action("a(" * 50_000, SCREEN).parsed
    assert not parse_action("a(b=c," * 20_000, SCREEN).parsed
    assert not parse_action("a" * 200_000, SCREEN).parsed


def test_the_history_is_numbered_and_in_the_words_of_the_model() -> None:
    first = parse_action("I see. click(x=0.10,y=0.2)", SCREEN)
    assert written_history([first, "back()"]) == "1. click(x=0.10,y=0.2)\n2. back()"


def test_the_mark_is_where_the_action_is() -> None:
    action = parse_action("click(x=0.25,y=0.5)", SCREEN)
    changed = (np.asarray(action.draw()).astype(int) != 200).any(-1)
    rows, columns = np.nonzero(changed)
    assert (rows.min() + rows.max()) / 2 == pytest.approx(540, abs=1)
    assert (columns.min() + columns.max()) / 2 == pytest.approx(480, abs=1)
    assert changed[540, 480]
    assert changed.sum() < 10_000
    nowhere = parse_action("back()", SCREEN).draw()
    assert (np.asarray(nowhere) == 200).all()


def test_saving(tmp_path: Path) -> None:
    action = parse_action("click(x=0.25,y=0.5)", SCREEN)
    assert open_image(action.save(tmp_path / "click.png")).size == (1920, 1080)
    values = json.loads(action.save(tmp_path / "click.json").read_text("utf-8"))
    assert values == {
        "kind": "click",
        "x": 480,
        "y": 540,
        "arguments": {"x": 0.25, "y": 0.5},
        "call": "click(x=0.25,y=0.5)",
        "thought": "",
        "image_size": [1920, 1080],
        "text": "click(x=0.25,y=0.5)",
        "confidence": 1.0,
        "sure": None,
    }
