"""Answers with reasoning: the tags of all releases, lost tags, boxed results."""

from __future__ import annotations

from pathlib import Path

import pytest

from ming_core.chat.thinking import Reasoned, last_boxed, parse_thinking, split_stream
from ming_core.engine.answers import Answer

CASES = {
    "Lite 1.0": (
        "<think>\nOne, two.\n</think>\n<answer>\\boxed{C}</answer>\n\n",
        Reasoned("One, two.", "\\boxed{C}", "C"),
    ),
    "Lite 1.5": (
        "<thinking>One.</thinking>\n<answer>It is \\boxed{\\frac{1}{2}}.</answer>",
        Reasoned("One.", "It is \\boxed{\\frac{1}{2}}.", "\\frac{1}{2}"),
    ),
    "Flash": ("<think>\nOne.\n</think>\n\nTwo shapes.", Reasoned("One.", "Two shapes.", None)),
    "plain": ("Two shapes.", Reasoned(None, "Two shapes.", None)),
    "empty": ("", Reasoned(None, "", None)),
    "empty reasoning": ("<think></think>Two.", Reasoned("", "Two.", None)),
    "no reasoning": ("<answer>Two.</answer>", Reasoned(None, "Two.", None)),
    "opening tag lost": ("One.</think>Two.", Reasoned("One.", "Two.", None)),
    "answer not closed": ("<think>One.</think><answer>Two", Reasoned("One.", "Two", None)),
    "reasoning not closed": (
        "<thinking>One.\n<answer>Two.</answer>",
        Reasoned("One.", "Two.", None),
    ),
    "budget ran out": ("<think>One, two, thr", Reasoned("One, two, thr", "", None)),
    "tags mixed": ("<think>One.</thinking>Two.", Reasoned("One.", "Two.", None)),
    "two answers": (
        "<think>1</think><answer>A</answer> or <answer>B</answer>.",
        Reasoned("1", "B", None),
    ),
    "answer named while thinking": (
        "<think>The <answer> tag comes later.</think><answer>Two.</answer>",
        Reasoned("The <answer> tag comes later.", "Two.", None),
    ),
    "about tags": (
        "Write <think>why</think> and <answer>what</answer>.",
        Reasoned(None, "Write <think>why</think> and <answer>what</answer>.", None),
    ),
    "box in the reasoning only": (
        "<think>\\boxed{1}</think>Two.",
        Reasoned("\\boxed{1}", "Two.", None),
    ),
}


@pytest.mark.parametrize(("text", "expected"), CASES.values(), ids=CASES)
def test_parts_of_an_answer(text: str, expected: Reasoned) -> None:
    assert parse_thinking(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{C}", "C"),
        (r"\boxed{ 12 } and \boxed {34}", "34"),
        (r"$\boxed{\left\{ x \mid x > {1} \right\}}$", r"\left\{ x \mid x > {1} \right\}"),
        (r"\boxed{\}}", r"\}"),
        (r"\boxed{a{b{c}}}", "a{b{c}}"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{2", None),
        (r"} \boxed{2}", "2"),
        (r"\boxed{1 \boxed{2}", "2"),
        (r"\boxed{1 \boxed{2}}", r"1 \boxed{2}"),
        ("\\boxed{2\\", None),
        (r"\boxed{}", ""),
        ("boxed{2}", None),
    ],
)
def test_the_last_complete_box(text: str, expected: str | None) -> None:
    assert last_boxed(text) == expected


def test_a_long_answer_of_open_tags_is_read_in_time() -> None:
    """A model that loops must not make the parser slow: 200,000 characters in well under 5 s."""
    assert parse_thinking("<think>" * 30_000).answer == ""
    assert parse_thinking("\\boxed{" * 30_000).boxed is None


def test_an_answer_shows_and_saves_what_follows_the_reasoning(tmp_path: Path) -> None:
    raw = "<think>一、二。</think>\\boxed{2}"
    answer = Answer(raw, 9, True)
    assert str(answer) == answer.answer == "\\boxed{2}"
    assert (answer.text, answer.thinking, answer.boxed) == (raw, "一、二。", "2")
    assert answer.to_dict() == {
        "text": raw,
        "answer": "\\boxed{2}",
        "thinking": "一、二。",
        "boxed": "2",
        "tokens": 9,
        "stopped": True,
        "repeated": False,
        "confidence": 1.0,
        "sure": None,
    }
    assert answer.save(tmp_path / "a.txt").read_text("utf-8") == "\\boxed{2}\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_stream_is_split_however_it_is_cut(size: int) -> None:
    text = "<thinking>1 < 2, a<b</thinking>\n<answer>x < <b>y</b></answer>"
    pieces = [text[i : i + size] for i in range(0, len(text), size)]
    split = list(split_stream(pieces))
    assert "".join(text for thinking, text in split if thinking) == "1 < 2, a<b"
    assert "".join(text for thinking, text in split if not thinking) == "\nx < <b>y</b>"
    assert all(text for _, text in split)
    assert list(split_stream(["a ", "<thin"])) == [(False, "a "), (False, "<thin")]
