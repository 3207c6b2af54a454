"""Places and answers are right in pictures and videos of any shape, not only in square ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ming_core.api import load
from ming_recipes.nano.scores.drawings import SIZES, scores, video_scores

PAGE = Path(__file__).parents[2] / "docs/images/page.png"


@pytest.mark.parametrize("size", SIZES[2:], ids=str)
def test_nano_in_pictures_that_are_not_square(size: tuple[int, int]) -> None:
    shares = scores(load("nano", device="cpu"), *size, drawings=8)
    assert shares.keys() == {"boxes", "clicks", "questions"}
    assert min(shares.values()) >= 0.9, shares


@pytest.mark.parametrize("size", [(320, 180), (120, 320)], ids=str)
def test_nano_in_videos_that_are_not_square(size: tuple[int, int]) -> None:
    assert video_scores(load("nano", device="cpu"), *size, videos=5) >= 0.8


def test_the_page_of_the_readme() -> None:
    """Each of its four shapes is clicked."""
    nano = load("nano", device="cpu")
    centres = {
        "red star": (160, 150),
        "yellow circle": (475, 165),
        "green square": (180, 470),
        "purple cross": (485, 475),
    }
    for name, (x, y) in centres.items():
        action = nano.click(PAGE, name)
        assert abs(action.x - x) <= 50
        assert abs(action.y - y) <= 50
