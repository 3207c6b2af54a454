"""Scenes of the shapes world: splits, what is drawn where, masks, pixels and labels."""

from __future__ import annotations

import json
import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from ming_core.errors import BadConfig, UnknownName
from ming_recipes.nano.world.batch import ATTRIBUTES, CHARACTERS, cell_labels
from ming_recipes.nano.world.render import amodal_masks, boxes, instance_map, render, visible_masks
from ming_recipes.nano.world.scene import (
    SPLITS,
    Background,
    RenderedText,
    Scene,
    SceneObject,
    generator,
    sample_scene,
    scene_of,
    seed_of,
)
from ming_recipes.nano.world.vocabulary import (
    COLOR_RGB,
    COLORS,
    HELD_OUT,
    SHAPES,
    SIZE_RADIUS,
    SIZES,
)


def test_splits_share_no_seed_and_reject_what_lies_outside() -> None:
    assert len(SPLITS["train"]) == 2**31
    ends = sorted((seeds.start, seeds.stop) for seeds in SPLITS.values())
    assert all(a[1] <= b[0] for a, b in pairwise(ends))
    with pytest.raises(BadConfig, match="index 1000000 lies outside split 'val'"):
        seed_of("val", 1_000_000)
    with pytest.raises(UnknownName, match="did you mean 'train'"):
        seed_of("trian", 0)
    with pytest.raises(BadConfig, match="max_objects is 6"):
        scene_of("train", 0, max_objects=6)


def test_held_out_pairs_are_drawn_only_in_the_compositional_split() -> None:
    for split in ("train", "val", "test"):
        for index in range(2000):
            pairs = {(item.color, item.shape) for item in scene_of(split, index).objects}
            assert not pairs & HELD_OUT
    for index in range(1000):
        scene = scene_of("compositional", index)
        assert any((item.color, item.shape) in HELD_OUT for item in scene.objects)
    seen = {
        (item.color, item.shape)
        for index in range(2000)
        for item in scene_of("train", index).objects
    }
    assert len(seen) == 58


def test_scene_distribution() -> None:
    scenes = [scene_of("train", index) for index in range(3000)]
    counts = Counter(len(scene.objects) for scene in scenes)
    for count, share in zip(range(1, 6), (0.15, 0.25, 0.25, 0.20, 0.15), strict=True):
        assert counts[count] / 3000 == pytest.approx(share, abs=0.03)
    assert np.mean([scene.text is not None for scene in scenes]) == pytest.approx(0.3, abs=0.03)
    for scene in scenes[:500]:
        for i, a in enumerate(scene.objects):
            low, high = SIZE_RADIUS[a.size]
            assert low <= a.r <= high
            assert a.r <= a.x <= 63 - a.r + 0.01
            assert a.r <= a.y <= 63 - a.r + 0.01
            for b in scene.objects[:i]:
                assert math.hypot(a.x - b.x, a.y - b.y) >= 0.88 * (a.r + b.r)
    assert max(len(scene_of("train", index, max_objects=2).objects) for index in range(200)) == 2


_PLAIN = Background("gray", "plain", 5)


def _item(shape: str, color: str, x: float, y: float) -> SceneObject:
    return SceneObject(shape, color, "large", 12.0, x, y, 0.0, (0.0, 0.0, 0.0), 0.0)


# Area of each region in squared radii, by fine sampling of the definitions.
_AREA = {
    "circle": math.pi * 0.95**2,
    "square": (2 * 0.84) ** 2,
    "cross": 2 * (1.9 * 0.64) - 0.64**2,
    "ring": math.pi * (0.95**2 - 0.41**2),
    "star": 5 * 1.1 * 0.48 * math.sin(math.pi / 5),
    "triangle": (1.86 / 0.866 / 2) * 1.86,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_masks_have_the_area_and_place_of_the_shape(shape: str) -> None:
    item = _item(shape, "blue", 31.3, 30.6)
    mask = amodal_masks(Scene((item,), _PLAIN))[0]
    if shape in _AREA:
        assert mask.sum() / item.r**2 == pytest.approx(_AREA[shape], rel=0.04)
    rows, columns = np.nonzero(mask)
    x0, y0, x1, y1 = item.box
    slack = 2  # star tips reach 1.1 radii
    assert x0 - slack <= columns.min()
    assert columns.max() <= x1 + slack
    assert y0 - slack <= rows.min()
    assert rows.max() <= y1 + slack
    if shape != "moon":  # all others are symmetric from left to right
        assert columns.mean() == pytest.approx(item.x, abs=0.3)


def test_pixels_show_the_colour_where_the_mask_says() -> None:
    for index in range(100):
        scene = scene_of("val", index)
        image = render(scene)
        assert image.shape == (64, 64, 3)
        assert image.dtype == np.uint8
        masks = visible_masks(scene)
        for mask, item in zip(masks, scene.objects, strict=True):
            seen = image[mask].mean(0)
            np.testing.assert_allclose(seen, COLOR_RGB[item.color], atol=45)
            distances = {
                color: float(np.abs(seen - np.array(rgb)).sum()) for color, rgb in COLOR_RGB.items()
            }
            assert min(distances, key=distances.__getitem__) == item.color


def test_label_maps_agree() -> None:
    for index in range(200):
        scene = scene_of("test", index)
        ids, visible, whole = instance_map(scene), visible_masks(scene), amodal_masks(scene)
        assert not (visible & ~whole).any()
        np.testing.assert_array_equal(visible.any(0), ids >= 0)
        np.testing.assert_array_equal(visible.sum(0).max(initial=0) <= 1, True)
        assert (visible[-1] == whole[-1]).all()  # the last drawn lies on top
        for seen, full in zip(visible, whole, strict=True):
            assert seen.sum() >= 0.8 * full.sum()
        table = boxes(scene)
        assert table.shape == (len(scene.objects), 4)
        assert (table >= 0).all()
        assert (table <= 63).all()
        for (x0, y0, x1, y1), full in zip(table, whole, strict=True):
            inside = full[y0 : y1 + 1, x0 : x1 + 1].sum()
            assert inside >= 0.97 * full.sum()


def test_an_edited_scene_keeps_the_other_pixels() -> None:
    scene = Scene((_item("ring", "red", 15, 15), _item("star", "blue", 45, 45)), _PLAIN)
    edited = Scene((scene.objects[0],), _PLAIN)
    changed = (render(scene) != render(edited)).any(-1)
    assert changed[30:60, 30:60].sum() > 100
    assert not changed[:30].any()


def test_text_is_written_where_the_scene_says_and_objects_avoid_it() -> None:
    blank, written = Scene((), _PLAIN), Scene((), _PLAIN, RenderedText("R8", 20, 30))
    rows, columns = np.nonzero((render(blank) != render(written)).any(-1))
    assert (columns.min(), rows.min()) == (20, 30)
    assert 12 <= columns.max() - 20 <= 24
    assert 8 <= rows.max() - 30 <= 14
    for index in range(300):
        scene = scene_of("train", index)
        if scene.text is not None:
            bare = Scene((), scene.background)
            ink = (render(bare) != render(Scene((), scene.background, scene.text))).any(-1)
            assert not (ink & (instance_map(scene) >= 0)).any()


def test_cell_labels_point_at_the_objects() -> None:
    for index in range(200):
        scene = scene_of("train", index)
        labels = cell_labels(scene)
        assert (labels.shape >= 0).sum() in (len(scene.objects), len(scene.objects) - 1)
        top = scene.objects[-1]
        row, column = int((top.y + 0.5) // 8), int((top.x + 0.5) // 8)
        assert list(SHAPES)[labels.shape[row, column]] == top.shape
        assert list(COLORS)[labels.color[row, column]] == top.color
        assert list(SIZES)[labels.size[row, column]] == top.size
        dx, dy = labels.offset[row, column]
        assert (column + dx) * 8 - 0.5 == pytest.approx(top.x, abs=1e-4)
        assert (row + dy) * 8 - 0.5 == pytest.approx(top.y, abs=1e-4)
        assert labels.radius[row, column] == pytest.approx(top.r)
        coarse = cell_labels(scene, cells=4)
        names = {ATTRIBUTES[i] for i in np.flatnonzero(coarse.attributes.any((0, 1)))}
        assert names == {w for o in scene.objects for w in (o.shape, o.color, o.size)}
        read = [
            CHARACTERS[labels.character[tuple(at)]] for at in np.argwhere(labels.character >= 0)
        ]
        if scene.text is None:
            assert read == []
        else:
            assert set(read) <= set(scene.text.value)
            assert len(read) >= 1


def test_cell_labels_of_a_written_string() -> None:
    labels = cell_labels(Scene((), _PLAIN, RenderedText("A7", 4, 4)))
    read = {
        tuple(at): CHARACTERS[labels.character[tuple(at)]]
        for at in np.argwhere(labels.character >= 0)
    }
    assert read == {(1, 1): "A", (1, 2): "7"}


def test_scene_survives_json() -> None:
    for index in range(50):
        scene = scene_of("test", index)
        back = Scene.from_dict(json.loads(json.dumps(scene.to_dict())))
        assert back == scene
        np.testing.assert_array_equal(render(back), render(scene))
    with pytest.raises(BadConfig, match="cannot be read"):
        Scene.from_dict({"objects": []})


def test_sample_scene_draws_from_the_given_generator() -> None:
    first, second = generator(1, 0), generator(1, 0)
    assert [sample_scene(first) for _ in range(5)] == [sample_scene(second) for _ in range(5)]
