"""Augmentation of pictures."""

from __future__ import annotations

import numpy as np

from ming_core.media import Audio, Image
from ming_recipes.training.records import Record
from ming_recipes.understanding.pictures import changed_picture


def changed(picture: np.ndarray, seed: int) -> np.ndarray:
    found = changed_picture(Image(picture), Record("1", ()), np.random.default_rng(seed))
    assert isinstance(found, Image)
    return found.source


def test_picture_keeps_its_size_and_most_of_itself() -> None:
    picture = np.full((48, 80, 3), 40, dtype=np.uint8)
    picture[16:32, 30:50] = (200, 60, 60)
    results = [changed(picture, seed) for seed in range(20)]
    for result in results:
        assert result.shape == picture.shape
        assert result.dtype == np.uint8
        red = (result[..., 0] > 120).mean()  # the square is still there, larger or smaller
        assert 0.5 < red / (16 * 20 / (48 * 80)) < 1.8
        assert abs(float(np.median(result)) - 40) < 10  # and the edges hold no black
    assert len({result.tobytes() for result in results}) == 20
    assert np.array_equal(changed(picture, 3), results[3])


def test_shapes_do_not_move_on_the_whole() -> None:
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[28:36, 28:36] = 255
    places = []
    for seed in range(100):
        rows, columns = np.nonzero(changed(picture, seed)[..., 0] > 100)
        places.append((rows.mean(), columns.mean()))
    middle, spread = np.mean(places, axis=0), np.std(places, axis=0)
    assert abs(middle - 31.5).max() < 1.5
    assert (spread > 2).all()


def test_other_media_stay_as_they_are() -> None:
    sound = Audio("a.wav")
    assert changed_picture(sound, Record("1", ()), np.random.default_rng(0)) is sound
