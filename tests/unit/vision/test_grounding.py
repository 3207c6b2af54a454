"""Boxes in answers: the published conventions, nano's, captions, and answers of no use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ming_core.errors import BadMedia
from ming_vision.drawing import check_picture_name
from ming_vision.grounding import Box, Grounding, parse_boxes
from ming_vision.image import open_image
from ming_vision.square import Place

CAPTION = (
    'There are a <boxes alt="cat" bbox="[0, 366, 431, 788]">cat</boxes> and a '
    '<boxes alt="dog" bbox="[400, 129, 999, 830]">dog</boxes> on the grass.'
)


def test_thousandths_become_pixels_of_each_side() -> None:
    """The published answer `[0, 608, 100, 923]`, in a picture of 2000 x 500."""
    (box,) = parse_boxes("[0, 608, 100, 923]", (2000, 500), "Shih Tzu")
    assert box.corners == pytest.approx((0, 304, 200, 461.5))
    assert box.label == "Shih Tzu"
    assert box.centre == pytest.approx((100, 382.75))


def test_a_caption_has_labelled_boxes() -> None:
    cat, dog = parse_boxes(CAPTION, (1000, 100), "ignored")
    assert (cat.label, dog.label) == ("cat", "dog")
    assert cat.corners == pytest.approx((0, 36.6, 431, 78.8))
    assert dog.corners == pytest.approx((400, 12.9, 999, 83))
    found = Grounding((cat, dog), CAPTION, Image.new("RGB", (1000, 100)))
    assert found.caption == "There are a cat and a dog on the grass."


@pytest.mark.parametrize(
    ("tag", "labels"),
    [
        ("<boxes bbox='[1, 2, 3, 4]' alt='cat'>it</boxes>", ["cat"]),
        ('<boxes bbox="[1, 2, 3, 4]">two cats</boxes>', ["two cats"]),
        ('<boxes alt="cats" bbox="[[1, 2, 3, 4], [5, 6, 7, 8]]">cats</boxes>', ["cats", "cats"]),
        ('<boxes alt="cat" bbox="[1, 2, 3, 4]">cat and then the budget', ["cat"]),
        ('<boxes bbox="[1, 2, 3, 4]">cat and then the budget', [""]),
        ('<boxes alt="a" bbox="[1, 2, 3, 4]">a<boxes alt="b" bbox="[1, 2, 3, 4]">b', ["a", "b"]),
    ],
)
def test_tags_written_in_other_ways(tag: str, labels: list[str]) -> None:
    assert [box.label for box in parse_boxes(tag, (1000, 1000))] == labels


def test_a_plain_box_includes_its_last_pixels() -> None:
    """Nano counts pixels of a canvas of 64; 63 is the last column, its right edge is 64."""
    whole, one = parse_boxes("00 00 63 63; 10 20 10 20", (640, 320), "x", 64, "plain")
    assert whole.corners == (0, 0, 640, 320)
    assert one.corners == (100, 100, 110, 105)


def test_thousandths_in_wide_and_tall_pictures() -> None:
    """Whatever size a picture is brought to, the numbers are shares of its own sides."""
    for size in ((1920, 1080), (480, 1280), (640, 480), (4000, 100)):
        (box,) = parse_boxes("[250, 500, 750, 1000]", size)
        width, height = size
        assert box.corners == (width / 4, height / 2, width * 3 / 4, height)


def test_boxes_of_a_canvas_that_the_picture_does_not_fill() -> None:
    """A picture of 640 x 160 in the middle half of a canvas of 64 x 64."""
    place = Place(0, 0.25, 1, 0.5)
    one, cut = parse_boxes("16 24 31 39; 0 0 63 31", (640, 160), "x", 64, "plain", place)
    assert one.corners == (160, 40, 320, 120)
    assert cut.corners == (0, 0, 640, 80)  # what lies beside the picture is cut off
    assert parse_boxes("0 0 63 10", (640, 160), "x", 64, "plain", place) == ()


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("The star is on the left.", 0),
        ("[1, 2, 3]", 0),
        ("[1, 2, 3, 4, 5]", 0),
        ("[0.1, 0.2, 0.3, 0.4]", 0),
        ("[-5, 2, 3, 4]", 0),
        ("[10, 10, 1200, 900]", 0),
        ("[10, 10, 10, 900]", 0),
        ("[10, 20, 30, 1000]", 1),
        ("(1,2,3,4) and [ 5 , 6 , 7 , 8 ]", 2),
        ("[300, 400, 100, 200]", 1),
        ('<boxes alt="cat">cat</boxes> at [1, 2, 3, 4]', 1),
        ("1 2 3 4", 0),
    ],
)
def test_which_numbers_are_a_box(text: str, count: int) -> None:
    boxes = parse_boxes(text, (1000, 1000))
    assert len(boxes) == count
    assert all(box.x0 < box.x1 and box.y0 < box.y1 for box in boxes)


@pytest.mark.parametrize("text", ["1.5 2 3 4", "1 2 3 4.5", "70 0 80 10", "5 5 3"])
def test_which_plain_numbers_are_no_box(text: str) -> None:
    assert parse_boxes(text, (64, 64), "", 64, "plain") == ()


def test_overlap() -> None:
    box = Box(0, 0, 10, 10)
    assert box.iou(Box(0, 0, 10, 10)) == 1
    assert box.iou(Box(5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert box.iou(Box(10, 0, 20, 10)) == 0
    assert box.iou(Box(12, 12, 20, 20)) == 0


def grey(width: int = 200, height: int = 100) -> Image.Image:
    return Image.new("RGB", (width, height), (128, 128, 128))


def test_drawing_marks_the_edges_and_nothing_far_away() -> None:
    picture = grey()
    drawn = np.asarray(Grounding((Box(50, 40, 150, 90, "星"),), "", picture).draw()).astype(int)
    changed = (drawn != 128).any(-1)
    assert changed[40, 60:150].all()
    assert changed[90, 50:150].all()
    assert changed[45:90, 50].all()
    assert changed[45:90, 150].all()
    assert not changed[60:80, 80:140].any()
    assert not changed[:, :49].any()
    assert (np.asarray(picture) == 128).all()  # the picture itself stays as it was


@pytest.mark.parametrize("box", [(0, 0, 200, 100), (-5, -5, 500, 500), (199, 99, 200, 100)])
def test_drawing_at_the_border(box: tuple[float, float, float, float]) -> None:
    drawn = Grounding((Box(*box, "a long label"), Box(*box)), "", grey()).draw()
    assert drawn.size == (200, 100)
    assert (np.asarray(drawn) != 128).any()


def test_saving(tmp_path: Path) -> None:
    found = Grounding((Box(10.04, 10, 50, 60, "星"),), "raw", grey())
    assert open_image(found.save(tmp_path / "boxes.png")).size == (200, 100)
    values = json.loads(found.save(tmp_path / "boxes.json").read_text("utf-8"))
    assert values == found.to_dict()
    assert values == {
        "boxes": [{"label": "星", "box": [10.0, 10, 50, 60]}],
        "image_size": [200, 100],
        "text": "raw",
        "confidence": 1.0,
        "sure": None,
    }
    with pytest.raises(BadMedia, match=r"cannot write '.*boxes.txt' as a picture; end its name in"):
        found.save(tmp_path / "boxes.txt")
    with (tmp_path / "boxes.png").open("r+b") as handle:
        found.save(f"/dev/fd/{handle.fileno()}")  # its name tells no format
    assert sorted(p.name for p in tmp_path.iterdir()) == ["boxes.json", "boxes.png"]


@pytest.mark.parametrize("size", [(1920, 200), (200, 1920), (4000, 60)])
def test_boxes_on_wide_and_tall_pictures(size: tuple[int, int]) -> None:
    box = Box(size[0] / 2, size[1] / 2, size[0] - 2, size[1] - 2, "星")
    drawn = np.asarray(Grounding((box,), "", grey(*size)).draw()).astype(int)
    changed = np.argwhere((drawn != 128).any(-1))
    assert drawn.shape == (size[1], size[0], 3)
    assert changed[:, 1].max() == pytest.approx(box.x1, abs=2)
    assert changed[:, 0].max() == pytest.approx(box.y1, abs=2)
    assert (drawn[: size[1] // 4, : size[0] // 4] == 128).all()


def test_boxes_of_a_picture_that_was_decoded_small() -> None:
    small = Image.new("RGB", (200, 80), (128, 128, 128))
    small.info["ming_full_size"] = (400, 160)
    found = Grounding((Box(200, 80, 398, 158),), "", small)
    assert found.to_dict()["image_size"] == [400, 160]
    changed = np.argwhere((np.asarray(found.draw()).astype(int) != 128).any(-1))
    assert changed.min(0) == pytest.approx((40, 100), abs=1)
    assert changed.max(0) == pytest.approx((79, 199), abs=1)


def test_formats_of_a_drawn_picture(tmp_path: Path) -> None:
    found = Grounding((), "", grey())
    for suffix in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".PNG"):
        assert open_image(found.save(tmp_path / f"a{suffix}")).size == (200, 100)
        check_picture_name(tmp_path / f"a{suffix}")
    check_picture_name("a.json")
    for name in ("a.docx", "a.pdf", "a.eps", "a"):
        with pytest.raises(BadMedia, match=r"end its name in \.png, \.jpg, .* or \.bmp"):
            check_picture_name(name)
